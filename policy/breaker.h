// SPDX-License-Identifier: Apache-2.0
//
// A breaker for one server: when what is sent there only fails, nothing is sent there for a while.
//
//               failures in a row, on ever new connections,
//               for BREAKER_WINDOW_US; or silence
//      closed ---------------------------------------------> open --+ one request passes after
//             <---------------------------------------------        | each pause; when it fails,
//                              a reply                          <---+ the pause doubles
//
// Discovery says when a server is gone or another one has taken over. This is for one whose monitor
// is content: it takes connections and never answers, or whatever it is asked ends in a lost
// connection, or nobody can log in. A reply is a reply, also if it is an error; that weir itself
// has no room says nothing of the server.
//
// Of connections that are lost at once only one counts, the others are of the same age and say the
// same: that a thousand are cut in a blink is no reason not to open new ones. So failures count
// that befall a connection made after the last failure that counted.
//
// Pure: the time is an argument. All-zero is a valid closed one.

#ifndef POLICY_BREAKER_H
#define POLICY_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_FAILURES 5
#define BREAKER_WINDOW_US INT64_C(5000000)     // longer than a monitor takes to notice
#define BREAKER_FORGET_US INT64_C(60000000)    // failures so far apart have nothing in common
#define BREAKER_PAUSE_FIRST_US INT64_C(500000) // doubling
#define BREAKER_PAUSE_MOST_US INT64_C(5000000)

struct breaker {
    int failures;     // since the last reply
    int64_t first_us; // of them
    int64_t last_us;
    bool is_open;
    int64_t pause_us;
    int64_t probe_us; // from then on one request may pass
};

// A connection that was made at born_us has failed: it could not be opened, or was lost under a
// request. True: it is open now, or still.
bool breaker_failed(struct breaker *breaker, int64_t born_us, int64_t now_us);

// The server is silent: opens it, or begins a new pause.
void breaker_trip(struct breaker *breaker, int64_t now_us);

// A reply has come. True: it was open.
bool breaker_succeeded(struct breaker *breaker);

// The next request may try: something else says that the server is well again.
void breaker_hope(struct breaker *breaker, int64_t now_us);

// Whether a request may be sent to the server: always while it is closed, else one to a pause.
bool breaker_pass(struct breaker *breaker, int64_t now_us) __attribute__((warn_unused_result));

#endif
