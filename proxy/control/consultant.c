// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/consultant.h"

#include <mongoc/mongoc.h>

enum { MAX_TIME_MS = 1500 }; // the server gives up before we do

void consult_run(struct errand *errand, struct errands *errands, const atomic_bool *dismissed)
{
    struct consult *it = (struct consult *)errand;
    struct interview interview;
    bson_error_t error;
    mongoc_client_t *client = errands_client(errands, it->server, &error);
    it->reached = client && interview_begin(&interview, client, it->server, MAX_TIME_MS);
    if (it->reached) {
        interview.dismissed = dismissed;
        consult(&interview, it->shape[0] ? it->shape : NULL, it->threshold_us, &it->found);
        interview_end(&interview);
    }
}
