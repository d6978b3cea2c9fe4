// SPDX-License-Identifier: Apache-2.0

#include "proxy/trouble.h"

#include <stdio.h>
#include <time.h>

static void say_away(const char *what, const struct server_failure *failure,
                     char ret_says[TROUBLE_BYTES])
{
    char when[48] = "";
    struct tm utc;
    time_t since = (time_t)failure->since_s;
    if (since > 0 && gmtime_r(&since, &utc)) {
        strftime(when, sizeof when, " since %Y-%m-%d %H:%M:%S UTC", &utc);
    }
    snprintf(ret_says, TROUBLE_BYTES, "%s%s%s%s", what, when, failure->reason[0] ? ": " : "",
             failure->reason);
}

static void say_exhausted(const struct gate_counts *gate, char ret_says[TROUBLE_BYTES])
{
    if (gate->in_flight >= gate->limit) {
        snprintf(ret_says, TROUBLE_BYTES, "all permits are held (%d of %d)", gate->in_flight,
                 gate->limit);
    } else if (gate->in_flight_slow >= gate->slow_limit) {
        snprintf(ret_says, TROUBLE_BYTES, "slow lane full (%d of %d)", gate->in_flight_slow,
                 gate->slow_limit);
    } else {
        snprintf(ret_says, TROUBLE_BYTES, "requests waited or were refused a moment ago");
    }
}

void trouble_say(const struct server_counts *counts, char ret_says[TROUBLE_BYTES])
{
    ret_says[0] = '\0';
    if (!counts->known && counts->away.reason[0]) {
        say_away("cannot be reached", &counts->away, ret_says);
    } else if (counts->failing) {
        say_away("no connection can be opened", &counts->failure, ret_says);
    } else if (counts->exhausted) {
        say_exhausted(&counts->gate, ret_says);
    }
}
