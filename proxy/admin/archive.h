// SPDX-License-Identifier: Apache-2.0
//
// Records of exhaustions as files: ID.json in the directory of events.path. A thread of its own
// writes them, since a disk may stand still.
//
//      observer -- archive_keep --> outbox --> temporary file, rename; the oldest go

#ifndef PROXY_ADMIN_ARCHIVE_H
#define PROXY_ADMIN_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>

enum { ARCHIVE_FILES = 256 };

struct archive;

// Whether files can be written there. False: the reason.
bool archive_check(const char *path, char *ret_error, size_t capacity);

struct archive *archive_new(void);

// Has a record written in that directory, whose path is borrowed until archive_free. What cannot be
// is logged.
void archive_keep(struct archive *archive, const char *path, const char *id, const char *json);

// When all that it was given is written.
void archive_free(struct archive *archive);

#endif
