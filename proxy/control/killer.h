// SPDX-License-Identifier: Apache-2.0
//
// Ends operations on their servers, by libmongoc: one thread, one connection to each server, one
// operation after the other. It may block for seconds where control must not.
//
//      killer_add -> queue -> $currentOp: the operation of that connection -> killOp
//                                 \__ a server that has none of it _________-> killSessions

#ifndef PROXY_CONTROL_KILLER_H
#define PROXY_CONTROL_KILLER_H

#include <stdint.h>

#include "proxy/control/control.h"

struct discovery;
struct killer;

struct killer *killer_new(void);

// Takes the order. When too many wait it is dropped. Any thread.
void killer_add(struct killer *killer, struct kill *kill);

// Starts the thread, which uses the discovery's connections until killer_stop.
void killer_start(struct killer *killer, struct discovery *discovery);

// Ends the thread, if there is one: blocks for as long as the command that it is at.
void killer_stop(struct killer *killer);
void killer_free(struct killer *killer); // stopped, or never started

#endif
