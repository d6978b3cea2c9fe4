// SPDX-License-Identifier: Apache-2.0
//
// Who tries passwords has to wait. Attempts to log in from an address from which some have failed
// of late are looked at one after the other, with a pause between them that doubles with each
// failure:
//
//      failures   0   1       2       3       4       5 and more
//      pause      0   10 ms   20 ms   40 ms   80 ms   100 ms
//
// So nobody tries more than ten a second from one address, on however many connections; nor does
// anybody else behind the same address log in faster while that goes on. What would wait longer
// than PENALTY_LINE_US is turned away. A failure is forgotten after a minute.
//
// Bounded: a table of sets; when a set is full, the address that failed longest ago is forgotten.

#ifndef POLICY_PENALTIES_H
#define POLICY_PENALTIES_H

#include <stdint.h>

#define PENALTY_LINE_US INT64_C(5000000)
#define PENALTY_FORGET_US INT64_C(60000000)

enum { PENALTY_ADDRESS_BYTES = 16 };

struct penalties;

struct penalties *penalties_new(void);
void penalties_free(struct penalties *penalties);

// How long an attempt from this address, to be looked at from now on, must wait; -1: too long.
// Addresses of IPv6 count by their first 64 bits, which are one customer's.
int64_t penalties_wait(struct penalties *penalties, const uint8_t address[PENALTY_ADDRESS_BYTES],
                       int64_t now_us);

// An attempt has failed.
void penalties_failed(struct penalties *penalties, const uint8_t address[PENALTY_ADDRESS_BYTES],
                      int64_t now_us);

#endif
