// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/gather.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proxy/admin/chronicle.h"
#include "proxy/admin/log_lines.h"
#include "proxy/admin/spread.h"
#include "proxy/failure.h"
#include "proxy/fleet.h"
#include "proxy/mem.h"
#include "proxy/net/tls.h"
#include "proxy/request.h"
#include "proxy/trouble.h"

#define COPIED_AT_ONCE 128 // under a lock

static const char *shown_name(const struct server *server)
{
    return server->name[0] ? server->name : "(none)";
}

// --- totals -------------------------------------------------------------------------------------

static double cpu_seconds(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

// The second number of statm, in pages.
static int64_t resident_bytes(void)
{
    char line[128] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    if (file) {
        (void)!fgets(line, sizeof line, file);
        fclose(file);
    }
    const char *second = strchr(line, ' ');
    return second ? strtoll(second, NULL, 10) * sysconf(_SC_PAGESIZE) : 0;
}

static int64_t open_files(void)
{
    int64_t count = -3; // "." and "..", and the directory itself
    DIR *directory = opendir("/proc/self/fd");
    if (!directory) {
        return 0;
    }
    while (readdir(directory)) {
        count++;
    }
    closedir(directory);
    return count;
}

static void append_closed(const struct gathering *gathering, bson_t *document)
{
    for (int reason = 0; reason < CLOSE_REASON_COUNT; reason++) {
        uint64_t count = 0;
        for (int i = 0; i < gathering->worker_count; i++) {
            count += atomic_load(&gathering->workers[i]->closed[reason]);
        }
        state_append_int(document, close_reason_text((enum close_reason)reason), (int64_t)count);
    }
}

static void append_failed(const struct gathering *gathering, bson_t *document)
{
    for (int failure = FAILURE_NONE + 1; failure < FAILURE_COUNT; failure++) {
        uint64_t count = 0;
        for (int i = 0; i < gathering->worker_count; i++) {
            count += atomic_load(&gathering->workers[i]->failed[failure]);
        }
        state_append_int(document, failure_text((enum request_failure)failure), (int64_t)count);
    }
}

static void gather_totals(const struct gathering *gathering, struct picture *picture)
{
    const struct emergency *emergency = &gathering->emergency;
    struct shared *shared = gathering->shared;
    struct row row;
    bson_t counts;
    row_begin(&row, picture, STATE_totals);
    row_text(&row, STATE_totals__id, "weir");
    row_text(&row, STATE_totals_version, WEIR_VERSION);
    row_int(&row, STATE_totals_pid, getpid());
    row_real(&row, STATE_totals_startTime, gathering->start_time);
    row_real(&row, STATE_totals_cpuTime, cpu_seconds());
    row_int(&row, STATE_totals_residentMemory, resident_bytes());
    row_int(&row, STATE_totals_openFiles, open_files());
    row_int(&row, STATE_totals_threads, gathering->worker_count);
    row_int(&row, STATE_totals_clients,
            workers_count_clients(gathering->workers, gathering->worker_count));
    row_int(&row, STATE_totals_accepted, (int64_t)atomic_load(&shared->next_client_id) - 1);
    row_open(&row, STATE_totals_closed, &counts);
    append_closed(gathering, &counts);
    row_close(&row, &counts);
    row_open(&row, STATE_totals_failed, &counts);
    append_failed(gathering, &counts);
    row_close(&row, &counts);
    row_bool(&row, STATE_totals_emergency, emergency->on);
    row_text(&row, STATE_totals_emergencyWhy, emergency->why);
    row_seconds(&row, STATE_totals_emergencyEndsIn,
                emergency->ends_us > gathering->now_us ? emergency->ends_us - gathering->now_us
                                                       : 0);
    row_bool(&row, STATE_totals_draining, atomic_load(&gathering->shared->draining));
    row_bool(&row, STATE_totals_paused, servers_are_paused(shared->servers));
    row_int(&row, STATE_totals_upstreams, atomic_load(&shared->servers->open_total));
    row_int(&row, STATE_totals_pins, (int64_t)affinity_count(&shared->affinity));
    row_int(&row, STATE_totals_buffered, (int64_t)atomic_load(&shared->budget.used));
    row_int(&row, STATE_totals_bufferedMax, (int64_t)shared->budget.limit);
    row_real(&row, STATE_totals_certificateExpiry,
             shared->tls_server ? (double)tls_server_expiry(shared->tls_server) : 0);
    row_end(&row);
}

// --- of each server -----------------------------------------------------------------------------

static void append_refused(const struct gate_counts *gate, bson_t *document)
{
    for (int i = 0; i < REFUSAL_COUNT; i++) {
        state_append_int(document, refusal_text((enum refusal)i), (int64_t)gate->refused[i]);
    }
}

static void put_connections(struct row *row, const struct server *server,
                            const struct server_counts *counts)
{
    row_int(row, STATE_servers_cap, counts->cap);
    row_int(row, STATE_servers_open, counts->open);
    row_int(row, STATE_servers_opening, counts->opening);
    row_int(row, STATE_servers_idle, counts->idle);
    row_int(row, STATE_servers_opened, (int64_t)counts->opened);
    row_int(row, STATE_servers_openFailures, (int64_t)counts->open_failures);
    row_int(row, STATE_servers_lost, (int64_t)atomic_load(&server->lost));
}

static void put_gate(struct row *row, const struct gate_counts *gate, int waiters)
{
    bson_t refused;
    row_int(row, STATE_servers_limit, gate->limit);
    row_int(row, STATE_servers_inFlight, gate->in_flight);
    row_int(row, STATE_servers_inFlightSlow, gate->in_flight_slow);
    row_int(row, STATE_servers_slowLimit, gate->slow_limit);
    row_int(row, STATE_servers_inFlightStreams, gate->in_flight_streams);
    row_int(row, STATE_servers_waiting, (int64_t)gate->queued);
    row_int(row, STATE_servers_waitingForUpstream, waiters);
    row_seconds(row, STATE_servers_longestWait, gate->longest_wait_us);
    row_int(row, STATE_servers_granted, (int64_t)gate->granted);
    row_int(row, STATE_servers_queued, (int64_t)gate->queued_ever);
    row_open(row, STATE_servers_refused, &refused);
    append_refused(gate, &refused);
    row_close(row, &refused);
}

// Where a visit to each server puts what it finds.
struct visit {
    const struct gathering *gathering;
    struct picture *picture;
    void (*put)(struct server *server, const struct visit *visit);
};

static void put_server(struct server *server, const struct visit *visit)
{
    struct server_counts counts;
    char trouble[TROUBLE_BYTES];
    struct row row;
    server_count(server, visit->gathering->now_us, &counts);
    row_begin(&row, visit->picture, STATE_servers);
    row_text(&row, STATE_servers__id, shown_name(server));
    row_text(&row, STATE_servers_kind, server_kind_name(counts.kind));
    row_bool(&row, STATE_servers_usable, counts.known && !counts.failing);
    row_bool(&row, STATE_servers_failing, counts.failing);
    trouble_say(&counts, trouble);
    row_text(&row, STATE_servers_trouble, trouble);
    row_bool(&row, STATE_servers_tripped, atomic_load(&server->pulse.tripped_until_us) > 0);
    row_real(&row, STATE_servers_slowness, counts.gate.slowness);
    row_bool(&row, STATE_servers_exhausted, counts.exhausted);
    row_int(&row, STATE_servers_exhaustions, (int64_t)counts.exhaustions);
    put_connections(&row, server, &counts);
    put_gate(&row, &counts.gate, counts.waiters);
    row_seconds(&row, STATE_servers_roundTrip, atomic_load(&server->pulse.rtt_us));
    row_seconds(&row, STATE_servers_lag, atomic_load(&server->pulse.lag_ms) * 1000);
    row_end(&row);
}

static void sum_times(const struct visit *visit, const struct server *server,
                      enum traffic_class class, enum measure measure, struct spread *ret_spread)
{
    *ret_spread = (struct spread){0};
    for (int i = 0; i < visit->gathering->worker_count; i++) {
        spread_add(ret_spread, &server->traffic[i].classes[class].times[measure]);
    }
}

static void put_spread(struct row *row, enum state_field field, const struct spread *spread)
{
    bson_t document;
    row_open(row, field, &document);
    spread_append(spread, &document);
    row_close(row, &document);
}

static void put_times(const struct visit *visit, const struct server *server,
                      enum traffic_class class)
{
    struct spread spreads[TRAFFIC_TIMES];
    uint64_t bytes = 0;
    char id[320];
    for (int i = 0; i < TRAFFIC_TIMES; i++) {
        sum_times(visit, server, class, (enum measure)i, &spreads[i]);
    }
    for (int i = 0; i < visit->gathering->worker_count; i++) {
        bytes += atomic_load(&server->traffic[i].classes[class].bytes);
    }
    struct row row;
    snprintf(id, sizeof id, "%s %s", traffic_class_text(class), shown_name(server));
    row_begin(&row, visit->picture, STATE_times);
    row_text(&row, STATE_times__id, id);
    row_text(&row, STATE_times_server, shown_name(server));
    row_text(&row, STATE_times_class, traffic_class_text(class));
    row_int(&row, STATE_times_bytes, (int64_t)bytes);
    put_spread(&row, STATE_times_wait, &spreads[MEASURE_WAITED_US]);
    put_spread(&row, STATE_times_service, &spreads[MEASURE_SERVED_US]);
    put_spread(&row, STATE_times_total, &spreads[MEASURE_TOTAL_US]);
    row_end(&row);
}

static void put_all_times(struct server *server, const struct visit *visit)
{
    for (int i = 0; i < TRAFFIC_CLASS_COUNT && server->id != 0; i++) {
        put_times(visit, server, (enum traffic_class)i);
    }
}

static void put_shape(const struct visit *visit, const struct server *server,
                      const struct shape_copy *shape, const struct recorder_span *lately)
{
    char id[320];
    struct row row;
    const struct recorder_sum_share *share =
        recorder_find(lately->shapes, lately->shape_count, shape->id);
    snprintf(id, sizeof id, "%016" PRIx64 " %s", shape->id, shown_name(server));
    row_begin(&row, visit->picture, STATE_shapes);
    row_text(&row, STATE_shapes__id, id);
    row_text(&row, STATE_shapes_server, shown_name(server));
    row_text(&row, STATE_shapes_shape, shape->label);
    row_int(&row, STATE_shapes_requests, (int64_t)shape->count);
    row_seconds(&row, STATE_shapes_held, shape->held_us);
    row_seconds(&row, STATE_shapes_heldLately, share ? (int64_t)share->held_ms * 1000 : 0);
    row_seconds(&row, STATE_shapes_waited, shape->waited_us);
    row_seconds(&row, STATE_shapes_meanHeld,
                shape->count > 0 ? shape->held_us / (int64_t)shape->count : 0);
    row_bool(&row, STATE_shapes_slow, shape->slow);
    row_int(&row, STATE_shapes_now, shape->users);
    row_end(&row);
}

static void put_shapes(struct server *server, const struct visit *visit)
{
    struct shape_copy *copies = xcalloc(COPIED_AT_ONCE, sizeof *copies);
    struct recorder_span lately;
    size_t first = 0;
    size_t count;
    const struct gathering *gathering = visit->gathering;
    chronicle_sum(gathering->chronicle, server, gathering->now_us - HELD_LATELY_US, &lately);
    do {
        count = server_copy_shapes(server, first, COPIED_AT_ONCE, copies);
        for (size_t i = 0; i < count; i++) {
            put_shape(visit, server, &copies[i], &lately);
        }
        first += count;
    } while (count == COPIED_AT_ONCE);
    free(copies);
}

#define OTHER_TENANTS "other"

// Names that would look like another's in metrics count with the others.
static bool has_own_row(const struct tenant_use *use)
{
    return use->name[0] && strcmp(use->name, OTHER_TENANTS) != 0 &&
           bson_utf8_validate(use->name, strlen(use->name), false);
}

static void put_tenant(const struct visit *visit, const struct server *server, const char *name,
                       const struct tenant_use *use, int in_flight)
{
    char id[340];
    struct row row;
    snprintf(id, sizeof id, "%s %s", name, shown_name(server));
    row_begin(&row, visit->picture, STATE_tenants);
    row_text(&row, STATE_tenants__id, id);
    row_text(&row, STATE_tenants_server, shown_name(server));
    row_text(&row, STATE_tenants_tenant, name);
    row_int(&row, STATE_tenants_inFlight, in_flight);
    row_int(&row, STATE_tenants_waiting, use->under_way - in_flight);
    row_int(&row, STATE_tenants_served, (int64_t)use->served);
    row_int(&row, STATE_tenants_shed, (int64_t)use->shed);
    row_seconds(&row, STATE_tenants_held, use->held_us);
    row_seconds(&row, STATE_tenants_heldLately, tenants_held_lately_us(use));
    row_end(&row);
}

static void put_tenants(struct server *server, const struct visit *visit)
{
    struct tenants *tenants = xcalloc(1, sizeof *tenants);
    int in_flight[TENANTS_PLACES];
    struct tenant_use *others = &tenants->uses[TENANTS_OTHERS];
    server_copy_tenants(server, tenants, in_flight);
    for (int i = TENANTS_OTHERS + 1; i < TENANTS_PLACES; i++) {
        if (has_own_row(&tenants->uses[i])) {
            put_tenant(visit, server, tenants->uses[i].name, &tenants->uses[i], in_flight[i]);
        } else {
            tenants_add(others, &tenants->uses[i]);
            in_flight[TENANTS_OTHERS] += in_flight[i];
        }
    }
    put_tenant(visit, server, OTHER_TENANTS, others, in_flight[TENANTS_OTHERS]);
    free(tenants);
}

// --- pins ---------------------------------------------------------------------------------------

struct named {
    uint32_t id;
    char name[280];
};

static void keep_name(struct server *server, void *arg)
{
    struct named named = {.id = server->id};
    memcpy(named.name, server->name, sizeof named.name);
    buffer_append(arg, &named, sizeof named);
}

static const char *name_of(const struct buffer *names, uint32_t id)
{
    const struct named *named = (const void *)buffer_at(names);
    size_t count = buffer_held(names) / sizeof *named;
    for (size_t i = 0; i < count; i++) {
        if (named[i].id == id) {
            return named[i].name;
        }
    }
    return ""; // it has left the deployment
}

static void session_text(const struct pin *pin, char ret_text[33])
{
    for (size_t i = 0; i < sizeof pin->key.session_id; i++) {
        snprintf(ret_text + 2 * i, 3, "%02x", pin->key.session_id[i]);
    }
}

static void put_cursor(const struct visit *visit, const struct pin *pin, uint64_t client,
                       const char *server)
{
    int64_t now_us = visit->gathering->now_us;
    char id[320];
    struct row row;
    snprintf(id, sizeof id, "%" PRId64 " %s", pin->key.cursor_id, server);
    row_begin(&row, visit->picture, STATE_cursors);
    row_text(&row, STATE_cursors__id, id);
    row_int(&row, STATE_cursors_cursor, pin->key.cursor_id);
    row_text(&row, STATE_cursors_server, server);
    row_text(&row, STATE_cursors_ns, pin->namespace);
    row_int(&row, STATE_cursors_client, (int64_t)client);
    row_seconds(&row, STATE_cursors_age, now_us - pin->opened_us);
    row_seconds(&row, STATE_cursors_idle, now_us - pin->used_us);
    row_bool(&row, STATE_cursors_streams, pin->streams);
    row_int(&row, STATE_cursors_upstream, (int64_t)pin->connection);
    row_end(&row);
}

static void put_transaction(const struct visit *visit, const struct pin *pin, uint64_t client,
                            const char *server)
{
    int64_t now_us = visit->gathering->now_us;
    char session[33];
    struct row row;
    session_text(pin, session);
    row_begin(&row, visit->picture, STATE_transactions);
    row_text(&row, STATE_transactions__id, session);
    row_text(&row, STATE_transactions_server, server);
    row_int(&row, STATE_transactions_number, pin->txn_number);
    row_int(&row, STATE_transactions_client, (int64_t)client);
    row_seconds(&row, STATE_transactions_age, now_us - pin->opened_us);
    row_seconds(&row, STATE_transactions_idle, now_us - pin->used_us);
    row_int(&row, STATE_transactions_upstream, (int64_t)pin->connection);
    row_end(&row);
}

static void put_pins(const struct visit *visit, unsigned collections)
{
    struct shared *shared = visit->gathering->shared;
    struct pin *pins = xcalloc(COPIED_AT_ONCE, sizeof *pins);
    uint64_t clients[COPIED_AT_ONCE];
    struct buffer names = {0};
    servers_visit(shared->servers, keep_name, &names);
    for (size_t place = 0; place != SIZE_MAX;) {
        size_t count = affinity_copy(&shared->affinity, &place, COPIED_AT_ONCE, pins, clients);
        for (size_t i = 0; i < count; i++) {
            bool cursor = pins[i].key.kind == PIN_CURSOR;
            const char *server = name_of(&names, pins[i].server);
            if (cursor && (collections & STATE_BIT(STATE_cursors))) {
                put_cursor(visit, &pins[i], clients[i], server);
            } else if (!cursor && (collections & STATE_BIT(STATE_transactions))) {
                put_transaction(visit, &pins[i], clients[i], server);
            }
        }
    }
    buffer_fini(&names);
    free(pins);
}

// --- the fleet ----------------------------------------------------------------------------------

static void append_member(const struct fleet_look *look, size_t i, int64_t now_us, bson_t *list)
{
    const struct lease_peer *peer = &look->peers[i];
    bool self = peer->id == look->lease.id;
    char key[24];
    char id[24];
    bson_t member;
    snprintf(key, sizeof key, "%zu", i);
    snprintf(id, sizeof id, "%016" PRIx64, peer->id);
    bson_append_document_begin(list, key, -1, &member);
    state_append_text(&member, "instance", peer->name);
    state_append_text(&member, "id", id);
    state_append_int(&member, "held", peer->held);
    state_append_int(&member, "need", peer->need);
    bson_append_double(&member, "lastAsked", -1, (double)(now_us - peer->seen_us) / 1e6);
    bson_append_bool(&member, "self", -1, self);
    bson_append_document_end(list, &member);
}

static void put_lease(const struct fleet_look *look, int64_t now_us, struct row *row)
{
    const struct lease *lease = &look->lease;
    int64_t ends_us = lease_dies_us(lease);
    row_text(row, STATE_fleet_epoch, lease->epoch);
    row_bool(row, STATE_fleet_mature, lease->mature);
    row_int(row, STATE_fleet_cap, lease->terms.cap);
    row_int(row, STATE_fleet_floor, lease->terms.floor);
    row_int(row, STATE_fleet_instances, lease->terms.instances);
    row_int(row, STATE_fleet_allowed, look->allowed);
    row_int(row, STATE_fleet_open, look->open);
    row_int(row, STATE_fleet_need, look->need);
    row_int(row, STATE_fleet_held, lease->held);
    row_seconds(row, STATE_fleet_leaseEnds,
                ends_us == INT64_MAX || ends_us < now_us ? 0 : ends_us - now_us);
}

static void put_fleet(const struct shared *shared, struct picture *picture)
{
    struct row row;
    bson_t members;
    if (!shared->fleet) {
        return;
    }
    struct fleet_look *look = xcalloc(1, sizeof *look);
    int64_t now_us = fleet_look(shared->fleet, look);
    row_begin(&row, picture, STATE_fleet);
    row_text(&row, STATE_fleet__id, shared->config->fleet_name);
    row_text(&row, STATE_fleet_state, lease_state_text(&look->lease, now_us));
    row_text(&row, STATE_fleet_store, look->store);
    row_bool(&row, STATE_fleet_up, look->store[0] && !look->error[0]);
    row_text(&row, STATE_fleet_error, look->error);
    row_seconds(&row, STATE_fleet_lastAnswer,
                look->answered_us < 0 ? -1000000 : now_us - look->answered_us);
    put_lease(look, now_us, &row);
    row_open_list(&row, STATE_fleet_members, &members);
    for (size_t i = 0; i < look->lease.peer_count; i++) {
        append_member(look, i, now_us, &members);
    }
    row_close_list(&row, &members);
    row_end(&row);
    free(look);
}

// --- rules --------------------------------------------------------------------------------------

static void put_rule(const struct gathering *gathering, const struct rule *rule,
                     struct picture *picture)
{
    struct rule_counts counts;
    int64_t ends_us = rule_ends_us(rule);
    char id[24];
    struct row row;
    rule_count(rule, &counts);
    snprintf(id, sizeof id, "%" PRId64, rule_id(rule));
    row_begin(&row, picture, STATE_rules);
    row_text(&row, STATE_rules__id, id);
    row_text(&row, STATE_rules_rule, rule_words(rule));
    row_text(&row, STATE_rules_by, rule_by(rule));
    row_text(&row, STATE_rules_why, rule_why(rule));
    row_bool(&row, STATE_rules_dryRun, rule_is_dry_run(rule));
    row_seconds(&row, STATE_rules_endsIn,
                ends_us > gathering->now_us ? ends_us - gathering->now_us : 0);
    row_int(&row, STATE_rules_hits, (int64_t)counts.hits);
    row_int(&row, STATE_rules_refused, (int64_t)counts.refused);
    row_int(&row, STATE_rules_atOnce, counts.at_once);
    row_end(&row);
}

static void put_rules(const struct gathering *gathering, struct picture *picture)
{
    const struct rule *rule;
    for (size_t i = 0; gathering->rules && (rule = rules_at(gathering->rules, i)); i++) {
        put_rule(gathering, rule, picture);
    }
}

// --- the configuration --------------------------------------------------------------------------

static void put_setting(void *context, const char *name, const char *value)
{
    struct row row;
    row_begin(&row, context, STATE_config);
    row_text(&row, STATE_config__id, name);
    row_text(&row, STATE_config_value, value);
    row_end(&row);
}

// --- all ----------------------------------------------------------------------------------------

static void put_present(struct server *server, void *arg)
{
    const struct visit *visit = arg;
    if (!atomic_load(&server->is_gone)) {
        visit->put(server, visit);
    }
}

// Of each server, but not of one that has left the deployment and is not forgotten yet.
static void put_of_each(struct visit *visit,
                        void (*put)(struct server *server, const struct visit *visit))
{
    visit->put = put;
    servers_visit(visit->gathering->shared->servers, put_present, visit);
}

void gather(const struct gathering *gathering, unsigned collections, struct picture *picture)
{
    struct visit visit = {.gathering = gathering, .picture = picture};
    picture->collections |= collections;
    if (collections & STATE_BIT(STATE_totals)) {
        gather_totals(gathering, picture);
    }
    if (collections & STATE_BIT(STATE_servers)) {
        put_of_each(&visit, put_server);
    }
    if (collections & STATE_BIT(STATE_times)) {
        put_of_each(&visit, put_all_times);
    }
    if (collections & STATE_BIT(STATE_shapes)) {
        put_of_each(&visit, put_shapes);
    }
    if (collections & STATE_BIT(STATE_tenants)) {
        put_of_each(&visit, put_tenants);
    }
    if (collections & (STATE_BIT(STATE_cursors) | STATE_BIT(STATE_transactions))) {
        put_pins(&visit, collections);
    }
    if (collections & STATE_BIT(STATE_fleet)) {
        put_fleet(gathering->shared, picture);
    }
    if (collections & STATE_BIT(STATE_rules)) {
        put_rules(gathering, picture);
    }
    if (collections & STATE_BIT(STATE_exhaustions)) {
        chronicle_put(gathering->chronicle, picture, gathering->now_us);
    }
    if (collections & STATE_VERDICTS) {
        chronicle_put_verdicts(gathering, &picture->verdicts);
    }
    if (collections & STATE_BIT(STATE_config)) {
        config_each(gathering->shared->config, false, put_setting, picture);
    }
    if (collections & STATE_BIT(STATE_log)) {
        log_lines_put(picture);
    }
}

bool gather_needs_workers(unsigned collections)
{
    return collections &
           (STATE_BIT(STATE_clients) | STATE_BIT(STATE_requests) | STATE_BIT(STATE_upstreams));
}

// --- what workers have shown --------------------------------------------------------------------

static void put_client(const struct seen_client *seen, struct picture *picture)
{
    struct row row;
    row_begin(&row, picture, STATE_clients);
    row_int(&row, STATE_clients__id, (int64_t)seen->id);
    row_text(&row, STATE_clients_peer, seen->peer);
    row_text(&row, STATE_clients_app, seen->app_name);
    row_text(&row, STATE_clients_state, seen->state);
    row_seconds(&row, STATE_clients_age, seen->age_us);
    row_bool(&row, STATE_clients_tls, seen->tls);
    row_int(&row, STATE_clients_unsent, seen->unsent_bytes);
    row_int(&row, STATE_clients_worker, seen->worker);
    row_end(&row);
}

static void put_request(const struct seen_request *seen, struct picture *picture)
{
    struct row row;
    row_begin(&row, picture, STATE_requests);
    row_int(&row, STATE_requests__id, seen->id);
    row_int(&row, STATE_requests_client, (int64_t)seen->client_id);
    row_text(&row, STATE_requests_peer, seen->peer);
    row_text(&row, STATE_requests_user, seen->user);
    row_int(&row, STATE_requests_userId, seen->user_id);
    row_text(&row, STATE_requests_app, seen->app_name);
    row_text(&row, STATE_requests_server, seen->server);
    row_text(&row, STATE_requests_command, seen->command);
    row_text(&row, STATE_requests_ns, seen->namespace);
    row_text(&row, STATE_requests_shape, seen->shape);
    row_text(&row, STATE_requests_state, seen->state);
    row_text(&row, STATE_requests_lane, seen->lane);
    row_seconds(&row, STATE_requests_age, seen->age_us);
    row_seconds(&row, STATE_requests_held, seen->held_us);
    row_int(&row, STATE_requests_bytes, seen->bytes);
    row_int(&row, STATE_requests_upstream, (int64_t)seen->upstream_id);
    row_end(&row);
}

static void put_upstream(const struct seen_upstream *seen, struct picture *picture)
{
    struct row row;
    row_begin(&row, picture, STATE_upstreams);
    row_int(&row, STATE_upstreams__id, (int64_t)seen->id);
    row_text(&row, STATE_upstreams_server, seen->server);
    row_text(&row, STATE_upstreams_state, seen->state);
    row_int(&row, STATE_upstreams_client, (int64_t)seen->client_id);
    row_seconds(&row, STATE_upstreams_age, seen->age_us);
    row_int(&row, STATE_upstreams_pins, seen->pins);
    row_int(&row, STATE_upstreams_worker, seen->worker);
    row_end(&row);
}

// Calls `put` for each struct seen_* in a list.
#define EACH_SEEN(list, type, put)                                                                 \
    for (size_t at = 0; at < buffer_held(list); at += sizeof(type)) {                              \
        put((const type *)(const void *)(buffer_at(list) + at), picture);                          \
    }

void gather_shown(const struct show *show, struct picture *picture)
{
    EACH_SEEN(&show->seen_clients, struct seen_client, put_client)
    EACH_SEEN(&show->seen_requests, struct seen_request, put_request)
    EACH_SEEN(&show->seen_upstreams, struct seen_upstream, put_upstream)
}
