// SPDX-License-Identifier: Apache-2.0
//
// Prints docs/incidents.md: the table of verdicts against truths.

#include <stdio.h>

#include "incidents.h"

static void print_truth(const struct incident *incident)
{
    printf("| %s | %s", incident->name, cause_text(incident->truth));
    if (incident->also != incident->truth) {
        printf(" and %s", cause_text(incident->also));
    }
}

static void print_verdict(const struct verdict *verdict)
{
    const enum cause *order = verdict->order;
    printf(" | %s %.2f", verdict_is_clear(verdict) ? cause_text(order[0]) : "unclear",
           verdict->scores[order[0]]);
}

static const char introduction[] =
    "# What the verdict says of known incidents\n"
    "\n"
    "<!-- Made by `make storms` from tests/incidents/. -->\n"
    "\n"
    "Incidents whose cause is known, played in the simulated world of [the storms](storms.md) "
    "behind weir's\ngate, and the verdict (policy/verdict.h) on the longest exhaustion of each: "
    "the best cause with its score,\n0 to 1. Below 0.25 it is called unclear. In the first second "
    "rates and times say nothing yet: then a shape "
    "is the\ncause only if nearly all that is in flight is of it.\n"
    "\n"
    "The thresholds of the verdict were set with these incidents in view, so the table shows that "
    "the causes can\nbe told apart by what weir sees, not how often a verdict is right in the "
    "field. What that world does not\nhave (how many connections apps have and open, what they "
    "leave open) is told to the recorder by the script.\n"
    "\n"
    "tests/drivers/test_incidents.py plays one of each cause on real sockets: a spike, a scaled "
    "app, "
    "a slow\nserver, a storm of connections on a real server (SecantusDB); a server that dies, one "
    "at its own limit and a\nleak behind a load balancer on the stub set, which alone does these "
    "to "
    "order; test_exhaustions.py a slow\nshape. Each must be named first there, of a single event "
    "of "
    "some seconds: no figures are kept of that.\n"
    "\n";

int main(void)
{
    fputs(introduction, stdout);
    printf(
        "| incident | truth | at the begin | after 10 s | at the end | runner-up | exhausted for "
        "|\n|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < incidents_count; i++) {
        struct judgement judgement;
        incident_play(&incidents[i], 1, &judgement);
        const struct verdict *final = &judgement.final;
        print_truth(&incidents[i]);
        print_verdict(&judgement.begin);
        print_verdict(&judgement.early);
        print_verdict(final);
        printf(" | %s %.2f | %.0f s |\n", cause_text(final->order[1]),
               final->scores[final->order[1]], judgement.lasted_s);
    }
    return 0;
}
