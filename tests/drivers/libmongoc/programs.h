// SPDX-License-Identifier: Apache-2.0

#ifndef PROGRAMS_H
#define PROGRAMS_H

// What a driver must be able to do: runs all checks, one after the other, and prints a line for
// each.
void checks_run(void);

// What the driver makes of being refused; the steps are told apart by lines of standard input.
void shedding_run(void);

#endif
