// SPDX-License-Identifier: Apache-2.0
//
// What a new configuration says otherwise than the one that runs.

#ifndef PROXY_CONFIG_CHANGES_H
#define PROXY_CONFIG_CHANGES_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/config.h"

// Writes the names of the settings that differ, with commas between them, "" if none does; cuts at
// capacity. Without those that a reload takes over: the column `reloadable` of config_table.h, and
// the rules and, if they can be taken over, the users.
void config_changes_need_restart(const struct config *running, const struct config *fresh,
                                 char *ret_names, size_t capacity);

// Whether the users can be taken over: if it stays who logs in at all, and as whom weir does.
bool config_changes_keep_logins(const struct config *running, const struct config *fresh);

// Whether, with what a reload takes over, people on other machines could come in without saying who
// they are, which the running configuration does not allow. What a new one says of addresses and
// permissions is not taken over, and excuses nothing.
bool config_changes_open_a_door(const struct config *running, const struct config *fresh);

#endif
