// SPDX-License-Identifier: Apache-2.0
//
// The whole proxy, put together: configuration, deployment, control, workers, listeners.

#ifndef PROXY_WEIR_H
#define PROXY_WEIR_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/app.h"
#include "proxy/config.h"

// Where the configuration came from, and comes from again when it is to be read anew (SIGHUP).
// Borrowed.
struct weir_source {
    const struct config *config;
    int argc;
    char *const *argv;
};

// Runs until SIGTERM, after which it drains, or SIGINT; a second one ends it at once. Returns the
// process's exit status: 0 after an orderly end, 2 if the configuration cannot be carried out (one
// line on stderr says why).
//
// With an app, runs that as soon as weir is ready, and ends after it; the status is the app's.
int weir_run(struct weir_source source, struct app *app);

// Whether a configuration could be carried out on this machine: the URI parses, certificates load
// and match, addresses resolve. False with one line in ret_error.
bool weir_check(const struct config *config, char *ret_error, size_t error_capacity);

#endif
