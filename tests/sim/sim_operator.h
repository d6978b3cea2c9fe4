// SPDX-License-Identifier: Apache-2.0

#ifndef SIM_OPERATOR_H
#define SIM_OPERATOR_H

#include "tests/sim/sim_world.h"

void operator_begin(void);
void operator_rest(void); // what he has bounded is free again
void operator_finish(void);

// Whether he has asked for the end of such an operation, which has run for so long.
bool operator_may_end(const struct op *op, int64_t ran_us);

// Of what he had refused, at most so many.
uint64_t operator_refused(void);

bool operator_pauses(void);
void operator_check(const struct server *server);

#endif
