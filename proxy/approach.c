// SPDX-License-Identifier: Apache-2.0

#include "proxy/approach.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/config.h"
#include "proxy/glance.h"
#include "proxy/log.h"
#include "proxy/mem.h"

// --- what it is made of -------------------------------------------------------------------------

static uint64_t look_at_identities(uint64_t seen, const struct config_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        for (size_t j = 0; j < entries->items[i].count; j++) {
            const struct config_field *field = &entries->items[i].fields[j];
            seen = glance_text(glance_text(seen, field->name), field->value);
            if (strcmp(field->name, "passwordFile") == 0) {
                seen = glance_file(seen, field->value);
            }
        }
    }
    return seen;
}

static uint64_t look(const struct deployment *deployment, const struct config *identities)
{
    uint64_t seen = look_at_identities(glance_text(0, deployment->uri), &identities->identities);
    seen = glance_file(seen, deployment->tls_ca_file);
    return glance_file(seen, deployment->tls_certificate_key_file);
}

bool approach_is_made_of(const struct approach *approach, const struct config *config,
                         const struct config *identities)
{
    return strcmp(approach->deployment->uri, config->uri) == 0 &&
           approach->made_of == look(approach->deployment, identities);
}

// --- life ---------------------------------------------------------------------------------------

static void dispose(struct approach *approach)
{
    if (approach->identities) {
        identities_free(approach->identities, approach->identity_count);
    }
    if (approach->tls) {
        tls_client_free(approach->tls);
    }
    key_cache_free(approach->keys);
    deployment_free(approach->deployment);
    free(approach);
}

static bool take_uri(struct approach *approach, const char *uri,
                     char ret_error[CONFIG_REASON_BYTES])
{
    approach->deployment = deployment_parse(uri, ret_error, CONFIG_REASON_BYTES);
    return approach->deployment != NULL;
}

static bool read_tls(struct approach *approach, char ret_error[CONFIG_REASON_BYTES])
{
    const struct deployment *deployment = approach->deployment;
    if (deployment->tls) {
        approach->tls = tls_client_new(&deployment->tls_options, ret_error, CONFIG_REASON_BYTES);
    }
    return approach->tls || !deployment->tls;
}

static bool read_identities(struct approach *approach, const struct config *config, char *ret_error,
                            size_t capacity)
{
    approach->identity_count = config->identities.count;
    approach->identities = identities_new(config, ret_error, capacity);
    return approach->identities != NULL;
}

struct approach *approach_new(const struct config *config, const struct config *identities,
                              char *ret_error, size_t capacity)
{
    char error[CONFIG_REASON_BYTES];
    struct approach *approach = xcalloc(1, sizeof *approach);
    atomic_init(&approach->references, 1);
    approach->keys = key_cache_new();
    bool good = take_uri(approach, config->uri, error);
    if (good) { // before files are read: later changes are seen
        approach->made_of = look(approach->deployment, identities);
    }
    if (!good || !read_tls(approach, error)) {
        config_blame(config, CONFIG_OPTION_uri, error, ret_error, capacity);
    } else if (read_identities(approach, identities, ret_error, capacity)) {
        return approach;
    }
    dispose(approach);
    return NULL;
}

struct approach *approach_keep(struct approach *approach)
{
    atomic_fetch_add(&approach->references, 1);
    return approach;
}

void approach_drop(struct approach *approach)
{
    struct log_line line;
    if (!approach || atomic_fetch_sub(&approach->references, 1) > 1) {
        return;
    }
    if (approach->is_former) {
        log_begin(&line, LOG_INFO, "former_login_unused");
        log_end(&line);
    }
    dispose(approach);
}
