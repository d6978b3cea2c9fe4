// SPDX-License-Identifier: Apache-2.0

#include "policy/penalties.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "policy/hash.h"
#include "policy/memory.h"

enum { SET_BITS = 10, WAYS = 4, MOST_FAILURES = 5 };

struct penalty {
    uint64_t key;
    int failures; // 0: free
    int64_t failed_us;
    int64_t next_us; // when the next attempt may be looked at
};

struct penalties {
    struct penalty sets[1 << SET_BITS][WAYS];
};

struct penalties *penalties_new(void)
{
    return memory_new(1, sizeof(struct penalties));
}

void penalties_free(struct penalties *penalties)
{
    free(penalties);
}

// IPv4 comes as the IPv6 that stands for it, whose first 64 bits are 0.
static uint64_t key_of(const uint8_t address[PENALTY_ADDRESS_BYTES])
{
    uint64_t halves[2];
    memcpy(halves, address, sizeof halves);
    return halves[0] != 0 ? halves[0] : halves[1];
}

static struct penalty *set_of(struct penalties *penalties, uint64_t key)
{
    return penalties->sets[hash_slot(key, SET_BITS)];
}

static bool is_over(const struct penalty *penalty, int64_t now_us)
{
    return penalty->failures == 0 || now_us - penalty->failed_us >= PENALTY_FORGET_US;
}

static struct penalty *find(struct penalties *penalties, uint64_t key, int64_t now_us)
{
    struct penalty *set = set_of(penalties, key);
    for (int i = 0; i < WAYS; i++) {
        if (set[i].key == key && !is_over(&set[i], now_us)) {
            return &set[i];
        }
    }
    return NULL;
}

static int64_t pause_us(const struct penalty *penalty)
{
    int64_t pause = INT64_C(5000) << penalty->failures;
    return pause < 100000 ? pause : 100000;
}

int64_t penalties_wait(struct penalties *penalties, const uint8_t address[PENALTY_ADDRESS_BYTES],
                       int64_t now_us)
{
    struct penalty *penalty = find(penalties, key_of(address), now_us);
    if (!penalty) {
        return 0;
    }
    int64_t at_us = penalty->next_us > now_us ? penalty->next_us : now_us;
    if (at_us - now_us > PENALTY_LINE_US) {
        return -1;
    }
    penalty->next_us = at_us + pause_us(penalty);
    return at_us - now_us;
}

// A free place of the set, else that of whoever failed longest ago.
static struct penalty *take_place(struct penalty *set, int64_t now_us)
{
    struct penalty *place = &set[0];
    for (int i = 0; i < WAYS; i++) {
        if (is_over(&set[i], now_us)) {
            return &set[i];
        }
        if (set[i].failed_us < place->failed_us) {
            place = &set[i];
        }
    }
    return place;
}

void penalties_failed(struct penalties *penalties, const uint8_t address[PENALTY_ADDRESS_BYTES],
                      int64_t now_us)
{
    uint64_t key = key_of(address);
    struct penalty *penalty = find(penalties, key, now_us);
    if (!penalty) {
        penalty = take_place(set_of(penalties, key), now_us);
        *penalty = (struct penalty){.key = key};
    }
    if (penalty->failures < MOST_FAILURES) {
        penalty->failures++;
    }
    penalty->failed_us = now_us;
    int64_t next_us = now_us + pause_us(penalty);
    if (next_us > penalty->next_us) {
        penalty->next_us = next_us;
    }
}
