// SPDX-License-Identifier: Apache-2.0

#include "tests/unit/wire_samples.h"

#include <stdio.h>
#include <stdlib.h>

#include "wire/frame.h"

#define LSID "'lsid': {'id': {'$binary': {'base64': 'ABEiM0RVZneImaq7zN3u/w==', 'subType': '04'}}}"
#define CLUSTER_TIME                                                                               \
    "'$clusterTime': {'clusterTime': {'$timestamp': {'t': 1764000000, 'i': 7}}, 'signature': "     \
    "{'hash': {'$binary': {'base64': 'AAAAAAAAAAAAAAAAAAAAAAAAAAA=', 'subType': '00'}}, "          \
    "'keyId': {'$numberLong': '7300000000000000001'}}}"
#define OPERATION_TIME "'operationTime': {'$timestamp': {'t': 1764000000, 'i': 7}}"
#define CLIENT                                                                                     \
    "'client': {'application': {'name': 'shop'}, 'driver': {'name': 'PyMongo|c', 'version': "      \
    "'4.20.0'}, 'os': {'type': 'Linux', 'name': 'Linux', 'architecture': 'x86_64', 'version': "    \
    "'6.1.0'}, 'platform': 'CPython 3.12.3.final.0'}"

#define FLAG_CHECKSUM 1u
#define FLAG_MORE_TO_COME 2u
#define FLAG_EXHAUST (1u << 16)
#define MOST_DOCUMENTS 4

struct recipe_sequence {
    const char *name;
    const char *documents[MOST_DOCUMENTS]; // NULL after the last
};

struct recipe {
    const char *name;
    enum sample_kind kind;
    uint32_t flags;
    bool body_last;
    const char *body;
    struct recipe_sequence sequences[2];
};

