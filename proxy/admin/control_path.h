// SPDX-License-Identifier: Apache-2.0
//
// Where the control socket is. Whoever can put a file where weir or `weir ctl` look for it could
// pass for the other, so every directory on the way must be our own or root's, and not for others
// to write to (but for those like /tmp, where nobody can move what is somebody else's).

#ifndef PROXY_ADMIN_CONTROL_PATH_H
#define PROXY_ADMIN_CONTROL_PATH_H

#include <stdbool.h>
#include <stddef.h>

enum { CONTROL_PATH_BYTES = 108, CONTROL_ERROR_BYTES = 256 };

// The directory of sockets that no setting names: /run/weir for root, else $XDG_RUNTIME_DIR/weir,
// else /tmp/weir-UID. False: its name is too long.
bool control_directory(char ret_path[CONTROL_PATH_BYTES]);

// The socket of the weir that listens on a port, there.
bool control_path_of_port(int port, char ret_path[CONTROL_PATH_BYTES]);

// Makes the directory if it is not there.
void control_make_directory(void);

// Whether the path may be used, by what it is now. False, with the reason.
bool control_path_is_safe(const char *path, char ret_error[CONTROL_ERROR_BYTES]);

#endif
