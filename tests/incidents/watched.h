// SPDX-License-Identifier: Apache-2.0
//
// What is inside of the storms' way_weir.

#ifndef INCIDENTS_WATCHED_H
#define INCIDENTS_WATCHED_H

#include "policy/gate.h"

struct gate *watched_gate(const void *weir);
struct shapes *watched_shapes(const void *weir);

#endif
