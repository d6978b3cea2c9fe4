// SPDX-License-Identifier: Apache-2.0
//
// The inside of a simulated server: its connections, its cores, its cursors and transactions. For
// the files of the server only.

#ifndef SIM_SERVICE_H
#define SIM_SERVICE_H

#include <bson/bson.h>

#include "tests/sim/sim_server.h"

struct server_conn {
    struct server_conn *next;
    struct server_conn *prev;
    struct sim_server *server;
    struct net_end *end; // NULL: closed, to be freed by `look`
    int64_t id;
    struct event look;
    struct buffer in;
    struct buffer out;
    int32_t request_id;
    int auth_rounds;
    bool busy; // a request is not answered yet
    bool greeted;
    bool doubtful;
    bool closes_after_reply;
    struct compressor_list compressors; // agreed on
    enum compressor compressor;         // that the request came by
    // what is being served
    struct server_conn *serving_next;
    bool serving;
    int64_t began_us;
    double left_us; // of the work
    int64_t op;     // 0: weir's own
    bson_t *own;    // then its body
};

// A cursor or a transaction.
struct held {
    int64_t id;
    int64_t session; // of a cursor
    int64_t conn;    // that opened it
    int64_t txn_number;
    int64_t last_op; // that used it
    int64_t free_us; // since when nobody uses it, or did not before last_op
    int batches_left;
    bool in_use;
};

struct held_list {
    struct held *items;
    size_t count;
    size_t capacity;
};

struct sim_server {
    int index;
    struct server_conn *conns;
    int conn_count;
    bool refusing;
    bool has_left; // the set
    int64_t stalled_until_us;
    // service
    struct server_conn *serving;
    int serving_count;
    int64_t served_until_us;
    struct event done;
    struct held_list cursors;
    int64_t last_cursor; // its id: unique on this server only
    struct held_list transactions;
    // faults
    struct event close;
    struct event restart;
    struct event recover;
    struct event stall;
    struct event stepdown;
    struct event leave;
    struct event come_back;
    struct event elect;
};

void server_conn_close(struct server_conn *conn, bool reset);
void server_conn_free(struct server_conn *conn);
void server_conn_reply(struct server_conn *conn, const bson_t *body);

void service_init(struct sim_server *server);
void service_fini(struct sim_server *server);
void service_begin(struct server_conn *conn, const uint8_t *at, size_t len, const bson_t *body);
void service_drop(struct server_conn *conn);        // its connection is closed
void service_forget_all(struct sim_server *server); // cursors and transactions
void service_go_on(struct sim_server *server);      // after a stall

void faults_begin(struct sim_server *server);
void faults_end(struct sim_server *server);

#endif
