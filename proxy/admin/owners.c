// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/owners.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"

enum { COPIED_AT_ONCE = 128 };

static int idle_of(const struct owner *owner)
{
    return owner->cursors_idle + owner->transactions_idle;
}

// NULL: it is one too many.
static struct owner *find(struct owners *owners, const struct pin *pin)
{
    for (int i = 0; i < owners->count; i++) {
        struct owner *owner = &owners->owner[i];
        if (owner->user == pin->key.user &&
            strcmp(owner->longest.app_name, pin->story.app_name) == 0) {
            return owner;
        }
    }
    if (owners->count == OWNERS_MAX) {
        return NULL;
    }
    struct owner *owner = &owners->owner[owners->count++];
    *owner = (struct owner){.user = pin->key.user, .longest = pin->story};
    return owner;
}

static void count(struct owner *owner, const struct pin *pin, int64_t idle_us, int64_t now_us)
{
    bool cursor = pin->key.kind == PIN_CURSOR;
    int64_t alone_us = pin->is_busy ? 0 : now_us - pin->used_us;
    *(cursor ? &owner->cursors : &owner->transactions) += 1;
    *(cursor ? &owner->cursors_idle : &owner->transactions_idle) += alone_us >= idle_us;
    if (alone_us > owner->longest_idle_us) {
        owner->longest_idle_us = alone_us;
        owner->longest = pin->story;
    }
}

static int more_idle(const void *a, const void *b)
{
    return idle_of(b) - idle_of(a);
}

void owners_count(struct affinity *affinity, uint32_t server_id, int64_t idle_us, int64_t now_us,
                  struct owners *ret_owners)
{
    struct pin *pins = xcalloc(COPIED_AT_ONCE, sizeof *pins);
    uint64_t clients[COPIED_AT_ONCE];
    *ret_owners = (struct owners){0};
    for (size_t place = 0; place != SIZE_MAX;) {
        size_t copied = affinity_copy(affinity, &place, COPIED_AT_ONCE, pins, clients);
        for (size_t i = 0; i < copied; i++) {
            struct owner *owner = pins[i].server == server_id ? find(ret_owners, &pins[i]) : NULL;
            if (owner) {
                count(owner, &pins[i], idle_us, now_us);
            }
        }
    }
    free(pins);
    qsort(ret_owners->owner, (size_t)ret_owners->count, sizeof ret_owners->owner[0], more_idle);
}

int owners_idle(const struct owners *owners)
{
    int idle = 0;
    for (int i = 0; i < owners->count; i++) {
        idle += idle_of(&owners->owner[i]);
    }
    return idle;
}
