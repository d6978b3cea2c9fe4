// SPDX-License-Identifier: Apache-2.0
//
// proxy/auth.h as a conversation of so many messages as the seed has it, in which a key may have to
// be derived, and which may fail.

#include <stdlib.h>

#include "proxy/mem.h"
#include "tests/sim/sim_world.h"

struct auth {
    int rounds_left;
    bool derives;
    bool derived;
    bool fails;
};

struct approach *approach_keep(struct approach *approach)
{
    atomic_fetch_add(&approach->references, 1);
    return approach;
}

void approach_drop(struct approach *approach)
{
    if (atomic_fetch_sub(&approach->references, 1) == 1) {
        free(approach);
    }
}

struct auth *auth_new(const struct credential *credential, struct key_cache *cache)
{
    (void)credential;
    (void)cache;
    struct auth *auth = xcalloc(1, sizeof *auth);
    auth->rounds_left = world.knobs.auth_rounds;
    auth->derives = dice_chance(world.knobs.derive);
    auth->fails = !world.resting && dice_chance(world.knobs.auth_fails);
    return auth;
}

void auth_free(struct auth *auth)
{
    free(auth);
}

void auth_speculate(struct auth *auth, bson_t *hello)
{
    (void)auth;
    BSON_APPEND_BOOL(hello, "speculates", true);
}

static enum auth_status go_on(struct auth *auth, bson_t *ret_command)
{
    if (auth->derives && !auth->derived) {
        return AUTH_DERIVE;
    }
    if (auth->fails) {
        return AUTH_FAILED;
    }
    if (auth->rounds_left == 0) {
        return AUTH_DONE;
    }
    auth->rounds_left--;
    bson_init(ret_command);
    BSON_APPEND_INT32(ret_command, "saslContinue", 1);
    BSON_APPEND_UTF8(ret_command, "$db", "admin");
    return AUTH_SEND;
}

enum auth_status auth_begin(struct auth *auth, const bson_t *hello_reply, bson_t *ret_command)
{
    (void)hello_reply;
    return go_on(auth, ret_command);
}

enum auth_status auth_continue(struct auth *auth, const bson_t *reply, bson_t *ret_command)
{
    (void)reply;
    return go_on(auth, ret_command);
}

void auth_derive(struct auth *auth)
{
    auth->derived = true;
}

bool auth_is_rejected(const struct auth *auth)
{
    (void)auth;
    return false;
}

const char *auth_error(const struct auth *auth)
{
    return auth->fails ? "the dice are against it" : "";
}
