// SPDX-License-Identifier: Apache-2.0
//
// What a new configuration says otherwise than the one that runs: what a reload takes over (the
// column `reloadable` of config_table.h), and what needs a restart.

#ifndef PROXY_CONFIG_CHANGES_H
#define PROXY_CONFIG_CHANGES_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/config.h"

// Calls each for every setting that a reload takes over and that differs, with its name in the file
// and both values as a user would write them; "" if there is none. The texts live for the call.
void config_changes_each(const struct config *running, const struct config *fresh,
                         void (*each)(void *context, const char *name, const char *former,
                                      const char *value),
                         void *context);

// Whether the identities can be taken over: if they have the same names in the same order.
bool config_changes_keep_identities(const struct config *running, const struct config *fresh);

// Whether the users can be taken over: if it stays who logs in at all, and the identities can.
bool config_changes_keep_logins(const struct config *running, const struct config *fresh);

// Gives the new configuration the running one's values where a reload does not take a setting over.
// Writes the names of those that differ, and of users and identities if they cannot be taken over,
// with commas between them, "" if none does; cuts at capacity.
void config_changes_keep(const struct config *running, struct config *fresh, char *ret_names,
                         size_t capacity);

#endif
