// SPDX-License-Identifier: Apache-2.0
//
// The configuration read anew, and put in the place of the one that runs: whole or not at all. On
// the main thread, but for what says otherwise.
//
//      on a thread: file, variables, flags -- config_load --> checked as a start would --> what
//      needs a restart keeps its running value --> made: certificates, users, addresses, a login
//      here: made: listeners, rules --> shared.config
//
// What may fail is done before the first of it is seen, and what may block is no matter of the main
// thread, which feeds the watchdog. Whoever reads a setting at each use reads
// the newest configuration; servers, gates and rules are told.

#ifndef PROXY_RELOAD_H
#define PROXY_RELOAD_H

#include <stdbool.h>

#include "proxy/config.h"

struct weir;

// Before the configuration's files are opened for the first time.
void reload_init(struct weir *weir);

// Begins one, or has another one follow that which is under way; the log says what came of it, and
// whoever ordered it is told.
void reload(struct weir *weir);

// Whether one was ordered that has not begun.
bool reload_is_wanted(const struct weir *weir);

// Takes over what is ready: at each wake-up.
void reload_go_on(struct weir *weir);

// Gives up what is under way. False: it still holds something of the weir.
bool reload_end(struct weir *weir);

// The configuration in force.
const struct config *reload_latest(const struct weir *weir);

// Whether there are files to look at, and looks: reads certificates anew whose files have changed,
// and, if it is asked for, the configuration's. To be called every RELOAD_LOOK_US or more often.
bool reload_watches(const struct weir *weir);
void reload_watch_files(struct weir *weir);
#define RELOAD_LOOK_US 2000000

// On the rulebook's thread: the part of it that a reload under way waits for, if there is one.
void reload_read_rules(struct weir *weir);

#endif
