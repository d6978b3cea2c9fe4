// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/archive.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/admin/outbox.h"
#include "proxy/mem.h"

enum { NAME_BYTES = PATH_MAX + HOST_NAME_MAX + 64, NAMESAKES_MAX = 100 };

struct archive {
    struct outbox *outbox;
};

// --- files --------------------------------------------------------------------------------------

// One for each process, of whichever container: what one that was killed leaves behind is not many
// files.
static void name_temporary(const char *path, const char *what, char ret_name[NAME_BYTES])
{
    char host[HOST_NAME_MAX + 1] = "";
    (void)gethostname(host, sizeof host - 1);
    snprintf(ret_name, NAME_BYTES, "%s/.weir-%s-%ld.%s", path, host, (long)getpid(), what);
}

static int open_temporary(const char *name)
{
    return open(name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
}

bool archive_check(const char *path, char *ret_error, size_t capacity)
{
    char name[NAME_BYTES];
    name_temporary(path, "try", name); // a reload tries while a record may be written
    int fd = open_temporary(name);
    if (fd < 0) {
        snprintf(ret_error, capacity, "%.200s: cannot be written to: %s", path, strerror(errno));
        return false;
    }
    close(fd);
    (void)unlink(name);
    return true;
}

static bool write_all(int fd, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t written = write(fd, text, len);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        size_t more = written > 0 ? (size_t)written : 0;
        text += more;
        len -= more;
    }
    return true;
}

// False with errno. Another weir that writes there may have chosen the same ID: no record takes
// another one's place.
static bool give_name(const char *temporary, const struct outgoing *outgoing)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s/%s.json", outgoing->to, outgoing->id);
    int failed = link(temporary, name);
    for (int i = 2; failed && errno == EEXIST && i <= NAMESAKES_MAX; i++) {
        snprintf(name, sizeof name, "%s/%s.%d.json", outgoing->to, outgoing->id, i);
        failed = link(temporary, name);
    }
    return !failed;
}

// False with errno. Who reads the directory finds all of a record or nothing.
static bool write_file(const struct outgoing *outgoing)
{
    char temporary[NAME_BYTES];
    name_temporary(outgoing->to, "tmp", temporary);
    int fd = open_temporary(temporary);
    if (fd < 0) {
        return false;
    }
    bool good = write_all(fd, outgoing->json) && write_all(fd, "\n") && fsync(fd) == 0;
    int error = errno;
    close(fd);
    bool kept = good && give_name(temporary, outgoing);
    error = good ? errno : error;
    (void)unlink(temporary);
    errno = error;
    return kept;
}

// Whether a file is one of ours: 20261124T091500Z-1.json, or -1.2.json. Others are left alone.
static int is_record(const struct dirent *entry)
{
    static const char pattern[] = "00000000T000000Z-0";
    const char *at = entry->d_name;
    for (const char *like = pattern; *like; like++, at++) {
        if (*like == '0' ? !isdigit((unsigned char)*at) : *at != *like) {
            return 0;
        }
    }
    at += strspn(at, "0123456789");
    if (*at == '.' && isdigit((unsigned char)at[1])) {
        at += 1 + strspn(at + 1, "0123456789");
    }
    return strcmp(at, ".json") == 0;
}

// By name, which begins with the time.
static void remove_oldest(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, is_record, versionsort);
    for (int i = 0; i < count; i++) {
        char name[NAME_BYTES];
        if (i < count - ARCHIVE_FILES) {
            snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
            (void)unlink(name);
        }
        free(entries[i]);
    }
    if (count >= 0) {
        free(entries);
    }
}

// --- the archive --------------------------------------------------------------------------------

static void file(void *arg, const struct outgoing *outgoing)
{
    (void)arg;
    bool kept = write_file(outgoing);
    outbox_log(kept ? "exhaustion_kept" : "exhaustion_not_kept", outgoing->id,
               kept ? NULL : strerror(errno));
    if (kept) {
        remove_oldest(outgoing->to);
    }
}

struct archive *archive_new(void)
{
    struct archive *archive = xcalloc(1, sizeof *archive);
    archive->outbox = outbox_new("weir-archive", file, NULL);
    return archive;
}

void archive_keep(struct archive *archive, const char *path, const char *id, const char *json)
{
    if (!outbox_add(archive->outbox, path, NULL, id, json)) {
        outbox_log("exhaustion_not_kept", id, "the disk is too slow");
    }
}

void archive_free(struct archive *archive)
{
    if (archive) {
        outbox_free(archive->outbox);
        free(archive);
    }
}
