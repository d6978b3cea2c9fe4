// SPDX-License-Identifier: Apache-2.0
//
// The simulated network: connections as two pipes of bytes, each of which takes time, cuts bytes
// where the dice fall, and holds only so many.
//
//      end 0  ==write==>  [ under way | arrived ]  ==read==>  end 1
//      end 0  <==read===  [ arrived | under way ]  <==write== end 1
//
// As with TCP: what was written arrives in order; a close lets what was written arrive and then
// tells the end, unless something was left unread, which makes it a reset; who writes to a closed
// end is reset.

#ifndef SIM_NET_H
#define SIM_NET_H

#include "tests/sim/sim.h"
#include "wire/buffer.h"

// How a network is. Drawn from the seed.
struct net_profile {
    int64_t delay_least_us;
    int64_t delay_most_us;
    double stall; // chance that a piece takes `stall_us` instead
    int64_t stall_us;
    double split;          // chance that a piece arrives in pieces
    size_t capacity_least; // of a pipe, bytes
    size_t capacity_most;
};

struct net_pipe {
    struct buffer bytes;
    size_t arrived; // of them, the first so many can be read
    size_t capacity;
    bool ended;     // the writer will write no more
    bool end_told;  // the reader knows
    bool full_told; // the writer was told "no room" and waits for some
    struct event delivery;
    struct net_end *reader;
};

struct net_end {
    struct net_conn *conn;
    struct net_pipe *in;
    struct net_pipe *out;
    bool closed; // by its owner
    bool failed; // reset by the peer
    struct event reset;
    void (*changed)(void *arg); // there is more to read, or room, or an end; NULL: nobody looks
    void *arg;
};

struct net_conn {
    int64_t id;
    const struct net_profile *profile;
    struct net_end ends[2];
    struct net_pipe pipes[2];
};

// A connection, established; both ends have nobody yet.
struct net_conn *net_open(const struct net_profile *profile);

// Says whom to tell. Called from events only, never from within a call of the owner's.
void net_attend(struct net_end *end, void (*changed)(void *arg), void *arg);

enum net_status { NET_OK, NET_WAIT, NET_ENDED, NET_FAILED };

enum net_status net_read(struct net_end *end, uint8_t *at, size_t capacity, size_t *ret_len);
enum net_status net_write(struct net_end *end, const uint8_t *at, size_t len, size_t *ret_len);

bool net_is_readable(const struct net_end *end); // a read would not be NET_WAIT
bool net_is_writable(const struct net_end *end);

void net_half_close(struct net_end *end);
void net_close(struct net_end *end); // and frees the connection if the other end is closed, too
void net_reset(struct net_end *end); // closes so that the other end fails

// How long something takes in this network.
int64_t net_delay_us(const struct net_profile *profile);

// Connections that are not yet closed at both ends.
int net_count(void);

#endif
