// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"

#define BLOCK_BYTES 4096 // that MHD asks for at once

struct follower {
    struct feed *feed;
    struct MHD_Connection *connection;
    struct follower *next;
    struct follower **at; // what points to it
    bool rests;           // suspended until the next event
    uint64_t has;         // the number of the event that it was given last
    struct text *text;    // what is left of that: MHD's thread alone has it
    size_t sent;
};

struct feed {
    pthread_mutex_t lock; // guards all, but for a follower's text
    struct follower *followers;
    int count;
    struct text *newest;
    uint64_t published;
    bool ending;
};

struct feed *feed_new(void)
{
    struct feed *feed = xcalloc(1, sizeof *feed);
    pthread_mutex_init(&feed->lock, NULL);
    return feed;
}

void feed_free(struct feed *feed)
{
    text_drop(feed->newest);
    pthread_mutex_destroy(&feed->lock);
    free(feed);
}

bool feed_is_followed(struct feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    bool followed = feed->followers != NULL;
    pthread_mutex_unlock(&feed->lock);
    return followed;
}

static void wake_all(struct feed *feed)
{
    for (struct follower *at = feed->followers; at; at = at->next) {
        if (at->rests) {
            at->rests = false;
            MHD_resume_connection(at->connection);
        }
    }
}

void feed_publish(struct feed *feed, struct text *event)
{
    pthread_mutex_lock(&feed->lock);
    struct text *former = feed->newest;
    feed->newest = event;
    feed->published++;
    wake_all(feed);
    pthread_mutex_unlock(&feed->lock);
    text_drop(former);
}

void feed_end(struct feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    feed->ending = true;
    wake_all(feed);
    pthread_mutex_unlock(&feed->lock);
}

// Gives a follower that has taken all the next event. False, and it rests, if there is none yet.
static bool give_next(struct follower *follower)
{
    struct feed *feed = follower->feed;
    pthread_mutex_lock(&feed->lock);
    if (!feed->ending && follower->has < feed->published) {
        follower->text = text_keep(feed->newest);
        follower->has = feed->published;
        follower->sent = 0;
    } else if (!feed->ending) {
        follower->rests = true;
        MHD_suspend_connection(follower->connection);
    }
    bool gave = follower->text || feed->ending;
    pthread_mutex_unlock(&feed->lock);
    return gave;
}

// Called by MHD when there is room for more.
static ssize_t read_on(void *arg, uint64_t position, char *room, size_t len)
{
    struct follower *follower = arg;
    (void)position;
    if (!follower->text && !give_next(follower)) {
        return 0;
    }
    if (!follower->text) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    struct bytes text = text_bytes(follower->text);
    size_t left = text.len - follower->sent;
    size_t count = left < len ? left : len;
    memcpy(room, text.at + follower->sent, count);
    follower->sent += count;
    if (count == left) {
        text_drop(follower->text);
        follower->text = NULL;
    }
    return (ssize_t)count;
}

static void leave(void *arg)
{
    struct follower *follower = arg;
    struct feed *feed = follower->feed;
    pthread_mutex_lock(&feed->lock);
    *follower->at = follower->next;
    if (follower->next) {
        follower->next->at = follower->at;
    }
    feed->count--;
    pthread_mutex_unlock(&feed->lock);
    text_drop(follower->text);
    free(follower);
}

static bool enter(struct feed *feed, struct follower *follower)
{
    pthread_mutex_lock(&feed->lock);
    bool room = feed->count < FOLLOWERS_MAX;
    if (room) {
        follower->has = feed->published;
        follower->next = feed->followers;
        follower->at = &feed->followers;
        if (follower->next) {
            follower->next->at = &follower->next;
        }
        feed->followers = follower;
        feed->count++;
    }
    pthread_mutex_unlock(&feed->lock);
    return room;
}

struct MHD_Response *feed_follow(struct feed *feed, struct MHD_Connection *connection)
{
    struct follower *follower = xcalloc(1, sizeof *follower);
    follower->feed = feed;
    follower->connection = connection;
    if (!enter(feed, follower)) {
        free(follower);
        return NULL;
    }
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_on, follower, leave);
    if (!response) {
        leave(follower);
    }
    return response;
}
