// SPDX-License-Identifier: Apache-2.0
//
// What the three tools of the benchmark share: the clock, sockets on loopback, bytes, giving up.
// Measuring tools: whatever goes wrong outside a peer's connection ends them with a message.

#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BENCH_NS_PER_S 1000000000LL
#define BENCH_NS_PER_MS 1000000LL
#define BENCH_NS_PER_US 1000LL

// MongoDB's message header: length, request id, response to, opcode; 4 bytes each, little-endian.
enum { WIRE_HEADER_BYTES = 16, WIRE_MAX_BYTES = 48000000 };
enum { OP_REPLY = 1, OP_QUERY = 2004, OP_MSG = 2013 };

// Prints `program: message: strerror(errno)` (no third part if errno is 0) and exits with status 1.
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Monotonic time in nanoseconds.
int64_t bench_now_ns(void);

// What every tool does first: lifts its limit of open files as far as it may, ignores SIGPIPE.
void bench_start(void);

// Never return NULL; contents as malloc's and realloc's.
void *bench_malloc(size_t bytes);
void *bench_realloc(void *p, size_t bytes);

// A non-blocking socket that listens on 127.0.0.1:port.
int bench_listen(uint16_t port);

// A non-blocking, no-delay socket of the next connection, or -1 if there is none.
int bench_accept(int listen_fd);

// A no-delay socket connected, or if it is to be non-blocking connecting, to 127.0.0.1:port.
// -1 and errno on failure.
int bench_connect(uint16_t port, int nonblocking);

// The value of a numeric option, within [min, max]; ends the program with a message if it is not.
long bench_number(const char *option, const char *text, long min, long max);

static inline int32_t bench_get_i32(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v); // every machine we run on is little-endian, as the wire is
    return v;
}

static inline void bench_put_i32(uint8_t *p, int32_t v)
{
    memcpy(p, &v, sizeof v);
}

#endif
