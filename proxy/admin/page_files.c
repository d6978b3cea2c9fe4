// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/page_files.h"

#include <stddef.h>
#include <string.h>

// name (in page_files.S), path, type
#define PAGE_FILES(FILE)                                                                           \
    FILE(page_html, "/", "text/html; charset=utf-8")                                               \
    FILE(page_css, "/page.css", "text/css; charset=utf-8")                                         \
    FILE(page_js, "/page.js", "text/javascript; charset=utf-8")                                    \
    FILE(record_js, "/record.js", "text/javascript; charset=utf-8")                                \
    FILE(words_js, "/words.js", "text/javascript; charset=utf-8")                                  \
    FILE(page_icon, "/icon.svg", "image/svg+xml")                                                  \
    FILE(uplot_js, "/uPlot.js", "text/javascript; charset=utf-8")                                  \
    FILE(uplot_css, "/uPlot.css", "text/css; charset=utf-8")                                       \
    FILE(uplot_license, "/uPlot.LICENSE", "text/plain; charset=utf-8")

#define FILE_SYMBOLS(name, ...) extern const uint8_t name##_begin[], name##_end[];
PAGE_FILES(FILE_SYMBOLS)
#undef FILE_SYMBOLS

static const struct page_file files[] = {
#define FILE_ROW(name, path, type) {path, type, name##_begin, name##_end},
    PAGE_FILES(FILE_ROW)
#undef FILE_ROW
};

const struct page_file *page_file_find(const char *path)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(path, files[i].path) == 0) {
            return &files[i];
        }
    }
    return NULL;
}
