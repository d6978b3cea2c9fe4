// SPDX-License-Identifier: Apache-2.0
//
// What a user who is no admin may know and end of what goes on: the own requests, as a server tells
// of operations and ends them.
//
//      {aggregate: 1, pipeline: [{$currentOp: {}}, {$match: ...}]}    documents of a picture
//      {currentOp: 1, $ownOps: true, ...}                             likewise
//      {killOp: 1, op: N}                                             a cull (cull.h)
//
// An operation's number is that of its request. One of somebody else is as one that is not there.

#ifndef PROXY_ADMIN_OWN_OPERATIONS_H
#define PROXY_ADMIN_OWN_OPERATIONS_H

#include <stdbool.h>

#include "proxy/admin/state.h"
#include "proxy/inquiry.h"

// As database_take and database_answer: for an inquiry that has a user.
bool own_operations_take(struct inquiry *inquiry) __attribute__((warn_unused_result));
void own_operations_answer(struct inquiry *inquiry, const struct picture *picture);

// Of one that kills: asks the workers. Whoever does it last sends the inquiry back.
void own_operations_kill(struct inquiry *inquiry, struct worker *const *workers, int count);

#endif
