// SPDX-License-Identifier: Apache-2.0
//
// Finds a weir that runs on this machine, and asks it over its control socket: what `weir ctl` and
// `weir top` share.

#ifndef PROXY_ADMIN_CONTROL_CLIENT_H
#define PROXY_ADMIN_CONTROL_CLIENT_H

#include <bson/bson.h>

#include "proxy/admin/control_path.h"
#include "wire/buffer.h"

// Exit statuses of commands: EXIT_SUCCESS, EXIT_FAILURE, and this: used wrongly.
enum { EXIT_USAGE = 2, CONTROL_CLIENT_ERROR_BYTES = 768 };

// Which weir, as the command line says. NULL: it does not say.
struct control_choice {
    const char *socket;
    const char *port;
};

// Its socket: the one that is said, else $WEIR_CONTROL_SOCKET, else that of the only weir of this
// user. Returns an exit status, with the reason if it is not 0.
int control_client_choose(const struct control_choice *choice, char ret_path[CONTROL_PATH_BYTES],
                          char ret_error[CONTROL_CLIENT_ERROR_BYTES]);

// Sends an order. Returns the connection, on which the answer comes as one line; -1: the reason.
int control_client_send(const char *path, const bson_t *order,
                        char ret_error[CONTROL_CLIENT_ERROR_BYTES]);

// Takes in what has come, waiting for some of it. Returns whether the line is there as a whole;
// false with *ret_over: there is no more to come.
bool control_client_receive(int fd, struct buffer *answer, bool *ret_over);

// Sends an order and waits for the answer, for as long as an upgrade may take if it is one. False:
// the reason.
bool control_client_ask(const char *path, const bson_t *order, struct buffer *answer,
                        char ret_error[CONTROL_CLIENT_ERROR_BYTES]);

// The answer as a document, to be destroyed. NULL: it cannot be read, or weir says no; the reason.
bson_t *control_client_read(const struct buffer *answer,
                            char ret_error[CONTROL_CLIENT_ERROR_BYTES]);

#endif
