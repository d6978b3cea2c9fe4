// SPDX-License-Identifier: Apache-2.0
//
// What a user may do, of all that a message may ask for. The user as whom weir is at the deployment
// may often do more than the app's, so here is the only place that holds it back: what is not known
// to be harmless takes `admin`.
//
// Sessions: the deployment keeps users' sessions apart by their names, but to it all of weir's are
// one. So each lsid.id of a message is replaced, in place, by a digest of it and of the user's name
// (user_session_id): nobody can name another one's session.

#ifndef PROXY_ACCESS_H
#define PROXY_ACCESS_H

#include "proxy/users.h"
#include "wire/command.h"
#include "wire/op_msg.h"

// Before any thread asks.
void access_init(void);

// Why the user may not do it, in words for people; NULL: it may.
const char *access_problem(const struct user *user, const struct command *command,
                           const struct op_msg *msg);

// Whether it is about the user's own operations, which weir tells and ends itself; an admin's
// commands are about the server's.
bool access_is_about_own(const struct user *user, const struct command *command);

// Replaces the sessions that a message names. `command` was read from `message`. False: one of them
// is not as a driver writes it, or names a user itself.
bool access_take_sessions(const struct user *user, const struct command *command, uint8_t *message)
    __attribute__((warn_unused_result));

// What somebody who has not logged in may do.
bool access_before_login(const struct command *command);

#endif
