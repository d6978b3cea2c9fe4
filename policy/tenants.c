// SPDX-License-Identifier: Apache-2.0

#include "policy/tenants.h"

#include <stdio.h>
#include <string.h>

static int first_of(uint64_t id)
{
    return 1 + (int)(id % TENANTS_SETS) * TENANTS_WAYS;
}

static bool is_free(const struct tenant_use *use, int64_t now_us)
{
    return use->name[0] == '\0' ||
           (use->under_way == 0 && now_us - use->came_us >= TENANTS_LAPSE_US);
}

// Never used before lapsed, the longest lapsed first; the others' if none is free.
static int find_free(const struct tenants *tenants, uint64_t id, int64_t now_us)
{
    int found = TENANTS_OTHERS;
    int first = first_of(id);
    for (int i = first; i < first + TENANTS_WAYS; i++) {
        const struct tenant_use *use = &tenants->uses[i];
        if (is_free(use, now_us) &&
            (found == TENANTS_OTHERS || use->came_us < tenants->uses[found].came_us)) {
            found = i;
        }
    }
    return found;
}

static int find_name(const struct tenants *tenants, const char *name)
{
    int place = TENANTS_PLACES - 1;
    while (place > TENANTS_OTHERS && strcmp(tenants->uses[place].name, name) != 0) {
        place--;
    }
    return place;
}

static int take_place(struct tenants *tenants, uint64_t id, const char *name, int64_t now_us)
{
    int place = find_free(tenants, id, now_us);
    int namesake = place == TENANTS_OTHERS ? TENANTS_OTHERS : find_name(tenants, name);
    if (place == TENANTS_OTHERS || namesake != TENANTS_OTHERS) {
        return namesake;
    }
    struct tenant_use *use = &tenants->uses[place];
    tenants_add(&tenants->uses[TENANTS_OTHERS], use);
    *use = (struct tenant_use){.id = id};
    snprintf(use->name, sizeof use->name, "%s", name);
    return place;
}

static int find_place(const struct tenants *tenants, uint64_t id)
{
    int first = first_of(id);
    for (int i = first; i < first + TENANTS_WAYS; i++) {
        if (tenants->uses[i].id == id && tenants->uses[i].name[0] != '\0') {
            return i;
        }
    }
    return TENANTS_OTHERS;
}

int tenants_place(struct tenants *tenants, uint64_t id, const char *name, int64_t now_us)
{
    int place = name[0] == '\0' ? TENANTS_OTHERS : find_place(tenants, id);
    if (place == TENANTS_OTHERS && name[0] != '\0') {
        place = take_place(tenants, id, name, now_us);
    }
    tenants->uses[place].came_us = now_us;
    return place;
}

bool tenants_rest(const struct tenants *tenants)
{
    int place = 0;
    while (place < TENANTS_PLACES && tenants->uses[place].under_way == 0) {
        place++;
    }
    return place == TENANTS_PLACES;
}

void tenants_mark(struct tenants *tenants)
{
    for (int place = 0; place < TENANTS_PLACES; place++) {
        struct tenant_use *use = &tenants->uses[place];
        int64_t *then_us = use->held_then_us;
        memmove(then_us + 1, then_us, (TENANTS_MARKS - 1) * sizeof *then_us);
        then_us[0] = use->held_us;
    }
}

int64_t tenants_held_lately_us(const struct tenant_use *use)
{
    return use->held_us - use->held_then_us[TENANTS_MARKS - 1];
}

void tenants_add(struct tenant_use *to, const struct tenant_use *from)
{
    to->under_way += from->under_way;
    to->served += from->served;
    to->shed += from->shed;
    to->held_us += from->held_us;
    for (int i = 0; i < TENANTS_MARKS; i++) {
        to->held_then_us[i] += from->held_then_us[i];
    }
}
