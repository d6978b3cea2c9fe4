// SPDX-License-Identifier: Apache-2.0
#include "proxy/control/library.h"

#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "proxy/log.h"

static _Thread_local struct {
    char *text;
    size_t capacity;
} overheard;

static void on_complaint(mongoc_log_level_t level, const char *domain, const char *message, void *arg)
{
    (void)domain, (void)arg;
    if (level > MONGOC_LOG_LEVEL_WARNING)
        return;
    if (overheard.text != NULL) {
        size_t used = strlen(overheard.text);
        snprintf(overheard.text + used, overheard.capacity - used, "%s%s", used > 0 ? "; " : "",
                 message);
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
    if (text != NULL)
        text[0] = '\0';
}
