// SPDX-License-Identifier: Apache-2.0
//
// What a service manager is told: sd_notify's protocol, which is one datagram of text to
// $NOTIFY_SOCKET and promised to stay so. These few lines take the place of libsystemd.

#ifndef PROXY_NOTIFY_H
#define PROXY_NOTIFY_H

#include <stdint.h>

// Sends "READY=1" and the like; nothing where nobody wants to know.
void notify(const char *state);

// How often "WATCHDOG=1" is to be sent, half of what is asked for; 0: never.
int64_t notify_watchdog_us(void);

#endif
