// SPDX-License-Identifier: Apache-2.0
//
// Ends an operation on its server: an errand, which may block for seconds.
//
//      kill -> $currentOp: the operation of that connection -> killOp
//                  \__ a server that has none of it _______-> killSessions

#ifndef PROXY_CONTROL_KILLER_H
#define PROXY_CONTROL_KILLER_H

#include "proxy/control/errands.h"
#include "proxy/kill.h"

// Has the order carried out.
void killer_add(struct errands *errands, struct kill *kill);

#endif
