// SPDX-License-Identifier: Apache-2.0

#include "policy/breaker.h"

static void pause(struct breaker *breaker, int64_t now_us)
{
    int64_t pause_us = breaker->is_open ? 2 * breaker->pause_us : BREAKER_PAUSE_FIRST_US;
    breaker->is_open = true;
    breaker->pause_us = pause_us < BREAKER_PAUSE_MOST_US ? pause_us : BREAKER_PAUSE_MOST_US;
    breaker->probe_us = now_us + breaker->pause_us;
}

bool breaker_failed(struct breaker *breaker, int64_t born_us, int64_t now_us)
{
    bool alone = now_us - breaker->last_us > BREAKER_FORGET_US;
    if (breaker->failures == 0 || (alone && !breaker->is_open)) {
        breaker->failures = 0;
        breaker->first_us = now_us;
    } else if (born_us < breaker->last_us) {
        return breaker->is_open;
    }
    breaker->failures += breaker->failures < BREAKER_FAILURES;
    breaker->last_us = now_us;
    if (breaker->is_open || (breaker->failures == BREAKER_FAILURES &&
                             now_us - breaker->first_us >= BREAKER_WINDOW_US)) {
        pause(breaker, now_us);
    }
    return breaker->is_open;
}

void breaker_trip(struct breaker *breaker, int64_t now_us)
{
    breaker->failures = BREAKER_FAILURES;
    breaker->last_us = now_us;
    pause(breaker, now_us);
}

bool breaker_succeeded(struct breaker *breaker)
{
    bool was_open = breaker->is_open;
    breaker->failures = 0;
    breaker->is_open = false;
    return was_open;
}

void breaker_hope(struct breaker *breaker, int64_t now_us)
{
    breaker->probe_us = now_us;
}

bool breaker_pass(struct breaker *breaker, int64_t now_us)
{
    if (!breaker->is_open) {
        return true;
    }
    bool may = now_us >= breaker->probe_us;
    if (may) {
        breaker->probe_us = now_us + breaker->pause_us;
    }
    return may;
}
