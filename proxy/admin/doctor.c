// SPDX-License-Identifier: Apache-2.0
//
//      each server    serverStatus, $currentOp
//      one of them    replication, databases, collections, profiler
//      each data      the use of its indexes
//      then           the kinds of query that were seen: an index, a plan
#include "proxy/admin/flags.h"
#include "proxy/admin/doctor.h"

#include <mongoc/mongoc.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/admin/control_client.h"
#include "proxy/admin/doctor_checks.h"
#include "proxy/admin/plan.h"
#include "proxy/control/control.h"
#include "proxy/control/direct.h"
#include "proxy/control/library.h"
#include "proxy/control/questions.h"
#include "proxy/mem.h"

enum {
    NOTHING_ASKED = 3,
    SERVERS_MAX = 64,
    DATABASES_MAX = 50,
    COLLECTIONS_MAX = 300,
    QUERIES_MAX = 20,
    PROFILED_MAX = 1000,
    MAX_TIME_MS = 5000,
    SELECTION_MS = 5000,
    SOCKET_MS = 10000,
    LONG_US = 5000000,
    SLOW_SHAPE_MS = 100,
};

static const char usage[] =
    "Usage: weir doctor URI [--weir PORT|PATH] [--tier TIER]\n"
    "                   [--dynos N [--pool N] [--processes N]] [--json]\n"
    "\n"
    "Asks a deployment about itself and says what is wrong, by what it knows, and\n"
    "what to do. It changes nothing. What it may not see it says.\n"
    "\n"
    "  --weir PORT|PATH   also look at the queries that a running weir has seen: the\n"
    "                     port that it listens on, or the path of its control socket\n"
    "  --tier TIER        the Atlas tier that it should be\n"
    "  --dynos N          whether so many dynos, pods, machines fit\n"
    "  --pool N           with this maxPoolSize each; default 100\n"
    "  --processes N      and so many processes with a MongoClient each; default 1\n"
    "  --json             the findings as one JSON document\n"
    "  --print-reference  what is checked, as docs/doctor.md has it\n"
    "\n"
    "Exit status: 0 if all is well, 1 if there is a warning, 2 if something is\n"
    "critical, 3 if the question is wrong or nobody answers.\n";

// A kind of query that was seen.
struct query {
    char shape[ANSWER_SHAPE_BYTES];
    char ns[ANSWER_NAME_BYTES];
    char why[160];
    struct query_needs needs;
};

struct member {
    char name[ANSWER_NAME_BYTES];
    bool has_data;
};

struct doctor {
    mongoc_client_t *client;
    struct doctor_report report;
    struct expectation expectation;
    bool tls;
    bool unverified;
    int member_count;
    struct member members[SERVERS_MAX];
    int query_count;
    struct query queries[QUERIES_MAX];
    char database[ANSWER_NAME_BYTES]; // that is looked at
    int collections;
    int64_t now_s;
};

__attribute__((format(printf, 1, 2))) static int complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("weir doctor: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return NOTHING_ASKED;
}

static void add_query(struct doctor *doctor, const char *shape, const char *ns,
                      const struct query_needs *needs, const char *why)
{
    for (int i = 0; i < doctor->query_count; i++) {
        if (strcmp(doctor->queries[i].shape, shape) == 0) {
            return;
        }
    }
    if (doctor->query_count < QUERIES_MAX && shape[0] != '\0' && !needs->incomplete) {
        struct query *query = &doctor->queries[doctor->query_count++];
        say(query->shape, "%s", shape);
        say(query->ns, "%s", ns);
        say(query->why, "%s", why);
        query->needs = *needs;
    }
}

// --- each server --------------------------------------------------------------------------------

static void look_at_status(struct doctor *doctor, const struct interview *interview,
                           const char *name, struct server_status *ret_status)
{
    struct answer answer = ask_status(interview, ret_status);
    if (answer.outcome != ANSWER_GIVEN) {
        check_unseen(&doctor->report, CHECK_connections, name, &answer);
    } else {
        int64_t limit = ret_status->connections.current + ret_status->connections.available;
        check_connections(&doctor->report, name, ret_status, plan_tier_of_limit((long)limit),
                          &doctor->expectation);
    }
    if (doctor->tls) {
        check_certificate(&doctor->report, name, ret_status->certificate_expiry_s, doctor->now_s);
    }
}

