// SPDX-License-Identifier: Apache-2.0
//
// A worker that drains: it sends its clients away so that nothing fails that need not; all of them,
// or, when weir goes on but stops listening on an address, those who came in there.
//
//      |<------------- within ------------->|
//      |  quiet ones, evenly       | after  | what is left ends with weir
//      |  spread                   | a reply|
//
// A connection is closed when it has been quiet for a second, for then a driver looks at it before
// it uses it again; in the last fifth of the time, right after a reply. One with an open cursor or
// transaction is left alone, and so is one that has asked for nothing but hello, a driver's
// monitor, until that last fifth. But when another process has taken over, a monitor's next hello,
// which comes within ten seconds, finds its connection closed: a driver that loses a monitor while
// it waits for the answer replaces all its other connections when they are next idle, by itself,
// and no operation fails. (One that was closed while idle is opened anew, and that is all.)

#ifndef PROXY_DRAIN_H
#define PROXY_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

struct client;
struct worker;

enum drain_whom {
    DRAIN_REMOTE,   // apps on this machine are to go by themselves, as they end too
    DRAIN_ALL,      // nobody will take their new connections here
    DRAIN_REPLACED, // another process does
};

struct drain {
    int64_t begun_us; // 0: it does not drain
    int64_t ends_us;
    enum drain_whom whom;
};

// At each sweep.
void drain_step(struct worker *worker, int64_t now_us);

// Whether the hello that a client has just sent is to be answered by the end of its connection.
bool drain_ends_monitor(const struct client *client);

#endif
