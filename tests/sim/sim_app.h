// SPDX-License-Identifier: Apache-2.0
//
// Apps: each a pool of connections and a monitor, as a driver has them.
//
//      connect -> hello -> ( think -> operation(s) -> reply )* -> close
//
// sim_app.c moves bytes, sim_choose.c says what an app does next, sim_judge.c what to make of a
// reply.

#ifndef SIM_APP_H
#define SIM_APP_H

#include <bson/bson.h>

#include "tests/sim/sim_world.h"
#include "wire/compression.h"

#define APP_TRANSACTIONS 8
#define APP_CURSORS 32
#define APP_AWAITED 8

struct app_transaction {
    int64_t session; // 0: none
    int64_t txn_number;
    bool in_use;
};

struct app_cursor {
    int64_t id;
    int64_t session;
};

struct app {
    int index;
    struct app_conn *conns; // the last one is the monitor
    int conn_count;
    struct app_cursor cursors[APP_CURSORS]; // nobody uses now
    int cursor_count;
    struct app_transaction transactions[APP_TRANSACTIONS];
};

struct app_conn {
    struct app *app;
    int64_t id;
    struct net_end *end; // NULL: closed
    struct buffer in;
    struct buffer out;
    struct event act;                    // thought enough
    struct event look;                   // something came, or there is room
    struct event deadline;               // gives up
    int64_t op;                          // that a reply is awaited for next, 0: none
    int64_t later[APP_AWAITED];          // sent, and answered after it; 0 ends them
    struct app_transaction *transaction; // that it belongs to
    int64_t quit_at;                     // leaves when it has sent so many bytes more; -1: does not
    int64_t quit_reading_at;             // or has read so many
    int64_t mute_since_us;               // stopped in the middle of a message; 0: did not
    bool sends_several;                  // messages, by the last choice
    bool half_closed;
    bool is_monitor;
    bool is_slow;
    bool was_slow; // until the apps stopped
    bool greeted;
    int left; // operations
    int tries;
    enum op_kind retry_kind; // of which `retry_of` was
    int64_t retry_of;        // operation to do again, 0: none
    int32_t next_request_id;
    struct compressor_list compressors; // agreed on
};

void apps_begin(void);
void apps_stop(bool abruptly); // they finish what they do, or just leave
void apps_finish(void);
bool apps_are_gone(void);
void apps_check_progress(void);

// A connection by its number.
bool app_connection_is_open(int64_t conn);
// Somebody has asked weir to close it.
void app_connection_cull(int64_t conn);
bool app_connection_is_culled(int64_t conn);
// Says that a server has this operation; false if it had a later one of the same connection.
bool app_is_next_in_order(const struct op *op);

// --- sim_choose.c -------------------------------------------------------------------------------

// Appends what the connection sends next. False: nothing is left to do.
bool choose_next(struct app_conn *conn);

// --- sim_judge.c --------------------------------------------------------------------------------

// What the app does after a reply.
enum verdict { VERDICT_GO_ON, VERDICT_RETRY_NOW, VERDICT_RETRY_LATER, VERDICT_CLOSE };

enum verdict judge_reply(struct app_conn *conn, struct op *op, const uint8_t *at, size_t len,
                         int64_t *ret_backoff_us);
// The connection came to an end that its app did not make.
void judge_end(const struct app_conn *conn);

#endif
