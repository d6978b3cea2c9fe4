// SPDX-License-Identifier: Apache-2.0
//
// libmongoc's programs behind test_drivers.py and test_shedding.py, by argument "checks" or
// "shedding". ../README.md has the lines they print.

#include "programs.h"

#include <mongoc/mongoc.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    mongoc_init();
    if (strcmp(argv[1], "checks") == 0)
        checks_run();
    else
        shedding_run();
    mongoc_cleanup();
}
