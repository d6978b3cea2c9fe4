// SPDX-License-Identifier: Apache-2.0
//
// The app that `weir exec` runs: it is given weir's address in place of the deployment's, its
// signals are passed on, and its exit status is weir's.

#ifndef PROXY_APP_H
#define PROXY_APP_H

#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#define APP_URI_VARIABLE "MONGODB_URI"
#define APP_URI_BYTES 4096

struct app {
    char **argv;              // NULL: there is none
    const char *variable;     // where it looks for its URI, beside MONGODB_URI
    pid_t pid;                // 0: it does not run
    struct rlimit core_limit; // that weir was started with
    int status;               // when it has ended, as a shell has it: 128 + n for a signal
};

// What the app is to connect to: weir's address, with the database of the deployment's URI and
// those of its options that are the app's affair. False: it does not fit.
bool app_uri(const char *upstream, const char *address, char *ret_uri, size_t capacity)
    __attribute__((warn_unused_result));

// For a process that gets none of our blocked or ignored signals. It is the caller's to destroy.
void app_spawn_unsignalled(posix_spawnattr_t *ret_how);

// Runs it. False: it cannot be run; its status is 127 if there is no such command, else 126.
bool app_start(struct app *app, const char *uri) __attribute__((warn_unused_result));

// Takes leave of all children that have ended: as the first process of a container weir has also
// those that nobody knows. Returns whether the app was among them.
bool app_reap(struct app *app);

// Passes a signal on, unless the app got it as well: from the terminal, or from Heroku, which
// sends SIGTERM to every process of a dyno.
void app_forward(const struct app *app, const siginfo_t *info);

#endif
