// SPDX-License-Identifier: Apache-2.0

#include "proxy/app.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/mem.h"

enum { CANNOT_BE_RUN = 126, NOT_FOUND = 127, SIGNALLED = 128 };

// --- its URI ------------------------------------------------------------------------------------

// The rest say how to reach the deployment, and as whom.
static bool is_for_the_app(const char *option, size_t length)
{
    static const char *const names[] = {
        "appName",
        "connectTimeoutMS",
        "heartbeatFrequencyMS",
        "journal",
        "maxConnecting",
        "maxIdleTimeMS",
        "maxPoolSize",
        "maxStalenessSeconds",
        "minPoolSize",
        "readConcernLevel",
        "readPreference",
        "readPreferenceTags",
        "retryReads",
        "retryWrites",
        "serverSelectionTimeoutMS",
        "socketTimeoutMS",
        "timeoutMS",
        "uuidRepresentation",
        "w",
        "waitQueueTimeoutMS",
        "wtimeoutMS",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) == length && strncasecmp(names[i], option, length) == 0) {
            return true;
        }
    }
    return false;
}

static bool put(char *uri, size_t capacity, const char *text, size_t length)
{
    size_t used = strlen(uri);
    if (length >= capacity - used) {
        return false;
    }
    memcpy(uri + used, text, length);
    uri[used + length] = '\0';
    return true;
}

bool app_uri(const char *upstream, const char *address, char *ret_uri, size_t capacity)
{
    const char *scheme = strstr(upstream, "://");
    const char *hosts = scheme ? scheme + 3 : upstream;
    const char *path = hosts + strcspn(hosts, "/?");
    size_t length = strcspn(path, "?");
    const char *option = path + length;
    int begun = snprintf(ret_uri, capacity, "mongodb://%s", address);
    bool fits = begun > 0 && (size_t)begun < capacity &&
                put(ret_uri, capacity, length > 0 ? path : "/", length > 0 ? length : 1);
    for (char sign = '?'; fits && *option != '\0'; option += length) {
        option++;
        length = strcspn(option, "&");
        if (is_for_the_app(option, strcspn(option, "=&"))) {
            fits = put(ret_uri, capacity, &sign, 1) && put(ret_uri, capacity, option, length);
            sign = '&';
        }
    }
    return fits;
}

// --- its life -----------------------------------------------------------------------------------

static bool is_named(const char *variable, const char *name)
{
    size_t length = strlen(name);
    return strncmp(variable, name, length) == 0 && variable[length] == '=';
}

// What was said to weir alone.
static bool is_ours(const struct app *app, const char *variable)
{
    static const char *const names[] = {
        APP_URI_VARIABLE, "WEIR_URI",   "NOTIFY_SOCKET", "WATCHDOG_USEC",
        "WATCHDOG_PID",   "LISTEN_FDS", "LISTEN_PID",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (is_named(variable, names[i])) {
            return true;
        }
    }
    return is_named(variable, app->variable);
}

static char *set_variable(const char *name, const char *value)
{
    size_t bytes = strlen(name) + strlen(value) + 2;
    char *variable = xmalloc(bytes);
    snprintf(variable, bytes, "%s=%s", name, value);
    return variable;
}

void app_spawn_unsignalled(posix_spawnattr_t *ret_how)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(ret_how);
    posix_spawnattr_setsigmask(ret_how, &none);
    posix_spawnattr_setsigdefault(ret_how, &all);
    posix_spawnattr_setflags(ret_how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int spawn(struct app *app, char **environment)
{
    posix_spawnattr_t how;
    app_spawn_unsignalled(&how);
    struct rlimit ours;
    (void)getrlimit(RLIMIT_CORE, &ours);
    (void)setrlimit(RLIMIT_CORE, &app->core_limit);
    int error = posix_spawnp(&app->pid, app->argv[0], NULL, &how, app->argv, environment);
    (void)setrlimit(RLIMIT_CORE, &ours);
    posix_spawnattr_destroy(&how);
    return error;
}

bool app_start(struct app *app, const char *uri)
{
    size_t count = 0;
    while (environ[count]) {
        count++;
    }
    char **environment = xcalloc(count + 3, sizeof *environment);
    char *own[] = {set_variable(APP_URI_VARIABLE, uri), set_variable(app->variable, uri)};
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (!is_ours(app, environ[i])) {
            environment[kept++] = environ[i];
        }
    }
    environment[kept++] = own[0];
    if (strcmp(app->variable, APP_URI_VARIABLE) != 0) {
        environment[kept] = own[1];
    }
    int error = spawn(app, environment);
    if (error != 0) {
        fprintf(stderr, "weir exec: %s: %s\n", app->argv[0], strerror(error));
        app->pid = 0;
        app->status = error == ENOENT ? NOT_FOUND : CANNOT_BE_RUN;
    }
    free(own[0]);
    free(own[1]);
    free(environment);
    return error == 0;
}

bool app_reap(struct app *app)
{
    bool ended = false;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == app->pid) {
            app->status = WIFEXITED(status) ? WEXITSTATUS(status) : SIGNALLED + WTERMSIG(status);
            app->pid = 0;
            ended = true;
        }
    }
    return ended;
}

void app_forward(const struct app *app, const siginfo_t *info)
{
    bool from_terminal = info->si_code == SI_KERNEL;
    bool from_heroku = info->si_signo == SIGTERM && getenv("DYNO");
    if (!from_terminal && !from_heroku) {
        (void)kill(app->pid, info->si_signo);
    }
}
