// SPDX-License-Identifier: Apache-2.0
//
// A number of which only matters whether it changes: when a text is another, or a file was replaced
// or written to. NULL is a text or file, too.

#ifndef PROXY_GLANCE_H
#define PROXY_GLANCE_H

#include <stdint.h>

uint64_t glance_text(uint64_t seen, const char *text);
uint64_t glance_file(uint64_t seen, const char *path);

#endif
