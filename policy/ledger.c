// SPDX-License-Identifier: Apache-2.0

#include "policy/ledger.h"

#include <assert.h>

#include "policy/defect.h"

#define FIRST_PAUSE_US INT64_C(100000)
#define LONGEST_PAUSE_US INT64_C(5000000)

bool ledger_may_open(const struct ledger *ledger, int64_t now_us)
{
    return ledger->opening + ledger->open < ledger->cap && ledger->opening < ledger->max_opening &&
           now_us >= ledger->retry_us;
}

bool ledger_open(struct ledger *ledger, int64_t now_us)
{
    if (!ledger_may_open(ledger, now_us)) {
        return false;
    }
    ledger->opening += !DEFECT(CAP_LATE);
    return true;
}

void ledger_opened(struct ledger *ledger)
{
    assert(ledger->opening > 0 || DEFECT(CAP_LATE));
    ledger->opening -= !DEFECT(CAP_LATE);
    ledger->open++;
    ledger->failures = 0;
    ledger->retry_us = 0;
}

static int64_t pause_us(int failures)
{
    int64_t pause = FIRST_PAUSE_US;
    for (int i = 1; i < failures && pause < LONGEST_PAUSE_US; i++) {
        pause *= 2;
    }
    return pause < LONGEST_PAUSE_US ? pause : LONGEST_PAUSE_US;
}

void ledger_dropped(struct ledger *ledger)
{
    assert(ledger->opening > 0 || DEFECT(CAP_LATE));
    ledger->opening -= !DEFECT(CAP_LATE);
}

void ledger_failed(struct ledger *ledger, double jitter, int64_t now_us)
{
    assert(jitter >= 0 && jitter <= 1);
    ledger_dropped(ledger);
    ledger->failures += ledger->failures < INT32_MAX;
    int64_t pause = pause_us(ledger->failures);
    ledger->retry_us = now_us + pause - (int64_t)(jitter * (double)pause / 2);
}

void ledger_closed(struct ledger *ledger)
{
    assert(ledger->open > 0);
    ledger->open--;
}

void ledger_forgive(struct ledger *ledger)
{
    ledger->failures = 0;
    ledger->retry_us = 0;
}
