// SPDX-License-Identifier: Apache-2.0
//
// weir ctl: asks a weir that runs, over its control socket.

#ifndef PROXY_ADMIN_CTL_H
#define PROXY_ADMIN_CTL_H

// argv[0] is "ctl". Returns the exit status: 0 done, 1 refused or not to be reached, 2 used
// wrongly.
int ctl_main(int argc, char **argv);

#endif
