// SPDX-License-Identifier: Apache-2.0
//
// weir user add, weir user import: make entries of `users:` for the file.

#ifndef PROXY_ADMIN_USER_COMMAND_H
#define PROXY_ADMIN_USER_COMMAND_H

// argv[0] is "user". Returns the exit status.
int user_main(int argc, char **argv);

#endif
