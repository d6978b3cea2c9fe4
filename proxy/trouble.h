// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a server, in words: the same in weir ctl, weir top, the verdict and on the
// page.

#ifndef PROXY_TROUBLE_H
#define PROXY_TROUBLE_H

#include "proxy/server.h"

#define TROUBLE_BYTES 384

// "": nothing is.
void trouble_say(const struct server_counts *counts, char ret_says[TROUBLE_BYTES]);

#endif
