// SPDX-License-Identifier: Apache-2.0

#include "proxy/ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { V4_BEGINS = 12, TEXT_BYTES = INET6_ADDRSTRLEN + 16 };

bool ip_read(const char *text, uint8_t ret_address[IP_BYTES])
{
    struct in6_addr six;
    struct in_addr four;
    if (inet_pton(AF_INET, text, &four) == 1) {
        memset(ret_address, 0, IP_BYTES);
        memset(ret_address + V4_BEGINS - 2, 0xff, 2);
        memcpy(ret_address + V4_BEGINS, &four, sizeof four);
        return true;
    }
    if (inet_pton(AF_INET6, text, &six) == 1) {
        memcpy(ret_address, &six, IP_BYTES);
        return true;
    }
    return false;
}

// Reads what stands before `end`, which may not be longer than an address is.
static bool read_until(const char *text, const char *end, uint8_t *ret_address)
{
    char address[TEXT_BYTES];
    if (!end || (size_t)(end - text) >= sizeof address) {
        return false;
    }
    snprintf(address, sizeof address, "%.*s", (int)(end - text), text);
    char *scope = strchr(address, '%');
    if (scope) {
        *scope = '\0';
    }
    return ip_read(address, ret_address);
}

bool ip_read_peer(const char *text, uint8_t ret_address[IP_BYTES])
{
    if (text[0] == '[') {
        return read_until(text + 1, strchr(text, ']'), ret_address);
    }
    return read_until(text, strchr(text, ':'), ret_address);
}

static bool is_zero_from(const uint8_t *address, int bits)
{
    for (int bit = bits; bit < 8 * IP_BYTES; bit++) {
        if (address[bit / 8] & 0x80 >> bit % 8) {
            return false;
        }
    }
    return true;
}

bool ip_read_net(const char *text, uint8_t ret_address[IP_BYTES], int *ret_bits)
{
    const char *slash = strchr(text, '/');
    if (!slash) {
        *ret_bits = 8 * IP_BYTES;
        return ip_read(text, ret_address);
    }
    size_t digits = strspn(slash + 1, "0123456789");
    if (digits < 1 || digits > 3 || slash[1 + digits] != '\0' ||
        !read_until(text, slash, ret_address)) {
        return false;
    }
    bool four = memchr(text, ':', (size_t)(slash - text)) == NULL;
    int bits = (int)strtol(slash + 1, NULL, 10);
    if (bits < 1 || bits > (four ? 32 : 128)) {
        return false;
    }
    *ret_bits = four ? 8 * V4_BEGINS + bits : bits;
    return is_zero_from(ret_address, *ret_bits);
}