static const struct recipe recipes[] = {
    {"ping", SAMPLE_REQUEST, .body = "{'ping': 1, '$db': 'admin'}"},
    {"pymongo hello", SAMPLE_REQUEST,
     .body = "{'ismaster': 1, 'helloOk': true, 'backpressure': '2', " CLIENT ", 'compression': "
             "[], 'saslSupportedMechs': 'admin.root', '$db': 'admin'}"},
    {"load-balanced hello", SAMPLE_REQUEST,
     .body = "{'hello': 1, 'loadBalanced': true, " CLIENT ", '$db': 'admin'}"},
    {"awaitable hello", SAMPLE_REQUEST, FLAG_EXHAUST,
     .body = "{'hello': 1, 'topologyVersion': {'processId': {'$oid': "
             "'6570000000000000000000aa'}, 'counter': {'$numberLong': '4'}}, 'maxAwaitTimeMS': "
             "10000, '$db': 'admin'}"},
    {"node isMaster", SAMPLE_QUERY,
     .body = "{'ismaster': 1, 'helloOk': true, " CLIENT ", 'compression': ['none']}"},
    {"wrapped isMaster", SAMPLE_QUERY,
     .body = "{'$query': {'isMaster': 1}, '$readPreference': {'mode': 'secondaryPreferred'}}"},
    {"sasl start", SAMPLE_REQUEST,
     .body = "{'saslStart': 1, 'mechanism': 'SCRAM-SHA-256', 'payload': {'$binary': {'base64': "
             "'biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=', 'subType': '00'}}, "
             "'autoAuthorize': 1, 'options': {'skipEmptyExchange': true}, '$db': 'admin'}"},
    {"find", SAMPLE_REQUEST,
     .body = "{'find': 'orders', 'filter': {'status': 'new', 'createdAt': {'$gt': {'$date': "
             "'2025-11-01T00:00:00Z'}}}, 'sort': {'createdAt': -1}, 'limit': 20, 'batchSize': "
             "20, 'maxTimeMS': 1500, 'comment': 'list', " LSID ", " CLUSTER_TIME ", "
             "'$readPreference': {'mode': 'secondaryPreferred', 'tags': [{'dc': 'east'}, {}]}, "
             "'$db': 'shop'}"},
    {"simple find", SAMPLE_REQUEST,
     .body = "{'find': 'orders', 'filter': {'_id': {'$oid': '657000000000000000000001'}}, "
             "'limit': 1, 'singleBatch': true, " LSID ", '$db': 'shop'}"},
    {"get more", SAMPLE_REQUEST, FLAG_EXHAUST,
     .body = "{'getMore': {'$numberLong': '4611686018427387905'}, 'collection': 'orders', "
             "'batchSize': 100, " LSID ", " CLUSTER_TIME ", '$db': 'shop'}"},
    {"kill cursors", SAMPLE_REQUEST,
     .body = "{'killCursors': 'orders', 'cursors': [{'$numberLong': '4611686018427387905'}, "
             "{'$numberLong': '12'}], " LSID ", '$db': 'shop'}"},
    {"insert, sequence first", SAMPLE_REQUEST, .body_last = true,
     .body = "{'insert': 'orders', 'ordered': true, " LSID ", 'txnNumber': {'$numberLong': "
             "'3'}, 'writeConcern': {'w': 'majority'}, '$db': 'shop'}",
     .sequences = {{"documents",
                    {"{'_id': {'$oid': '657000000000000000000001'}, 'n': 1}",
                     "{'_id': {'$oid': '657000000000000000000002'}}"}}}},
    {"update", SAMPLE_REQUEST,
     .body = "{'update': 'orders', 'ordered': true, " LSID ", 'txnNumber': {'$numberLong': "
             "'4'}, '$db': 'shop'}",
     .sequences = {{"updates", {"{'q': {'_id': 1}, 'u': {'$inc': {'n': 1}}, 'multi': false}"}}}},
    {"bulk write", SAMPLE_REQUEST,
     .body = "{'bulkWrite': 1, 'errorsOnly': true, 'ordered': true, " LSID ", '$db': 'admin'}",
     .sequences = {{"ops",
                    {"{'insert': 0, 'document': {'_id': 1}}", "{'delete': 0, 'filter': {}}"}},
                   {"nsInfo", {"{'ns': 'shop.orders'}"}}}},
    {"unacknowledged insert", SAMPLE_REQUEST, FLAG_MORE_TO_COME,
     .body = "{'insert': 'log', 'ordered': true, 'writeConcern': {'w': 0}, '$db': 'shop'}",
     .sequences = {{"documents", {"{'_id': 1}"}}}},
    {"find and modify", SAMPLE_REQUEST,
     .body = "{'findAndModify': 'jobs', 'query': {'state': 'open'}, 'update': {'$set': "
             "{'state': 'taken'}}, 'new': true, " LSID ", 'txnNumber': {'$numberLong': '9'}, "
             "'$db': 'shop'}"},
    {"transaction begins", SAMPLE_REQUEST, .body_last = true,
     .body = "{'insert': 'orders', " LSID ", 'txnNumber': {'$numberLong': '5'}, "
             "'startTransaction': true, 'autocommit': false, 'readConcern': {'level': "
             "'snapshot'}, '$db': 'shop'}",
     .sequences = {{"documents", {"{'_id': 1}"}}}},
    {"transaction goes on", SAMPLE_REQUEST,
     .body = "{'count': 'orders', 'query': {}, " LSID ", 'txnNumber': {'$numberLong': '5'}, "
             "'autocommit': false, '$db': 'shop'}"},
    {"commit", SAMPLE_REQUEST,
     .body = "{'commitTransaction': 1, " LSID ", 'txnNumber': {'$numberLong': '5'}, "
             "'autocommit': false, 'writeConcern': {'w': 'majority', 'wtimeout': 10000}, '$db': "
             "'admin'}"},
    {"end sessions", SAMPLE_REQUEST,
     .body = "{'endSessions': [{'id': {'$binary': {'base64': 'ABEiM0RVZneImaq7zN3u/w==', "
             "'subType': '04'}}}], '$db': 'admin'}"},
    {"aggregate", SAMPLE_REQUEST,
     .body = "{'aggregate': 'orders', 'pipeline': [{'$match': {'a': 1}}, {'$group': {'_id': "
             "'$b', 'n': {'$sum': 1}}}], 'cursor': {}, " LSID ", '$db': 'shop'}"},
    {"aggregate out", SAMPLE_REQUEST,
     .body = "{'aggregate': 'orders', 'pipeline': [{'$match': {'a': 1}}, {'$out': 'copy'}], "
             "'cursor': {}, " LSID ", '$db': 'shop'}"},
    {"current operations", SAMPLE_REQUEST,
     .body = "{'aggregate': 1, 'pipeline': [{'$currentOp': {'allUsers': true}}], 'cursor': {}, "
             "'$db': 'admin'}"},
    {"explain", SAMPLE_REQUEST,
     .body = "{'explain': {'find': 'orders', 'filter': {'a': 1}}, 'verbosity': 'queryPlanner', "
             "'$db': 'shop'}"},
    {"every type", SAMPLE_REQUEST, FLAG_CHECKSUM,
     .body = "{'doThis': 1, 'double': 1.5, 'text': 'grün', 'inner': {'a': {'b': [1, 2, {}]}}, "
             "'bin': {'$binary': {'base64': 'AAEC', 'subType': '80'}}, 'old': {'$binary': "
             "{'base64': 'AAEC', 'subType': '02'}}, 'undef': {'$undefined': true}, 'oid': "
             "{'$oid': '6570000000000000000000ff'}, 'yes': true, 'date': {'$date': "
             "{'$numberLong': '0'}}, 'null': null, 're': {'$regularExpression': {'pattern': "
             "'^a.b$', 'options': 'im'}}, 'pointer': {'$dbPointer': {'$ref': 'db.c', '$id': "
             "{'$oid': '6570000000000000000000fe'}}}, 'code': {'$code': 'f()'}, 'symbol': "
             "{'$symbol': 's'}, 'scope': {'$code': 'g()', '$scope': {'x': {'y': 1}}}, 'int': 7, "
             "'ts': {'$timestamp': {'t': 1, 'i': 2}}, 'long': {'$numberLong': '9000000000'}, "
             "'dec': {'$numberDecimal': '1.5'}, 'min': {'$minKey': 1}, 'max': {'$maxKey': 1}, "
             "'': 'no key', '$db': 'shop'}"},

    {"reply ok", SAMPLE_REPLY, .body = "{'ok': 1.0}"},
    {"reply ok in a cluster", SAMPLE_REPLY,
     .body = "{'n': 1, 'ok': 1.0, " CLUSTER_TIME ", " OPERATION_TIME "}"},
    {"reply cursor", SAMPLE_REPLY,
     .body =
         "{'cursor': {'firstBatch': [{'_id': 1, 'code': 5}, {'_id': 2, 'ok': 0}], 'id': "
         "{'$numberLong': '4611686018427387905'}, 'ns': 'shop.orders'}, 'ok': 1.0, " CLUSTER_TIME
         ", " OPERATION_TIME "}"},
    {"reply cursor exhausted", SAMPLE_REPLY,
     .body = "{'cursor': {'nextBatch': [], 'id': {'$numberLong': '0'}, 'ns': 'shop.orders'}, "
             "'ok': 1.0}"},
    {"reply duplicate key", SAMPLE_REPLY,
     .body = "{'n': 0, 'writeErrors': [{'index': 0, 'code': 11000, 'keyPattern': {'_id': 1}, "
             "'errmsg': 'E11000 duplicate key error'}], 'ok': 1.0}"},
    {"reply not primary", SAMPLE_REPLY,
     .body = "{'topologyVersion': {'processId': {'$oid': '6570000000000000000000aa'}, "
             "'counter': {'$numberLong': '6'}}, 'ok': 0.0, 'errmsg': 'not primary', 'code': "
             "10107, 'codeName': 'NotWritablePrimary', 'errorLabels': ['RetryableWriteError', "
             "'NoWritesPerformed'], " CLUSTER_TIME ", " OPERATION_TIME "}"},
    {"reply write concern error", SAMPLE_REPLY,
     .body = "{'n': 1, 'writeConcernError': {'code': 91, 'codeName': 'ShutdownInProgress', "
             "'errmsg': 'shutting down', 'errInfo': {'writeConcern': {'w': 'majority', "
             "'wtimeout': 0}}}, 'errorLabels': ['RetryableWriteError'], 'ok': 1.0}"},
    {"reply overloaded", SAMPLE_REPLY, FLAG_CHECKSUM,
     .body = "{'ok': 0.0, 'errmsg': 'rate limit', 'code': 462, 'codeName': "
             "'IngressRequestRateLimitExceeded', 'errorLabels': ['SystemOverloadedError', "
             "'RetryableError', 'NoWritesPerformed', 'SomethingNew'], 'baseBackoffMS': "
             "{'$numberLong': '100'}}"},
    {"reply every type", SAMPLE_REPLY,
     .body = "{'re': {'$regularExpression': {'pattern': '^a.b$', 'options': 'im'}}, 'pointer': "
             "{'$dbPointer': {'$ref': 'db.c', '$id': {'$oid': '6570000000000000000000fe'}}}, "
             "'code2': {'$code': 'f()'}, 'scope': {'$code': 'g()', '$scope': {'x': 1}}, 'dec': "
             "{'$numberDecimal': '1.5'}, 'bin': {'$binary': {'base64': 'AAEC', 'subType': "
             "'80'}}, 'min': {'$minKey': 1}, 'a key that is longer than what the scan holds of "
             "one, which is 64 bytes, code': 1, 'cursor': 1, 'errorLabels': "
             "'RetryableWriteError', 'writeConcernError': [1], 'ok': true, 'code': "
             "{'$numberLong': '50'}}"},
};

