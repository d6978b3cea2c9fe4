// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/consultant.h"

#include <mongoc/mongoc.h>

enum {
    CONNECT_MS = 2000,
    MAX_TIME_MS = 1500, // the server gives up before we do
};

// A client with a picture of the deployment of its own. In that of the pool, which is discovery's,
// a connection that a full server refuses would make the server unknown: to all of weir.
static mongoc_client_t *own_client(const mongoc_client_t *client)
{
    mongoc_uri_t *uri = mongoc_uri_copy(mongoc_client_get_uri(client));
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, CONNECT_MS);
    mongoc_client_t *own = mongoc_client_new_from_uri(uri);
    mongoc_uri_destroy(uri);
    return own;
}

// Has it look for the deployment's servers.
static void look_round(mongoc_client_t *client)
{
    bson_error_t error;
    mongoc_read_prefs_t *any = mongoc_read_prefs_new(MONGOC_READ_NEAREST);
    mongoc_server_description_t *found = mongoc_client_select_server(client, false, any, &error);
    if (found) {
        mongoc_server_description_destroy(found);
    }
    mongoc_read_prefs_destroy(any);
}

void consult_run(struct errand *errand, mongoc_client_t *client, const atomic_bool *dismissed)
{
    struct consult *it = (struct consult *)errand;
    struct interview interview;
    mongoc_client_t *own = own_client(client);
    if (own) {
        look_round(own);
        it->reached = interview_begin(&interview, own, it->server, MAX_TIME_MS);
    }
    if (it->reached) {
        interview.dismissed = dismissed;
        consult(&interview, it->shape[0] ? it->shape : NULL, it->threshold_us, &it->found);
        interview_end(&interview);
    }
    if (own) {
        mongoc_client_destroy(own);
    }
}