static void look_at_operations(struct doctor *doctor, const struct interview *interview,
                               const char *name, struct operations *operations)
{
    bool own_only;
    struct answer answer = ask_operations(interview, LONG_US, true, operations, &own_only);
    if (answer.outcome != ANSWER_GIVEN) {
        check_unseen(&doctor->report, CHECK_operations, name, &answer);
        check_unseen(&doctor->report, CHECK_drivers, name, &answer);
        return;
    }
    check_operations(&doctor->report, name, operations, own_only);
    check_drivers(&doctor->report, name, operations);
    check_holders(&doctor->report, name, operations);
    for (int i = 0; i < operations->kept; i++) {
        const struct operation *one = &operations->longest[i];
        if (one->has_needs) {
            add_query(doctor, one->shape, one->ns, &one->needs, "runs for more than 5 s now");
        }
    }
}

static void look_at_server(struct doctor *doctor, const char *name)
{
    struct interview interview;
    struct server_status status;
    struct operations *operations = xcalloc(1, sizeof *operations);
    operations_init(operations, LONG_US);
    if (interview_begin(&interview, doctor->client, name, MAX_TIME_MS)) {
        look_at_status(doctor, &interview, name, &status);
        look_at_operations(doctor, &interview, name, operations);
        check_cursors(&doctor->report, name, &status, operations);
        check_transactions(&doctor->report, name, &status, operations);
        interview_end(&interview);
    }
    free(operations);
}

static void look_at_replication(struct doctor *doctor, const struct interview *interview)
{
    struct replication *replication = xcalloc(1, sizeof *replication);
    struct answer answer = ask_replication(interview, replication);
    if (answer.outcome == ANSWER_GIVEN) {
        check_replication(&doctor->report, replication);
    } else {
        check_unseen(&doctor->report, CHECK_replication, "", &answer);
    }
    free(replication);
}

// --- collections --------------------------------------------------------------------------------

// Of all servers that have the data; true: each told how much it uses them.
static bool ask_all_for_indexes(struct doctor *doctor, const char *ns, struct indexes *indexes,
                                struct answer *ret_refusal)
{
    bool all = true;
    *ret_refusal = (struct answer){.outcome = ANSWER_NOT_ASKED};
    for (int i = 0; i < doctor->member_count; i++) {
        struct interview interview;
        if (doctor->members[i].has_data &&
            interview_begin(&interview, doctor->client, doctor->members[i].name, MAX_TIME_MS)) {
            struct answer answer = ask_indexes(&interview, ns, indexes);
            all = all && answer.outcome == ANSWER_GIVEN;
            *ret_refusal = answer.outcome == ANSWER_GIVEN ? *ret_refusal : answer;
            interview_end(&interview);
        }
    }
    return all;
}

static bool look_at_collection(void *arg, const bson_t *document)
{
    struct doctor *doctor = arg;
    bson_iter_t name;
    char ns[2 * ANSWER_NAME_BYTES];
    struct answer refusal;
    if (doctor->collections >= COLLECTIONS_MAX || !bson_iter_init_find(&name, document, "name") ||
        !BSON_ITER_HOLDS_UTF8(&name) || strncmp(bson_iter_utf8(&name, NULL), "system.", 7) == 0) {
        return doctor->collections < COLLECTIONS_MAX;
    }
    say(ns, "%s.%s", doctor->database, bson_iter_utf8(&name, NULL));
    struct indexes *indexes = xcalloc(1, sizeof *indexes);
    bool all = ask_all_for_indexes(doctor, ns, indexes, &refusal);
    check_indexes(&doctor->report, ns, indexes, all, doctor->now_s);
    if (!all && doctor->collections == 0) { // it will be the same for all
        check_unseen(&doctor->report, CHECK_indexes, ns, &refusal);
    }
    doctor->collections++;
    free(indexes);
    return true;
}

