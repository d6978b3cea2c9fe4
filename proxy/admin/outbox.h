// SPDX-License-Identifier: Apache-2.0
//
// Records on their way to where it may take long: a bounded queue, and a thread that sends them one
// after the other. Whoever adds one never waits.

#ifndef PROXY_ADMIN_OUTBOX_H
#define PROXY_ADMIN_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

enum { OUTBOX_MOST = 64, OUTBOX_ID_BYTES = 48 };

struct outbox;

struct outgoing {
    char *to;
    char *ca_file; // of whom to trust there; NULL: it does not matter
    char id[OUTBOX_ID_BYTES];
    char *json;
};

// `send` is called on the thread, which has that name.
struct outbox *outbox_new(const char *thread_name,
                          void (*send)(void *arg, const struct outgoing *outgoing), void *arg);

// Copies the texts. False: too many wait.
bool outbox_add(struct outbox *outbox, const char *to, const char *ca_file, const char *id,
                const char *json);

// For who sends: since when the box is being freed; 0: it is not.
int64_t outbox_ending_us(struct outbox *outbox);

// For who sends: waits, but not while the box is being freed.
void outbox_pause(struct outbox *outbox, int64_t us);

// When all that it was given has been sent.
void outbox_free(struct outbox *outbox);

// What became of one. `reason`: NULL if all is well.
void outbox_log(const char *event, const char *id, const char *reason);

#endif
