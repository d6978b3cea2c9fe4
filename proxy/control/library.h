// SPDX-License-Identifier: Apache-2.0
//
// libmongoc as a whole: started once, and what it complains of goes to the log (event=libmongoc).

#ifndef PROXY_CONTROL_LIBRARY_H
#define PROXY_CONTROL_LIBRARY_H

#include <stddef.h>

// Before anything else of libmongoc; once is enough, more does nothing. Any thread.
void library_init(void);

// The complaints that the calling thread causes are collected in `text` (cut to capacity, always
// ended,
// "" at first; borrowed) instead of logged, until library_overhear(NULL, 0).
void library_overhear(char *text, size_t capacity);

#endif