static bool look_at_profiled(void *arg, const bson_t *document)
{
    struct doctor *doctor = arg;
    struct profiled *one = xcalloc(1, sizeof *one);
    if (profiled_read(document, one) && one->has_needs &&
        (strncmp(one->plan, "COLLSCAN", 8) == 0 || one->sorts ||
         one->examined > 100 * (one->returned > 0 ? one->returned : 1))) {
        char why[128];
        say(why, "profiled: %lld ms, %lld documents examined", (long long)one->millis,
            (long long)one->examined);
        add_query(doctor, one->shape, one->ns, &one->needs, why);
    }
    free(one);
    return doctor->query_count < QUERIES_MAX;
}

static void look_at_database(struct doctor *doctor, const struct interview *interview,
                             const char *database)
{
    struct profiler_status profiler;
    say(doctor->database, "%s", database);
    struct answer answer = ask_collections(interview, database, look_at_collection, doctor);
    if (answer.outcome != ANSWER_GIVEN) {
        check_unseen(&doctor->report, CHECK_indexes, database, &answer);
    }
    answer = ask_profiler(interview, database, &profiler);
    if (answer.outcome != ANSWER_GIVEN) {
        check_unseen(&doctor->report, CHECK_profiler, database, &answer);
        return;
    }
    check_profiler(&doctor->report, database, &profiler);
    ask_profile(interview, database, PROFILED_MAX, look_at_profiled, doctor);
}

struct names {
    int count;
    char name[DATABASES_MAX][ANSWER_NAME_BYTES];
};

static bool take_database(void *arg, const bson_t *document)
{
    struct names *names = arg;
    bson_iter_t name;
    if (bson_iter_init_find(&name, document, "name") && BSON_ITER_HOLDS_UTF8(&name)) {
        const char *text = bson_iter_utf8(&name, NULL);
        if (strcmp(text, "admin") != 0 && strcmp(text, "config") != 0 &&
            strcmp(text, "local") != 0) {
            say(names->name[names->count], "%s", text);
            names->count++;
        }
    }
    return names->count < DATABASES_MAX;
}

static void say_what_was_left_out(struct doctor *doctor, int databases)
{
    if (databases == DATABASES_MAX || doctor->collections == COLLECTIONS_MAX) {
        struct answer cut = {.outcome = ANSWER_NOT_ASKED};
        say(cut.why, "only %d databases and %d collections are looked at", DATABASES_MAX,
            COLLECTIONS_MAX);
        check_unseen(&doctor->report, CHECK_indexes, "", &cut);
    }
}

static void look_at_data(struct doctor *doctor, const struct interview *interview)
{
    struct names *names = xcalloc(1, sizeof *names);
    struct answer answer = ask_databases(interview, take_database, names);
    if (answer.outcome != ANSWER_GIVEN) {
        check_unseen(&doctor->report, CHECK_indexes, "", &answer);
    }
    for (int i = 0; i < names->count; i++) {
        look_at_database(doctor, interview, names->name[i]);
    }
    say_what_was_left_out(doctor, names->count);
    free(names);
}

// --- queries ------------------------------------------------------------------------------------

static void look_at_query(struct doctor *doctor, const struct interview *interview,
                          const struct query *query)
{
    struct indexes *indexes = xcalloc(1, sizeof *indexes);
    struct explanation explanation;
    struct answer refusal;
    ask_all_for_indexes(doctor, query->ns, indexes, &refusal);
    struct answer explained = ask_explanation(interview, query->ns, &query->needs, &explanation);
    if (indexes->count > 0) {
        check_query(&doctor->report, query->shape, query->ns, &query->needs, indexes,
                    explained.outcome == ANSWER_GIVEN ? &explanation : NULL, query->why);
    } else {
        check_unseen(&doctor->report, CHECK_plans, query->ns, &refusal);
    }
    free(indexes);
}