#define RECIPE_COUNT (sizeof(recipes) / sizeof(recipes[0]))

bson_t *sample_document(const char *json)
{
    char *text = bson_strdup(json);
    for (char *at = text; *at; at++) {
        if (*at == '\'') {
            *at = '"';
        }
    }
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)text, -1, &error);
    if (!document) {
        fprintf(stderr, "%s: %s\n", text, error.message);
        abort();
    }
    bson_free(text);
    return document;
}

static void append_i32(struct buffer *out, int32_t value)
{
    uint8_t bytes[4];
    store_i32(bytes, value);
    buffer_append(out, bytes, sizeof(bytes));
}

static void append_document(struct buffer *out, const char *json)
{
    bson_t *document = sample_document(json);
    buffer_append(out, bson_get_data(document), document->len);
    bson_destroy(document);
}

static void append_header(struct buffer *out, int32_t request_id, int32_t response_to,
                          int32_t opcode)
{
    append_i32(out, 0);
    append_i32(out, request_id);
    append_i32(out, response_to);
    append_i32(out, opcode);
}

void sample_begin(struct buffer *out, int32_t request_id, int32_t response_to, uint32_t flags)
{
    append_header(out, request_id, response_to, 2013);
    append_i32(out, (int32_t)flags);
}

void sample_body(struct buffer *out, const char *json)
{
    buffer_append(out, "\0", 1);
    append_document(out, json);
}

