// SPDX-License-Identifier: Apache-2.0
//
// The dashboard's files (page/, and the library that it draws with), as they are in the binary.

#ifndef PROXY_ADMIN_PAGE_FILES_H
#define PROXY_ADMIN_PAGE_FILES_H

#include "wire/bytes.h"

struct page_file {
    const char *path; // of its URL
    const char *type;
    const uint8_t *begin;
    const uint8_t *end;
};

// NULL: there is none.
const struct page_file *page_file_find(const char *path);

#endif