static void take_shape(struct doctor *doctor, bson_iter_t *row)
{
    bson_iter_t field;
    char shape[ANSWER_SHAPE_BYTES] = "";
    char ns[ANSWER_NAME_BYTES];
    char why[128];
    double mean_s = 0;
    struct query_needs needs;
    while (bson_iter_next(row)) {
        if (strcmp(bson_iter_key(row), "shape") == 0 && BSON_ITER_HOLDS_UTF8(row)) {
            say(shape, "%s", bson_iter_utf8(row, NULL));
        } else if (strcmp(bson_iter_key(row), "meanHeld") == 0 && BSON_ITER_HOLDS_NUMBER(row)) {
            field = *row;
            mean_s = bson_iter_as_double(&field);
        }
    }
    say(why, "a running weir: %.0f ms each, on average", mean_s * 1000);
    if (mean_s * 1000 >= SLOW_SHAPE_MS && query_needs_of_shape(shape, &needs, ns, sizeof ns)) {
        add_query(doctor, shape, ns, &needs, why);
    }
}

static bool is_number(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

// False: it did not answer; the reason.
static bool ask_weir(struct doctor *doctor, const char *which,
                     char ret_error[CONTROL_CLIENT_ERROR_BYTES])
{
    struct control_choice choice = {.socket = is_number(which) ? NULL : which,
                                    .port = is_number(which) ? which : NULL};
    char path[CONTROL_PATH_BYTES];
    struct buffer line = {0};
    bson_t *order =
        BCON_NEW("order", BCON_UTF8("state"), "collections", "[", BCON_UTF8("shapes"), "]");
    bson_t *answer = NULL;
    if (control_client_choose(&choice, path, ret_error) == 0 &&
        control_client_ask(path, order, &line, ret_error)) {
        answer = control_client_read(&line, ret_error);
    }
    bson_iter_t iter;
    bson_iter_t shapes;
    bson_iter_t row;
    bson_iter_t fields;
    if (answer && bson_iter_init(&iter, answer) &&
        bson_iter_find_descendant(&iter, "state.shapes", &shapes) &&
        bson_iter_recurse(&shapes, &row)) {
        while (bson_iter_next(&row)) {
            if (bson_iter_recurse(&row, &fields)) {
                take_shape(doctor, &fields);
            }
        }
    }
    bool answered = answer != NULL;
    if (answer) {
        bson_destroy(answer);
    }
    bson_destroy(order);
    buffer_fini(&line);
    return answered;
}

// --- the deployment -----------------------------------------------------------------------------

static bool is_any_of(const char *text, const char *a, const char *b, const char *c)
{
    return strcmp(text, a) == 0 || strcmp(text, b) == 0 || strcmp(text, c) == 0;
}

static void meet_servers(struct doctor *doctor)
{
    size_t count;
    bool writable = false;
    mongoc_server_description_t **known =
        mongoc_client_get_server_descriptions(doctor->client, &count);
    for (size_t i = 0; i < count && doctor->member_count < SERVERS_MAX; i++) {
        const char *type = mongoc_server_description_type(known[i]);
        const char *name = mongoc_server_description_host(known[i])->host_and_port;
        bool down = strcmp(type, "Unknown") == 0;
        writable |= is_any_of(type, "RSPrimary", "Standalone", "Mongos") ||
                    strcmp(type, "LoadBalancer") == 0;
        struct finding *finding = doctor_find(&doctor->report, CHECK_servers,
                                              down ? SEVERITY_WARNING : SEVERITY_FINE, name);
        say(finding->found, "%s", down ? "Does not answer." : type);
        if (!down && strcmp(type, "RSArbiter") != 0) {
            struct member *member = &doctor->members[doctor->member_count++];
            say(member->name, "%.127s", name);
            member->has_data = is_any_of(type, "RSPrimary", "RSSecondary", "Standalone") ||
                               is_any_of(type, "Mongos", "LoadBalancer", "");
        }
    }
    mongoc_server_descriptions_destroy_all(known, count);
    if (!writable) {
        struct finding *finding =
            doctor_find(&doctor->report, CHECK_servers, SEVERITY_CRITICAL, "the deployment");
        say(finding->found, "No server takes writes: there is no primary.");
    }
}

static void check_way(struct doctor *doctor)
{
    if (doctor->tls && !doctor->unverified) {
        return;
    }
    bool local = true;
    for (int i = 0; i < doctor->member_count; i++) {
        const char *name = doctor->members[i].name;
        local = local && (strncmp(name, "127.", 4) == 0 || strncmp(name, "localhost:", 10) == 0 ||
                          strncmp(name, "[::1]:", 6) == 0 || name[0] == '/');
    }
    struct finding *finding = doctor_find(&doctor->report, CHECK_tls,
                                          local ? SEVERITY_FINE : SEVERITY_WARNING, "the URI");
    say(finding->found, "%s%s",
        doctor->tls ? "The URI does not have the server's certificate verified"
                    : "The connections are not encrypted",
        local ? ", and stay on this machine." : ".");
    if (!local) {
        say(finding->remedy, "%s",
            doctor->tls ? "Leave tlsInsecure and tlsAllowInvalid… away; "
                          "tlsCAFile names an authority of your own."
                        : "tls=true in the URI.");
    }
}

// Whoever is not let in sees nothing else.
static bool is_let_in(struct doctor *doctor)
{
    bson_error_t error = {0};
    bson_t *ping = BCON_NEW("ping", BCON_INT32(1));
    mongoc_read_prefs_t *any = mongoc_read_prefs_new(MONGOC_READ_NEAREST);
    bool done = mongoc_client_command_simple(doctor->client, "admin", ping, any, NULL, &error);
    bool rejected = !done && direct_is_rejected(&error);
    mongoc_read_prefs_destroy(any);
    bson_destroy(ping);
    if (rejected) {
        struct finding *finding =
            doctor_find(&doctor->report, CHECK_servers, SEVERITY_CRITICAL, "the deployment");
        say(finding->found, "It does not let the URI's user in: nothing else could be looked at.");
        say(finding->evidence, "%s", error.message);
        say(finding->remedy, "The user, the password and authSource of the URI; what is no "
                             "letter or digit is written by its code there, as %%40 for @.");
    }
    return !rejected;
}

static void examine(struct doctor *doctor, const char *weir)
{
    struct interview interview;
    char error[CONTROL_CLIENT_ERROR_BYTES] = "";
    meet_servers(doctor);
    check_way(doctor);
    if (!is_let_in(doctor)) {
        return;
    }
    for (int i = 0; i < doctor->member_count; i++) {
        look_at_server(doctor, doctor->members[i].name);
    }
    if (weir && !ask_weir(doctor, weir, error)) {
        struct answer answer = {.outcome = ANSWER_FAILED};
        say(answer.why, "%.190s", error);
        check_unseen(&doctor->report, CHECK_plans, "weir", &answer);
    }
    int first = 0;
    while (first < doctor->member_count && !doctor->members[first].has_data) {
        first++;
    }
    if (first < doctor->member_count &&
        interview_begin(&interview, doctor->client, doctor->members[first].name, MAX_TIME_MS)) {
        if (!interview.is_mongos) {
            look_at_replication(doctor, &interview);
        }
        look_at_data(doctor, &interview);
        for (int i = 0; i < doctor->query_count; i++) {
            look_at_query(doctor, &interview, &doctor->queries[i]);
        }
        interview_end(&interview);
    }
}

// --- the command --------------------------------------------------------------------------------

static mongoc_client_t *connect_to(const char *text, bson_error_t *error)
{
    mongoc_uri_t *uri = mongoc_uri_new_with_error(text, error);
    if (!uri) {
        return NULL;
    }
    mongoc_uri_set_appname(uri, "weir doctor");
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SELECTION_MS);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, SELECTION_MS);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, SOCKET_MS);
    mongoc_client_t *client = mongoc_client_new_from_uri(uri);
    mongoc_uri_destroy(uri);
    if (!client) {
        return NULL;
    }
    mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    mongoc_read_prefs_t *any = mongoc_read_prefs_new(MONGOC_READ_NEAREST);
    mongoc_server_description_t *server = mongoc_client_select_server(client, false, any, error);
    mongoc_read_prefs_destroy(any);
    if (!server) {
        mongoc_client_destroy(client);
        return NULL;
    }
    mongoc_server_description_destroy(server);
    return client;
}

