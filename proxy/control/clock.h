// SPDX-License-Identifier: Apache-2.0
//
// The clock of control's threads. It is the loops' own: times of both can be compared.

#ifndef PROXY_CONTROL_CLOCK_H
#define PROXY_CONTROL_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

#endif
