// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/direct.h"

#include <mongoc/mongoc.h>
#include <stdio.h>
#include <strings.h>

enum { CONNECT_MS = 2000 };

static bool is_of_srv(const char *option)
{
    return strncasecmp(option, "srv", 3) == 0;
}

static void copy_options(const mongoc_uri_t *from, mongoc_uri_t *to)
{
    bson_iter_t iter;
    for (bson_iter_init(&iter, mongoc_uri_get_options(from)); bson_iter_next(&iter);) {
        const char *option = bson_iter_key(&iter);
        if (is_of_srv(option)) {
            continue; // the names have been looked up
        }
        if (BSON_ITER_HOLDS_UTF8(&iter)) {
            mongoc_uri_set_option_as_utf8(to, option, bson_iter_utf8(&iter, NULL));
        } else if (BSON_ITER_HOLDS_BOOL(&iter)) {
            mongoc_uri_set_option_as_bool(to, option, bson_iter_bool(&iter));
        } else if (BSON_ITER_HOLDS_INT32(&iter)) {
            mongoc_uri_set_option_as_int32(to, option, bson_iter_int32(&iter));
        } else if (BSON_ITER_HOLDS_INT64(&iter)) {
            mongoc_uri_set_option_as_int64(to, option, bson_iter_int64(&iter));
        }
    }
}

static void copy_credential(const mongoc_uri_t *from, mongoc_uri_t *to)
{
    bson_t properties;
    if (mongoc_uri_get_username(from)) {
        mongoc_uri_set_username(to, mongoc_uri_get_username(from));
    }
    if (mongoc_uri_get_password(from)) {
        mongoc_uri_set_password(to, mongoc_uri_get_password(from));
    }
    if (mongoc_uri_get_auth_mechanism(from)) {
        mongoc_uri_set_auth_mechanism(to, mongoc_uri_get_auth_mechanism(from));
    }
    if (mongoc_uri_get_mechanism_properties(from, &properties)) {
        mongoc_uri_set_mechanism_properties(to, &properties);
    }
    mongoc_uri_set_auth_source(to, mongoc_uri_get_auth_source(from));
}

static mongoc_uri_t *uri_of(const mongoc_uri_t *deployment, const char *server,
                            bson_error_t *ret_error)
{
    char text[320];
    snprintf(text, sizeof text, "mongodb://%s/", server);
    mongoc_uri_t *uri = mongoc_uri_new_with_error(text, ret_error);
    if (!uri) {
        return NULL;
    }
    copy_options(deployment, uri);
    copy_credential(deployment, uri);
    mongoc_uri_set_option_as_bool(
        uri, MONGOC_URI_DIRECTCONNECTION,
        !mongoc_uri_get_option_as_bool(deployment, MONGOC_URI_LOADBALANCED, false));
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, CONNECT_MS);
    return uri;
}

static bool connects(mongoc_client_t *client, bson_error_t *ret_error)
{
    mongoc_read_prefs_t *any = mongoc_read_prefs_new(MONGOC_READ_NEAREST);
    mongoc_server_description_t *found = mongoc_client_select_server(client, false, any, ret_error);
    mongoc_read_prefs_destroy(any);
    if (found) {
        mongoc_server_description_destroy(found);
    }
    return found;
}

bool direct_is_rejected(const bson_error_t *error)
{
    return error->domain == MONGOC_ERROR_SCRAM || (error->domain == MONGOC_ERROR_CLIENT &&
                                                   error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE);
}

mongoc_client_t *direct_open(const mongoc_uri_t *deployment, const char *server,
                             bson_error_t *ret_error)
{
    mongoc_uri_t *uri = uri_of(deployment, server, ret_error);
    mongoc_client_t *client = uri ? mongoc_client_new_from_uri(uri) : NULL;
    mongoc_uri_destroy(uri);
    if (client && !connects(client, ret_error)) {
        mongoc_client_destroy(client);
        client = NULL;
    }
    return client;
}
