// SPDX-License-Identifier: Apache-2.0

#include "policy/lease.h"

#include <assert.h>
#include <string.h>

#include "policy/defect.h"

#define MARGIN_US INT64_C(1000000) // for a killed process to be gone
#define DRIFT 50                   // clocks differ by a 50th at most

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

void lease_init(struct lease *lease, const struct lease_terms *terms, int most, uint64_t id,
                struct lease_peer *peers, int64_t now_us)
{
    assert(terms->floor >= 1 && terms->floor <= terms->cap / terms->instances);
    *lease = (struct lease){
        .terms = *terms,
        .id = id,
        .started_us = now_us,
        .ends_us = now_us,
        .peers = peers,
    };
    lease_bound(lease, most);
}

void lease_bound(struct lease *lease, int most)
{
    lease->most = larger(most, lease->terms.floor);
}

static bool is_draining(const struct lease *lease, int64_t now_us)
{
    return now_us >= lease->ends_us - lease->terms.us / 2;
}

int lease_allows(struct lease *lease, int64_t now_us)
{
    if (!lease->refused && now_us - lease->started_us >= LEASE_START_US) {
        lease->settled = true;
    }
    if (!lease->settled) {
        return 0;
    }
    int leased = lease->held > 0 && !is_draining(lease, now_us) ? lease->told : 0;
    return smaller(lease->terms.floor + leased, lease->most);
}

bool lease_must_cut(const struct lease *lease, int64_t now_us)
{
    return lease->held > 0 && now_us >= lease->ends_us - lease->terms.us / 4;
}

const char *lease_state_text(const struct lease *lease, int64_t now_us)
{
    if (lease->refused || !lease->settled) {
        return lease->refused ? "refused" : "waiting";
    }
    if (lease->held == 0) {
        return "floor";
    }
    if (is_draining(lease, now_us)) {
        return lease_must_cut(lease, now_us) ? "cut" : "draining";
    }
    return "leased";
}

int64_t lease_dies_us(const struct lease *lease)
{
    return lease->held > 0 ? lease->ends_us : INT64_MAX;
}

static int64_t watch_us(const struct lease *lease)
{
    if (DEFECT(LEASE_HASTY)) {
        return lease->terms.us / 2;
    }
    return lease->terms.us + lease->terms.us / DRIFT + MARGIN_US;
}

// The most that may be open until more is granted.
static void give_up_rest(struct lease *lease, int open, int64_t now_us)
{
    int above = lease_allows(lease, now_us) - lease->terms.floor;
    above = larger(above, DEFECT(LEASE_RELEASED_OPEN) ? 0 : open - lease->terms.floor);
    lease->held = smaller(lease->held, larger(above, 0));
}

void lease_look(struct lease *lease, int open, int64_t now_us)
{
    if (is_draining(lease, now_us)) {
        give_up_rest(lease, open, now_us);
    }
}

struct lease_ask lease_ask(struct lease *lease, int open, int want, int64_t now_us)
{
    int floor = lease->terms.floor;
    give_up_rest(lease, open, now_us);
    lease->seq++;
    lease->sent_us = now_us;
    lease->answered = false;
    int room = lease->most - floor;
    return (struct lease_ask){
        .seq = lease->seq,
        .held = lease->held,
        .need = smaller(larger(want - floor, 0), room),
        .room = room,
        .mature = lease->epoch[0] && now_us - lease->epoch_us >= watch_us(lease),
    };
}

bool lease_is_over(const struct lease *lease, const struct lease_peer *peer, int64_t now_us)
{
    return peer->id != lease->id && now_us - peer->seen_us >= watch_us(lease);
}

static void enter_epoch(struct lease *lease, const struct lease_answer *answer, int64_t now_us)
{
    if (strcmp(lease->epoch, answer->epoch) != 0) {
        size_t len = strnlen(answer->epoch, sizeof lease->epoch - 1);
        memset(lease->epoch, 0, sizeof lease->epoch);
        memcpy(lease->epoch, answer->epoch, len);
        lease->epoch_us = now_us;
        lease->peer_count = 0;
    }
    lease->mature = answer->mature;
}

// Less than it holds is no renewal: it comes down to that, and what it has ends when it would have.
static void take(struct lease *lease, const struct lease_answer *answer, int64_t now_us)
{
    if (answer->held < lease->held) {
        lease->told = smaller(lease->told, answer->held);
        return;
    }
    lease->held = answer->held;
    lease->told = smaller(answer->told, answer->held);
    int64_t from_us = DEFECT(LEASE_FROM_ANSWER) ? now_us : lease->sent_us;
    lease->ends_us = from_us + lease->terms.us;
}

bool lease_learn(struct lease *lease, const struct lease_answer *answer, int64_t now_us)
{
    if (answer->seq != lease->seq || lease->answered) {
        return false;
    }
    lease->answered = true;
    lease->refused = answer->kind != LEASE_GRANTED && !lease->settled;
    if (answer->kind == LEASE_GRANTED) {
        lease->settled = true;
        enter_epoch(lease, answer, now_us);
        take(lease, answer, now_us);
        for (size_t i = 0; i < lease->peer_count; i++) {
            lease->peers[i].need = -1;
        }
    }
    return true;
}

void lease_meet(struct lease *lease, const struct lease_peer *met, int64_t now_us)
{
    size_t i = 0;
    while (i < lease->peer_count && lease->peers[i].id != met->id) {
        i++;
    }
    if (i == (size_t)lease->terms.instances) {
        return;
    }
    struct lease_peer *peer = &lease->peers[i];
    bool stands = i < lease->peer_count && peer->seq == met->seq;
    int64_t seen_us = stands ? peer->seen_us : now_us;
    lease->peer_count += i == lease->peer_count;
    *peer = *met;
    peer->seen_us = seen_us;
}

void lease_part(struct lease *lease)
{
    size_t kept = 0;
    for (size_t i = 0; i < lease->peer_count; i++) {
        if (lease->peers[i].need >= 0) {
            lease->peers[kept++] = lease->peers[i];
        }
    }
    lease->peer_count = kept;
}