struct question {
    const char *uri;
    const char *weir, *tier, *dynos, *pool, *processes; // as typed; NULL: not given
    bool json, help, reference;
};

static int take_number(const char *option, const char *text, long *ret_number)
{
    *ret_number = is_number(text) && strlen(text) < 7 ? strtol(text, NULL, 10) : 0;
    return *ret_number > 0 ? 0 : complain("%s %s: must be 1 to 999999", option, text);
}

static int take_tier(const char *name, struct expectation *expectation)
{
    expectation->tier = name;
    expectation->tier_limit = plan_limit_of_tier(name);
    return expectation->tier_limit > 0 ? 0
                                       : complain("--tier %s: weir plan --help lists tiers", name);
}

static int take_numbers(const struct question *question, struct expectation *expectation)
{
    const struct {
        const char *option, *text;
        long *number;
    } numbers[] = {
        {"--dynos", question->dynos, &expectation->dynos},
        {"--pool", question->pool, &expectation->pool},
        {"--processes", question->processes, &expectation->processes},
    };
    int status = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && status == 0; i++) {
        if (numbers[i].text) {
            status = take_number(numbers[i].option, numbers[i].text, numbers[i].number);
        }
    }
    return status;
}

static int read_question(int argc, char **argv, struct question *question,
                         struct expectation *expectation)
{
    char error[FLAGS_ERROR_BYTES];
    const struct flag flags[] = {
        {"weir", &question->weir, NULL},           {"tier", &question->tier, NULL},
        {"dynos", &question->dynos, NULL},         {"pool", &question->pool, NULL},
        {"processes", &question->processes, NULL}, {"json", NULL, &question->json},
        {"help", NULL, &question->help},           {"print-reference", NULL, &question->reference},
    };
    if (!flags_read(flags, sizeof flags / sizeof flags[0], argc, argv, &question->uri, error)) {
        return complain("%s", error);
    }
    if (question->help || question->reference) {
        return 0;
    }
    if (!question->uri) {
        return complain("needs a URI, as in: weir doctor \"$MONGODB_URI\"");
    }
    int status = question->tier ? take_tier(question->tier, expectation) : 0;
    return status == 0 ? take_numbers(question, expectation) : status;
}

