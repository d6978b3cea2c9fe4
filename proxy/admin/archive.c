// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/archive.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/log.h"
#include "proxy/mem.h"

enum { QUEUED_MAX = 64, ID_BYTES = 48, NAME_BYTES = PATH_MAX + 64 };

struct filing {
    const char *path;
    char id[ID_BYTES];
    char *json;
};

struct archive {
    pthread_t thread;
    pthread_mutex_t lock; // guards the rest
    pthread_cond_t changed;
    struct filing queue[QUEUED_MAX]; // a ring
    size_t first;
    size_t count;
    bool ending;
};

// --- files --------------------------------------------------------------------------------------

// One for each process: what one that was killed leaves behind is not many files.
static void name_temporary(const char *path, const char *what, char ret_name[NAME_BYTES])
{
    snprintf(ret_name, NAME_BYTES, "%s/.weir-%ld.%s", path, (long)getpid(), what);
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

// False with errno. Who reads the directory finds all of a record or nothing.
static bool write_file(const struct filing *filing)
{
    char temporary[NAME_BYTES];
    char name[NAME_BYTES];
    name_temporary(filing->path, "tmp", temporary);
    snprintf(name, sizeof name, "%s/%s.json", filing->path, filing->id);
    int fd = open_temporary(temporary);
    if (fd < 0) {
        return false;
    }
    bool good = write_all(fd, filing->json) && write_all(fd, "\n") && fsync(fd) == 0;
    int error = errno;
    close(fd);
    if (good && rename(temporary, name) == 0) {
        return true;
    }
    error = good ? errno : error;
    (void)unlink(temporary);
    errno = error;
    return false;
}

// Whether a file is one of ours: 20261124T091500Z-1.json. Others are left alone.
static int is_record(const struct dirent *entry)
{
    static const char pattern[] = "00000000T000000Z-0";
    const char *at = entry->d_name;
    for (const char *like = pattern; *like; like++, at++) {
        if (*like == '0' ? !isdigit((unsigned char)*at) : *at != *like) {
            return 0;
        }
    }
    return strcmp(at + strspn(at, "0123456789"), ".json") == 0;
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

// --- the thread ---------------------------------------------------------------------------------

static void log_filing(enum log_level level, const char *event, const char *id, const char *reason)
{
    struct log_line line;
    log_begin(&line, level, event);
    log_str(&line, "id", id);
    log_str(&line, "reason", reason);
    log_end(&line);
}

static void file(const struct filing *filing)
{
    if (write_file(filing)) {
        remove_oldest(filing->path);
        log_filing(LOG_INFO, "exhaustion_kept", filing->id, NULL);
    } else {
        log_filing(LOG_WARN, "exhaustion_not_kept", filing->id, strerror(errno));
    }
}

// False: there is no more to come.
static bool take(struct archive *archive, struct filing *ret_filing)
{
    pthread_mutex_lock(&archive->lock);
    while (archive->count == 0 && !archive->ending) {
        pthread_cond_wait(&archive->changed, &archive->lock);
    }
    bool taken = archive->count > 0;
    if (taken) {
        *ret_filing = archive->queue[archive->first];
        archive->first = (archive->first + 1) % QUEUED_MAX;
        archive->count--;
    }
    pthread_mutex_unlock(&archive->lock);
    return taken;
}

static void *run(void *arg)
{
    struct archive *archive = arg;
    struct filing filing;
    while (take(archive, &filing)) {
        file(&filing);
        free(filing.json);
    }
    return NULL;
}

struct archive *archive_new(void)
{
    struct archive *archive = xcalloc(1, sizeof *archive);
    pthread_mutex_init(&archive->lock, NULL);
    pthread_cond_init(&archive->changed, NULL);
    int error = pthread_create(&archive->thread, NULL, run, archive);
    assert(error == 0);
    (void)error;
    return archive;
}

void archive_keep(struct archive *archive, const char *path, const char *id, const char *json)
{
    pthread_mutex_lock(&archive->lock);
    bool room = archive->count < QUEUED_MAX;
    if (room) {
        struct filing *filing = &archive->queue[(archive->first + archive->count++) % QUEUED_MAX];
        size_t bytes = strlen(json) + 1;
        filing->path = path;
        snprintf(filing->id, sizeof filing->id, "%s", id);
        filing->json = memcpy(xcalloc(1, bytes), json, bytes);
        pthread_cond_signal(&archive->changed);
    }
    pthread_mutex_unlock(&archive->lock);
    if (!room) {
        log_filing(LOG_WARN, "exhaustion_not_kept", id, "the disk is too slow");
    }
}

void archive_free(struct archive *archive)
{
    if (!archive) {
        return;
    }
    pthread_mutex_lock(&archive->lock);
    archive->ending = true;
    pthread_cond_signal(&archive->changed);
    pthread_mutex_unlock(&archive->lock);
    pthread_join(archive->thread, NULL);
    pthread_mutex_destroy(&archive->lock);
    pthread_cond_destroy(&archive->changed);
    free(archive);
}