void sample_sequence(struct buffer *out, const char *name, const char *const documents[])
{
    buffer_append(out, "\1", 1);
    size_t start = buffer_held(out);
    append_i32(out, 0);
    buffer_append(out, name, strlen(name) + 1);
    for (size_t i = 0; documents[i]; i++) {
        append_document(out, documents[i]);
    }
    store_i32(buffer_at(out) + start, (int32_t)(buffer_held(out) - start));
}

// Bit by bit, so that it has nothing in common with the one that is tested.
static uint32_t slow_crc32c(const uint8_t *at, size_t len)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < len; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
        }
    }
    return ~crc;
}

void sample_end(struct buffer *out)
{
    bool checksum = buffer_at(out)[FRAME_HEADER_BYTES] & FLAG_CHECKSUM;
    size_t len = buffer_held(out);
    store_i32(buffer_at(out), (int32_t)(len + (checksum ? 4 : 0)));
    if (checksum) {
        append_i32(out, (int32_t)slow_crc32c(buffer_at(out), len));
    }
}

void sample_query(struct buffer *out, int32_t request_id, const char *namespace, const char *json)
{
    append_header(out, request_id, 0, 2004);
    append_i32(out, 4);
    buffer_append(out, namespace, strlen(namespace) + 1);
    append_i32(out, 0);
    append_i32(out, -1);
    append_document(out, json);
    store_i32(buffer_at(out), (int32_t)buffer_held(out));
}

