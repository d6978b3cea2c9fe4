// SPDX-License-Identifier: Apache-2.0
//
// weir plan: whether an app's connection pools fit a deployment, from when on they do not, and
// which pool, cap or tier would. Arithmetic alone: it asks no server.

#ifndef PROXY_ADMIN_PLAN_H
#define PROXY_ADMIN_PLAN_H

// Runs `weir plan` with the arguments that follow the word; prints to standard output. Returns the
// exit status: 0 if what was described fits, 1 if not, 2 if it cannot be told.
int plan_main(int argc, char **argv);

// How many connections a server of an Atlas tier takes; 0: there is no such tier.
long plan_limit_of_tier(const char *name);

// The smallest tier whose servers take exactly so many; NULL: none.
const char *plan_tier_of_limit(long limit);

#endif
