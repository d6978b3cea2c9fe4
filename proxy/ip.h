// SPDX-License-Identifier: Apache-2.0
//
// Internet addresses as 16 bytes, of IPv4 as the IPv6 that stands for it, and nets of them.

#ifndef PROXY_IP_H
#define PROXY_IP_H

#include <stdbool.h>
#include <stdint.h>

enum { IP_BYTES = 16 };

// Reads "10.1.2.3" or "fd00::1". False if it is neither.
bool ip_read(const char *text, uint8_t ret_address[IP_BYTES]);

// Reads the same followed by a port, "10.1.2.3:27017" or "[fd00::1]:27017", which is left out.
bool ip_read_peer(const char *text, uint8_t ret_address[IP_BYTES]);

// Reads an address, or a net "10.1.0.0/16" of at least one bit; what follows its bits must be 0.
bool ip_read_net(const char *text, uint8_t ret_address[IP_BYTES], int *ret_bits);

#endif
