// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/sim_net.h"

#include <assert.h>
#include <stdlib.h>

#include "proxy/mem.h"

static int count;
static int64_t next_id;

int net_count(void)
{
    return count;
}

int64_t net_delay_us(const struct net_profile *profile)
{
    if (dice_chance(profile->stall)) {
        return dice_between(0, profile->stall_us);
    }
    return dice_between(profile->delay_least_us, profile->delay_most_us);
}

static struct net_end *writer_of(const struct net_pipe *pipe)
{
    struct net_conn *conn = pipe->reader->conn;
    return pipe->reader == &conn->ends[0] ? &conn->ends[1] : &conn->ends[0];
}

static void tell(struct net_end *end)
{
    if (!end->closed && end->changed) {
        end->changed(end->arg);
    }
}

// --- arriving -----------------------------------------------------------------------------------

// How much of what is under way comes now. Large messages come in at most some dozens of pieces.
static size_t piece_of(const struct net_profile *profile, size_t under_way)
{
    if (under_way <= 1 || !dice_chance(profile->split)) {
        return under_way;
    }
    size_t least = under_way / 16 + 1;
    size_t most = dice_chance(0.5) ? 20 : under_way;
    return (size_t)dice_between((int64_t)least, (int64_t)(most > least ? most : least));
}

static void fail(struct net_end *end)
{
    if (!end->failed) {
        end->failed = true;
        tell(end);
    }
}

static void deliver(void *arg)
{
    struct net_pipe *pipe = arg;
    struct net_end *reader = pipe->reader;
    size_t under_way = buffer_held(&pipe->bytes) - pipe->arrived;
    if (reader->closed) {
        if (under_way > 0) {
            fail(writer_of(pipe)); // the answer to bytes for a closed socket
        }
        return;
    }
    size_t piece = under_way > 0 ? piece_of(reader->conn->profile, under_way) : 0;
    if (piece > under_way) {
        piece = under_way;
    }
    pipe->arrived += piece;
    if (piece < under_way) {
        event_set(&pipe->delivery, sim_now_us() + net_delay_us(reader->conn->profile) / 4);
    } else if (pipe->ended) {
        pipe->end_told = true;
    }
    tell(reader);
}

static void send_off(struct net_pipe *pipe)
{
    if (!event_is_set(&pipe->delivery)) {
        event_set(&pipe->delivery, sim_now_us() + net_delay_us(pipe->reader->conn->profile));
    }
}

static void reset_arrives(void *arg)
{
    fail(arg);
}

// --- life ---------------------------------------------------------------------------------------

static void init_end(struct net_conn *conn, int i)
{
    struct net_end *end = &conn->ends[i];
    struct net_pipe *pipe = &conn->pipes[i];
    end->conn = conn;
    end->out = pipe;
    end->in = &conn->pipes[1 - i];
    event_init(&end->reset, reset_arrives, end);
    pipe->reader = &conn->ends[1 - i];
    pipe->capacity = (size_t)dice_scale((int64_t)conn->profile->capacity_least,
                                        (int64_t)conn->profile->capacity_most);
    event_init(&pipe->delivery, deliver, pipe);
}

struct net_conn *net_open(const struct net_profile *profile)
{
    struct net_conn *conn = xcalloc(1, sizeof *conn);
    conn->id = ++next_id;
    conn->profile = profile;
    init_end(conn, 0);
    init_end(conn, 1);
    count++;
    return conn;
}

void net_attend(struct net_end *end, void (*changed)(void *arg), void *arg)
{
    end->changed = changed;
    end->arg = arg;
}

static void free_conn(struct net_conn *conn)
{
    for (int i = 0; i < 2; i++) {
        event_cancel(&conn->ends[i].reset);
        event_cancel(&conn->pipes[i].delivery);
        buffer_fini(&conn->pipes[i].bytes);
    }
    free(conn);
    count--;
}

static struct net_end *peer_of(struct net_end *end)
{
    return end == &end->conn->ends[0] ? &end->conn->ends[1] : &end->conn->ends[0];
}

void net_half_close(struct net_end *end)
{
    if (!end->out->ended) {
        end->out->ended = true;
        send_off(end->out);
    }
}

static void reset_peer(struct net_end *end)
{
    event_set(&peer_of(end)->reset, sim_now_us() + net_delay_us(end->conn->profile));
}

void net_close(struct net_end *end)
{
    assert(!end->closed);
    bool unread = buffer_held(&end->in->bytes) > 0;
    end->closed = true;
    if (peer_of(end)->closed) {
        free_conn(end->conn);
    } else if (unread) {
        reset_peer(end);
    } else {
        net_half_close(end);
    }
}

void net_reset(struct net_end *end)
{
    assert(!end->closed);
    end->closed = true;
    if (peer_of(end)->closed) {
        free_conn(end->conn);
    } else {
        reset_peer(end);
    }
}

// --- bytes --------------------------------------------------------------------------------------

bool net_is_readable(const struct net_end *end)
{
    return end->failed || end->in->arrived > 0 || end->in->end_told;
}

static size_t room_in(const struct net_pipe *pipe)
{
    size_t held = buffer_held(&pipe->bytes);
    return held < pipe->capacity ? pipe->capacity - held : 0;
}

bool net_is_writable(const struct net_end *end)
{
    return end->failed || room_in(end->out) > 0;
}

enum net_status net_read(struct net_end *end, uint8_t *at, size_t capacity, size_t *ret_len)
{
    struct net_pipe *pipe = end->in;
    assert(!end->closed && capacity > 0);
    if (end->failed) {
        return NET_FAILED;
    }
    if (pipe->arrived == 0) {
        return pipe->end_told ? NET_ENDED : NET_WAIT;
    }
    size_t len = pipe->arrived < capacity ? pipe->arrived : capacity;
    memcpy(at, buffer_at(&pipe->bytes), len);
    buffer_consume(&pipe->bytes, len);
    pipe->arrived -= len;
    struct net_end *writer = writer_of(pipe);
    if (pipe->full_told && !writer->closed) {
        pipe->full_told = false;
        tell(writer);
    }
    *ret_len = len;
    return NET_OK;
}

enum net_status net_write(struct net_end *end, const uint8_t *at, size_t len, size_t *ret_len)
{
    struct net_pipe *pipe = end->out;
    assert(!end->closed && !pipe->ended && len > 0);
    if (end->failed) {
        return NET_FAILED;
    }
    size_t room = room_in(pipe);
    if (room == 0) {
        pipe->full_told = true;
        return NET_WAIT;
    }
    *ret_len = len < room ? len : room;
    pipe->full_told = *ret_len < len;
    buffer_append(&pipe->bytes, at, *ret_len);
    send_off(pipe);
    return NET_OK;
}
