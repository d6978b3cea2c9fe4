// SPDX-License-Identifier: Apache-2.0
//
// What a new configuration says otherwise than the one that runs.

#ifndef PROXY_RELOAD_H
#define PROXY_RELOAD_H

#include <stddef.h>

#include "proxy/config.h"

// Writes the names of the settings that differ, with commas between them, "" if none does; cuts at
// capacity. Without those that a reload takes over: the column `reloadable` of config_table.h, and
// the rules.
void reload_needs_restart(const struct config *running, const struct config *fresh, char *ret_names,
                          size_t capacity);

#endif