static struct bytes cook(const struct recipe *recipe, int32_t id)
{
    struct buffer out = {0};
    if (recipe->kind == SAMPLE_QUERY) {
        sample_query(&out, id, "admin.$cmd", recipe->body);
        return buffer_bytes(&out);
    }
    sample_begin(&out, id, recipe->kind == SAMPLE_REPLY ? id - 1 : 0, recipe->flags);
    if (!recipe->body_last) {
        sample_body(&out, recipe->body);
    }
    for (size_t i = 0; i < 2 && recipe->sequences[i].name; i++) {
        sample_sequence(&out, recipe->sequences[i].name, recipe->sequences[i].documents);
    }
    if (recipe->body_last) {
        sample_body(&out, recipe->body);
    }
    sample_end(&out);
    return buffer_bytes(&out);
}

const struct sample *samples(size_t *ret_count)
{
    static struct sample all[RECIPE_COUNT];
    if (!all[0].name) {
        for (size_t i = 0; i < RECIPE_COUNT; i++) {
            const struct recipe *recipe = &recipes[i];
            all[i] = (struct sample){recipe->name, recipe->kind, cook(recipe, 1000 + (int32_t)i)};
        }
    }
    *ret_count = RECIPE_COUNT;
    return all;
}

struct bytes sample_named(const char *name)
{
    size_t count;
    const struct sample *all = samples(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].name, name) == 0) {
            return all[i].message;
        }
    }
    fprintf(stderr, "no sample %s\n", name);
    abort();
}

static void damage_once(struct dice *dice, uint8_t *at, size_t len)
{
    static const int32_t lengths[] = {0,  1,  4,  5,  -1, INT32_MIN, INT32_MAX, INT32_MAX - 16,
                                      16, 17, 64, 65, 128};
    size_t place = dice_below(dice, (uint32_t)len);
    switch (dice_below(dice, 5)) {
    case 0:
        at[place] ^= (uint8_t)(1u << dice_below(dice, 8));
        break;
    case 1:
        at[place] = (uint8_t)dice_below(dice, 256);
        break;
    case 2:
        at[place] = 0;
        break;
    case 3:
        at[place] = (uint8_t)(at[place] + dice_below(dice, 5) - 2);
        break;
    default:
        if (len >= 4) {
            place = place > len - 4 ? len - 4 : place;
            store_i32(at + place, lengths[dice_below(dice, sizeof(lengths) / sizeof(int32_t))]);
        }
        break;
    }
}

void dice_damage(struct dice *dice, uint8_t *at, size_t len)
{
    for (uint32_t times = dice_below(dice, 4) + 1; times > 0 && len > 0; times--) {
        damage_once(dice, at, len);
    }
}
