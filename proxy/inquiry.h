// SPDX-License-Identifier: Apache-2.0
//
// A client's command about weir itself, or about its user's own operations, which its worker sends
// to the observer (admin/) and gets back with the answer; its request waits in LOCAL meanwhile.
// Nobody but who has it touches it.

#ifndef PROXY_INQUIRY_H
#define PROXY_INQUIRY_H

#include <bson/bson.h>
#include <stdbool.h>

#include "proxy/net/loop.h"
#include "wire/buffer.h"

struct picture;
struct request;
struct user;
struct worker;

// What the observer can be asked by mail: for a picture of some collections.
struct question {
    struct mail mail;
    struct question *next;
    unsigned collections; // as bits
    // On the observer's thread; the question is the callee's again. The picture is borrowed; NULL:
    // weir is ending.
    void (*answer)(struct question *question, const struct picture *picture);
    void *context;
};

enum observer_mail {
    OBSERVER_QUESTION,   // struct question
    OBSERVER_INQUIRY,    // struct inquiry
    OBSERVER_SHOWN,      // struct show
    OBSERVER_GONE,       // struct client_gone
    OBSERVER_RULES,      // struct observer_rules
    OBSERVER_EXHAUSTION, // struct exhaustion_report
    OBSERVER_EVIDENCE,   // struct inquest
    OBSERVER_RELOADED,   // struct observer_reloaded
    OBSERVER_REST,       // struct mail: answer everything from now on without looking
    OBSERVER_END,        // struct mail
};

struct inquiry {
    struct question question;
    struct user *user; // about whose operations it is; NULL: about weir
    uint64_t kills;    // the operation that is to be ended, set on the way; 0: none
    struct request *request;
    struct worker *worker;
    uint64_t client_id;
    struct buffer command; // the body of its message
    bson_t *reply;         // set when it comes back
    bool may_look;         // at weir, who asks
    bool may_act;          // and change it
    char by[128];          // who asks
    bson_t *order;         // that it is (admin/control_order.h), set on the way; else NULL
    bool opens_view;       // the reply leaves a cursor open
};

// A client that has, or may have, a cursor open here is gone.
struct client_gone {
    struct mail mail;
    uint64_t client_id;
};

// To the observer of the worker's process, which must have one.
void inquiry_send(struct worker *worker, struct request *request);
void inquiry_free(struct inquiry *inquiry); // one that has come back
void inquiry_tell_gone(struct worker *worker, uint64_t client_id);

#endif