static int diagnose(struct doctor *doctor, const struct question *question)
{
    char why[1200];
    char complaints[512];
    bson_error_t error = {.message = "no server answers"};
    struct deployment *deployment = deployment_parse(question->uri, why, sizeof why);
    if (!deployment) {
        return complain("%s", why);
    }
    doctor->tls = deployment->tls;
    doctor->unverified = deployment->tls_options.allow_invalid_certificates ||
                         deployment->tls_options.allow_invalid_hostnames;
    library_overhear(complaints, sizeof complaints);
    doctor->client = connect_to(question->uri, &error);
    deployment_free(deployment);
    if (!doctor->client) {
        return complain("%s", error.message);
    }
    examine(doctor, question->weir);
    mongoc_client_destroy(doctor->client);
    if (question->json) {
        doctor_print_json(&doctor->report, stdout);
    } else {
        doctor_print_text(&doctor->report, stdout);
    }
    return fflush(stdout) == 0 ? doctor_status(&doctor->report) : NOTHING_ASKED;
}

int doctor_main(int argc, char **argv)
{
    struct question question = {0};
    struct doctor *doctor = xcalloc(1, sizeof *doctor);
    doctor->expectation.pool = 100;
    doctor->expectation.processes = 1;
    doctor->now_s = time(NULL);
    int status = read_question(argc, argv, &question, &doctor->expectation);
    if (question.help) {
        fputs(usage, stdout);
    } else if (question.reference) {
        doctor_print_reference(stdout);
    } else if (status == 0) {
        status = diagnose(doctor, &question);
    }
    doctor_report_fini(&doctor->report);
    free(doctor);
    return status;
}
