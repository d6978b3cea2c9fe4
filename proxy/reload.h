// SPDX-License-Identifier: Apache-2.0
//
// The configuration read anew, and put in the place of the one that runs: whole or not at all. On
// the main thread, but for what says otherwise.

#ifndef PROXY_RELOAD_H
#define PROXY_RELOAD_H

#include <stdint.h>

#include "proxy/config.h"

struct weir;

// Logs what came of it, and leaves it in weir->said.
void reload(struct weir *weir);

// The configuration as it was last read.
const struct config *reload_latest(const struct weir *weir);

// Reads the certificates anew if their files have changed. To be called at every
// RELOAD_LOOK_US or more often.
void reload_watch_files(struct weir *weir);
#define RELOAD_LOOK_US 2000000

// What the certificates' files are like: another number when one was replaced or written to.
uint64_t reload_look_at_files(const struct config *config);

// On the rulebook's thread: the part of it that a reload under way waits for, if there is one.
void reload_read_rules(struct weir *weir);

#endif
