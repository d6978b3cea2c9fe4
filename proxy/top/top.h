// SPDX-License-Identifier: Apache-2.0
//
// weir top: what a weir that runs is doing, live, in a terminal; once, as text or JSON, for
// scripts.

#ifndef PROXY_TOP_TOP_H
#define PROXY_TOP_TOP_H

// argv[0] is "top". Returns the exit status: 0 done, 1 not to be reached, 2 used wrongly.
int top_main(int argc, char **argv);

#endif
