// SPDX-License-Identifier: Apache-2.0

#include "proxy/glance.h"

#include <sys/stat.h>

static uint64_t mix(uint64_t seen, int64_t fact)
{
    return (seen ^ (uint64_t)fact) * UINT64_C(0x9e3779b97f4a7c15);
}

uint64_t glance_text(uint64_t seen, const char *text)
{
    for (const char *c = text ? text : ""; *c; c++) {
        seen = mix(seen, *c);
    }
    return mix(seen, text ? 0 : 1);
}

uint64_t glance_file(uint64_t seen, const char *path)
{
    struct stat file;
    if (!path || stat(path, &file) != 0) {
        return mix(seen, 0);
    }
    seen = mix(mix(seen, (int64_t)file.st_ino), (int64_t)file.st_size);
    return mix(mix(seen, file.st_mtim.tv_sec), file.st_mtim.tv_nsec);
}
