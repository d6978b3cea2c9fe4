// SPDX-License-Identifier: Apache-2.0
//
// What `weir ctl` asks for, and what it is answered: one JSON document each.
//
//      {"order": "rule add", "fields": {"namespace": "shop.orders", "deny": "true", "for": "5m"}}
//      {"ok": true, "id": 3}
//
//      {"order": "rule remove", "id": 4}
//      {"ok": false, "error": "there is no rule 4"}
//
//      {"order": "state", "collections": ["servers", "shapes"]}
//      {"ok": true, "state": {"servers": [...], "shapes": [...]}}
//
//      {"order": "verdict"}
//      {"ok": true, "state": {"verdicts": [...]}}
//
// Orders are rule add, rule list, rule remove, emergency on, emergency off, emergency status,
// reload, drain, upgrade, kill, setCap, setLimit (with an id as their number, or followed by
// default), pause, resume, status, state and verdict. The fields, as texts, are those of
// rule_table.h; an emergency has for, why and by, drain and upgrade have within, a kill request,
// client, shape, over, why and by. State is what /state says (state_table.h), of all collections
// unless some are named; those that this weir does not know are left out.

#ifndef PROXY_ADMIN_CONTROL_ORDER_H
#define PROXY_ADMIN_CONTROL_ORDER_H

#include <bson/bson.h>

#include "proxy/admin/rulebook.h"
#include "proxy/cull.h"
#include "proxy/server.h"

enum { CONTROL_SAID_BYTES = 2048 }; // all settings' names

struct control_desk {
    struct rulebook *book;
    void (*tell_status)(void *arg, int64_t now_us, bson_t *reply); // appends to it
    // Says what was done, or why nothing was: false.
    bool (*reload)(void *arg, char ret_said[CONTROL_SAID_BYTES]);
    void (*drain)(void *arg, int64_t within_us); // 0: as configured
    // Another process is to take over, and this one to drain: what came of it, later, likewise.
    // False: nothing yet.
    void (*upgrade)(void *arg, int64_t within_us);
    bool (*is_upgraded)(void *arg, bool *ret_good, char ret_said[CONTROL_SAID_BYTES]);
    // False: a worker is late.
    bool (*kill)(void *arg, const struct cull_wish *wish, struct cull_counts *ret_counts);
    struct server_bounds (*tell_bounds)(void *arg); // of a server without a cap of its own
    void (*set_cap)(void *arg, int cap);            // -1: as configured
    void (*set_limit)(void *arg, int limit);        // 0: likewise
    void (*pause)(void *arg, bool paused);
    void (*take_turn)(void *arg); // what other threads want of the one that has the book
    void *arg;
};

// Does what the order says, in the name of `by`, and appends the answer. Any bytes are allowed.
// Returns of which collections (as bits) the answer is to have the state beside. An empty answer is
// that of an upgrade: control_order_tell_upgrade when there is something to tell.
unsigned control_order_answer(const struct control_desk *desk, const char *text, size_t len,
                              const char *by, int64_t now_us, bson_t *reply);

// The same of an order that is a document already.
unsigned control_order_obey(const struct control_desk *desk, const bson_t *document, const char *by,
                            int64_t now_us, bson_t *reply);

// False: not yet.
bool control_order_tell_upgrade(const struct control_desk *desk, bson_t *reply);

#endif
