// SPDX-License-Identifier: Apache-2.0
//
// What the tests of policy/ share: cmocka with what it wants included before it, and seeded chance.

#ifndef TEST_POLICY_H
#define TEST_POLICY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/chance.h"

static inline bool chance_percent(struct chance *chance, int percent)
{
    return chance_below(chance, 100) < percent;
}

#endif
