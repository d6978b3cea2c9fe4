// SPDX-License-Identifier: Apache-2.0
//
// Who follows weir by server-sent events: each gets the newest event when it has taken the one
// before; what was newer meanwhile, and is not the newest, it never sees.
//
//      observer's thread -- feed_publish --> newest --.
//      MHD's thread      <------------------ a reference for each follower that has room
//
// Bounded: FOLLOWERS_MAX, who is one too many gets a 503. One that does not read costs its
// connection and a reference, and is closed like every other when nothing moves for HTTP_TIMEOUT_S.

#ifndef PROXY_ADMIN_FEED_H
#define PROXY_ADMIN_FEED_H

#include <microhttpd.h>
#include <stdbool.h>

#include "proxy/admin/text.h"

#define FOLLOWERS_MAX 256

struct feed;

struct feed *feed_new(void);
void feed_free(struct feed *feed); // after MHD's thread

// Whether anybody follows.
bool feed_is_followed(struct feed *feed);

// Takes the text, an event as it goes over the wire, over.
void feed_publish(struct feed *feed, struct text *event);

// A response that goes on until the follower leaves, from the next event on. NULL: one too many.
struct MHD_Response *feed_follow(struct feed *feed, struct MHD_Connection *connection);

// Lets all go; who comes later finds the end at once. Before MHD's daemon is stopped.
void feed_end(struct feed *feed);

#endif
