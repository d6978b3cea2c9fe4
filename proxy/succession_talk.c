// SPDX-License-Identifier: Apache-2.0

#include "proxy/succession_talk.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UNSAID_BYTES_MAX (1 << 20)

void talk_close(struct talk *talk)
{
    close(talk->socket);
    buffer_fini(&talk->unsaid);
}

// False: not now. To who is gone everything can be said.
static bool send_now(const struct talk *talk, const void *message, size_t bytes)
{
    return send(talk->socket, message, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ||
           (errno != EAGAIN && errno != ENOBUFS);
}

bool talk_go_on(struct talk *talk)
{
    uint32_t bytes;
    while (buffer_held(&talk->unsaid) > 0) {
        memcpy(&bytes, buffer_at(&talk->unsaid), sizeof bytes);
        if (!send_now(talk, buffer_at(&talk->unsaid) + sizeof bytes, bytes)) {
            return false;
        }
        buffer_consume(&talk->unsaid, sizeof bytes + bytes);
    }
    return true;
}

bool talk_say(struct talk *talk, const void *message, size_t bytes)
{
    uint32_t length = (uint32_t)bytes;
    assert(bytes < TALK_MESSAGE_BYTES);
    if (talk_go_on(talk) && send_now(talk, message, bytes)) {
        return true;
    }
    if (buffer_held(&talk->unsaid) + sizeof length + bytes > UNSAID_BYTES_MAX) {
        return false;
    }
    buffer_append(&talk->unsaid, &length, sizeof length);
    buffer_append(&talk->unsaid, message, bytes);
    return true;
}

bool talk_say_text(struct talk *talk, const char *format, ...)
{
    char text[TALK_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return talk_say(talk, text, strlen(text));
}

bool talk_hear(struct talk *talk, char ret_text[TALK_MESSAGE_BYTES], size_t *ret_bytes)
{
    ssize_t bytes = recv(talk->socket, ret_text, TALK_MESSAGE_BYTES - 1, MSG_DONTWAIT);
    *ret_bytes = bytes > 0 ? (size_t)bytes : 0;
    ret_text[*ret_bytes] = '\0';
    return bytes > 0;
}

void talk_wait(const struct talk *talk, int ms)
{
    struct pollfd ready = {.fd = talk->socket, .events = POLLIN};
    (void)poll(&ready, 1, ms);
}
