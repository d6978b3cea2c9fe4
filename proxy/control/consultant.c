// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/consultant.h"

enum { MAX_TIME_MS = 1500 }; // the server gives up before we do

void consult_run(struct errand *errand, struct _mongoc_client_t *client,
                 const atomic_bool *dismissed)
{
    struct consult *it = (struct consult *)errand;
    struct interview interview;
    it->reached = interview_begin(&interview, client, it->server, MAX_TIME_MS);
    if (it->reached) {
        interview.dismissed = dismissed;
        consult(&interview, it->shape[0] ? it->shape : NULL, it->threshold_us, &it->found);
        interview_end(&interview);
    }
}
