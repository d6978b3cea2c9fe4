// SPDX-License-Identifier: Apache-2.0
//
// endSessions, which drivers send when they close and whose answer they do not look at: answered
// here at once, so that no app that ends has to queue or to wait for an election, and passed on
// later, many together. What is not passed on, the deployment ends when it has been idle for long.

#ifndef PROXY_SESSIONS_H
#define PROXY_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command;
struct request;
struct worker;

#define SESSIONS_MAX 10000 // in one endSessions, as drivers keep to

// Sessions that have ended, of one worker's clients. All-zero is a valid empty one.
struct ended_sessions {
    uint8_t (*ids)[16];
    size_t count;
    size_t capacity;
    bool under_way; // an endSessions of ours
};

// Whether the command is an endSessions that says nothing but which; then they are kept to be
// passed on, as far as there is room.
bool sessions_keep(struct ended_sessions *sessions, const struct command *command);

// Passes on what has come together, unless that is under way. Called at each sweep.
void sessions_pass_on(struct worker *worker);

// One of weir's own requests has ended.
void sessions_passed_on(struct ended_sessions *sessions, const struct request *request);

void sessions_fini(struct ended_sessions *sessions);

#endif
