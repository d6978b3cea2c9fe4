// SPDX-License-Identifier: Apache-2.0
//
// The database `weir`: its commands, over documents of the observer's pictures. On the observer's
// thread only.
//
//      find -> picture -> query -> first batch, and a view for the rest -> getMore ... killCursors
//
// A view, the rest of a result, is a cursor of weir's own. It belongs to the client that used it
// last (a driver may go on from any of its connections) and dies with it. There are VIEWS_MAX at
// most, of VIEWS_BYTES in all: over that, the one that was not used longest goes.

#ifndef PROXY_ADMIN_DATABASE_H
#define PROXY_ADMIN_DATABASE_H

#include <stdbool.h>

#include "proxy/admin/state.h"
#include "proxy/inquiry.h"

#define VIEWS_MAX 64
#define VIEWS_BYTES (64 << 20)

struct database;

struct database *database_new(void);
void database_free(struct database *database);

// Looks at a command. True: inquiry->reply is there. False: inquiry->question.collections says what
// a picture must have for database_answer.
bool database_take(struct database *database, struct inquiry *inquiry, int64_t now_us)
    __attribute__((warn_unused_result));

// picture NULL: weir is ending.
void database_answer(struct database *database, struct inquiry *inquiry,
                     const struct picture *picture);

// Whether a command may have the field, and it changes nothing here: what drivers add to any.
bool database_passes_over(struct bytes key);

// What a client has open is closed.
void database_forget_client(struct database *database, uint64_t client_id);

#endif
