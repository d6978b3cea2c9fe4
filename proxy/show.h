// SPDX-License-Identifier: Apache-2.0
//
// What belongs to a worker, shown to somebody else: asked for by mail, copied by the worker itself,
// so many connections a turn that its other work hardly notices, and sent back by mail.
//
//      observer -- MAIL_SHOW --> worker: copies, MAIL_SHOW to itself, copies, ... --> observer

#ifndef PROXY_SHOW_H
#define PROXY_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/client.h"
#include "proxy/net/loop.h"
#include "wire/buffer.h"

#define SHOW_PER_TURN 128 // connections

struct seen_client {
    uint64_t id;
    char peer[64];
    char app_name[CLIENT_APP_NAME_BYTES];
    const char *state;
    int64_t age_us;
    int64_t unsent_bytes;
    int worker;
    bool tls;
};

struct seen_request {
    int64_t id;
    uint64_t client_id;
    uint64_t upstream_id;
    uint32_t user_id;
    char user[128];
    char peer[64];
    char app_name[CLIENT_APP_NAME_BYTES];
    char server[128];
    char command[48];
    char namespace[160];
    char shape[256];
    const char *state;
    const char *lane;
    int64_t age_us;
    int64_t held_us;
    int64_t bytes;
};

struct seen_upstream {
    uint64_t id;
    uint64_t client_id;
    char server[128];
    const char *state;
    int64_t age_us;
    int pins;
    int worker;
};

struct show {
    struct mail mail;
    struct mailbox *back; // where it goes when all is there
    int back_kind;
    struct worker *worker;
    bool clients; // what is asked for
    bool requests;
    bool upstreams;
    bool begun;
    struct buffer seen_clients; // struct seen_client, one after the other; and so on
    struct buffer seen_requests;
    struct buffer seen_upstreams;
};

// MAIL_SHOW, on the worker's thread.
void show_go_on(struct show *show);

#endif
