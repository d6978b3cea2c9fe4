// SPDX-License-Identifier: Apache-2.0
//
// The commands weir knows by name, and what it must know of each. A name that is not here is
// "other": passed on, treated as a write whose outcome is unknown when its connection is lost.

#ifndef WIRE_COMMAND_TABLE_H
#define WIRE_COMMAND_TABLE_H

#include "wire/bytes.h"

enum command_trait {
    COMMAND_READ = 1 << 0,       // changes no data (an aggregate may: see command's writes_out)
    COMMAND_WRITE = 1 << 1,      // may change data
    COMMAND_LOCAL = 1 << 2,      // weir answers it itself
    COMMAND_HELLO = 1 << 3,      // hello in one of its three names
    COMMAND_FINISHES = 1 << 4,   // frees what is held in the deployment: first, and never shed
    COMMAND_NAMESPACED = 1 << 5, // its first element's string is a collection
    COMMAND_CURSOR = 1 << 6,     // its reply may leave a cursor open
    COMMAND_ON_PRIMARY = 1 << 7, // for the primary, although it reads and whatever it prefers
    COMMAND_PLAIN = 1 << 8,      // never compressed: holds a secret, or comes before the agreement
    COMMAND_TIMED = 1 << 9,      // works on data: may be given a maxTimeMS, and killed without harm
};

struct command_info {
    const char *name;
    unsigned traits; // enum command_trait
    int index;       // 0 to COMMAND_COUNT-1, dense: for tables by command. 0 is "other"
};

extern const int COMMAND_COUNT;

// The entry for a name (case counts, as in a server), or the entry "other". Never NULL. Takes no
// longer with more commands, but for those of the same length.
const struct command_info *command_lookup(struct bytes name);

// The entry of an index from 0 to COMMAND_COUNT-1.
const struct command_info *command_at(int index);

#endif
