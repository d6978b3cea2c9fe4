// SPDX-License-Identifier: Apache-2.0
//
// The control socket: a Unix socket on a thread of its own, where weir's own user and root may ask
// for what control_order.h lists. A connection brings one line, gets one line, and is closed.
//
// The thread has the desk's rulebook from the start to the end, and takes out what has ended. What
// is asked of weir's state is asked of the observer.

#ifndef PROXY_ADMIN_CONTROL_SOCKET_H
#define PROXY_ADMIN_CONTROL_SOCKET_H

#include "proxy/admin/control_order.h"
#include "proxy/admin/control_path.h"
#include "proxy/admin/observer.h"

struct control_socket;

// Listens; NULL, with one line in ret_error. Without a path it has only the other door.
struct control_socket *control_socket_open(const char *path, char ret_error[CONTROL_ERROR_BYTES]);

// An order that came to the database weir: its answer goes to its worker. From any thread, until it
// is freed.
void control_socket_send(struct control_socket *socket, struct inquiry *inquiry);

// Has the desk's take_turn called on the socket's thread. From any thread, once it was started.
void control_socket_call(struct control_socket *socket);

// What it listens on, -1 if on nothing. From any thread, likewise.
int control_socket_fd(const struct control_socket *socket);

// Whether another process listens on it in its stead. On the socket's thread.
void control_socket_pass(struct control_socket *socket, bool passed);

// Begins to answer. The desk is copied.
void control_socket_start(struct control_socket *socket, const struct control_desk *desk,
                          struct observer *observer);

// Ends and frees it, started or not; the path is free again. After the observer has come to rest,
// so that no order is on its way; before the workers are told to end.
void control_socket_free(struct control_socket *socket);

#endif
