// SPDX-License-Identifier: Apache-2.0
//
// libmongoc has one handler for all it complains of, on whichever thread.
#include "proxy/control/library.h"

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proxy/log.h"

static _Thread_local struct {
    char *text;
    size_t capacity;
} overheard;

// libmongoc says the same at each attempt to connect.
static bool is_repeated(const char *message)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static char last[512];
    pthread_mutex_lock(&lock);
    bool repeated = strncmp(last, message, sizeof last - 1) == 0;
    snprintf(last, sizeof last, "%s", message);
    pthread_mutex_unlock(&lock);
    return repeated;
}

// A client that is closed after its server has gone: sessions end there by themselves.
static bool is_of_no_use(const char *message)
{
    return strstr(message, "endSessions") != NULL;
}

static void on_complaint(mongoc_log_level_t level, const char *domain, const char *message,
                         void *arg)
{
    (void)domain, (void)arg;
    if (level > MONGOC_LOG_LEVEL_WARNING || is_of_no_use(message)) {
        return;
    }
    if (overheard.text != NULL) {
        size_t used = strlen(overheard.text);
        snprintf(overheard.text + used, overheard.capacity - used, "%s%s", used > 0 ? "; " : "",
                 message);
        return;
    }
    if (is_repeated(message)) {
        return;
    }
    struct log_line line;
    log_begin(&line, LOG_WARN, "libmongoc");
    log_str(&line, "message", message);
    log_end(&line);
}

static void init_once(void)
{
    mongoc_log_set_handler(on_complaint, NULL);
    mongoc_init();
}

void library_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

void library_overhear(char *text, size_t capacity)
{
    overheard.text = text;
    overheard.capacity = capacity;
    if (text != NULL) {
        text[0] = '\0';
    }
}
