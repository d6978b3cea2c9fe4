// SPDX-License-Identifier: Apache-2.0
//
// weir user add, weir user import: make entries of `users:` for the file.

#ifndef PROXY_ADMIN_USER_COMMAND_H
#define PROXY_ADMIN_USER_COMMAND_H

// argv as in main, whose argv[1] is "user". Returns the exit status.
int user_command(int argc, char *const argv[]);

#endif
