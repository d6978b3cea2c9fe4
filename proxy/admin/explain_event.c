// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/explain_event.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/admin/control_client.h"
#include "proxy/admin/fields.h"
#include "proxy/admin/flags.h"
#include "proxy/admin/printed.h"

#define ERROR_BYTES CONTROL_CLIENT_ERROR_BYTES

enum { FILE_BYTES_MAX = 1 << 20, INDENT = 2, LINE_BYTES = 2048, NAMED_MAX = 8 };

static const char usage[] =
    "Usage: weir explain-event [--socket PATH | --port N] ID|FILE\n"
    "\n"
    "Prints the record of an exhaustion: what held the connections, why they ran out,\n"
    "what to do. Of a weir that runs on this machine, by the ID in its log, found as\n"
    "weir ctl finds it; or from a FILE that holds the record as JSON.\n"
    "\n"
    "  --socket PATH  its control socket\n"
    "  --port N       the port that it listens on\n"
    "  --help         this\n";

// --- what a record has --------------------------------------------------------------------------

static double number_of(const bson_t *document, const char *key)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, document, key) && BSON_ITER_HOLDS_NUMBER(&iter)
               ? bson_iter_as_double(&iter)
               : 0;
}

// --- printing -----------------------------------------------------------------------------------

__attribute__((format(printf, 3, 4))) static void print_line(FILE *out, int indent,
                                                             const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    print_wrapped(indent, "", line, out);
}

// Seconds as people say them.
static const char *duration(double seconds, char ret_text[32])
{
    if (seconds < 1) {
        snprintf(ret_text, 32, "%.0f ms", seconds * 1e3);
    } else {
        snprintf(ret_text, 32, "%.1f s", seconds);
    }
    return ret_text;
}

static const char *date(double seconds, char ret_text[32])
{
    struct tm utc;
    bool sane = seconds > 0 && seconds < 1e11; // before the year 5138
    time_t whole = sane ? (time_t)seconds : 0;
    if (!sane || !gmtime_r(&whole, &utc) ||
        strftime(ret_text, 32, "%Y-%m-%d %H:%M:%S UTC", &utc) == 0) {
        snprintf(ret_text, 32, "(no date)");
    }
    return ret_text;
}

static void print_cause(const bson_t *cause, FILE *out)
{
    print_line(out, INDENT, "%.2f %s", number_of(cause, "score"), field_text(cause, "cause"));
    print_wrapped(2 * INDENT, "", field_text(cause, "says"), out);
}

static void print_remedy(const bson_t *remedy, FILE *out)
{
    print_wrapped(INDENT, "- ", field_text(remedy, "what"), out);
    print_wrapped(2 * INDENT, "", field_text(remedy, "type"), out);
}

static void print_holder(const bson_t *holder, FILE *out)
{
    char held[32];
    const char *app = field_text(holder, "app");
    const char *tenant = field_text(holder, "tenant");
    print_line(out, INDENT, "%s  %s", duration(number_of(holder, "held"), held),
               field_text(holder, "shape"));
    const char *user = field_text(holder, "user");
    const char *peer = field_text(holder, "peer");
    print_line(out, 2 * INDENT, "client %.0f%s%s%s%s%s%s%s%s", number_of(holder, "client"),
               peer[0] ? " from " : "", peer, app[0] ? ", app " : "", app,
               tenant[0] ? ", tenant " : "", tenant, user[0] ? ", user " : "", user);
}

static void print_waiter(const bson_t *waiter, FILE *out)
{
    char p50[32];
    char p99[32];
    const char *tenant = field_text(waiter, "tenant");
    print_wrapped(INDENT, "", tenant[0] ? tenant : "(weir's own)", out);
    print_line(out, 2 * INDENT, "%.0f asked, %.0f waited (p50 %s, p99 %s), %.0f shed",
               number_of(waiter, "arrived"), number_of(waiter, "waited"),
               duration(number_of(waiter, "p50"), p50), duration(number_of(waiter, "p99"), p99),
               number_of(waiter, "shed"));
}

static void print_shape(const bson_t *shape, FILE *out)
{
    char before[32];
    char during[32];
    const char *text = field_text(shape, "shape");
    print_line(out, INDENT, "%s", text[0] ? text : "(forgotten)");
    print_line(out, 2 * INDENT, "held %.2f connections, %.2f before; %s each, %s before; id %s",
               number_of(shape, "during"), number_of(shape, "before"),
               duration(number_of(shape, "meanDuring"), during),
               duration(number_of(shape, "meanBefore"), before), field_text(shape, "id"));
}

// Those of a list, but for the first `skipped`, under a title; nothing if there are none.
static void print_list(const bson_t *document, const char *key, const char *title, int skipped,
                       void (*print)(const bson_t *item, FILE *out), FILE *out)
{
    bson_t list;
    bson_t item;
    bson_iter_t iter;
    int place = 0;
    if (!field_find(document, key, &list) || !bson_iter_init(&iter, &list)) {
        return;
    }
    while (bson_iter_next(&iter)) {
        if (!field_open(&iter, &item) || place++ < skipped) {
            continue;
        }
        if (place == skipped + 1) {
            fprintf(out, "\n%s\n", title);
        }
        print(&item, out);
    }
}

static void print_shed(const bson_t *record, FILE *out)
{
    bson_t shed;
    bson_iter_t iter;
    char line[LINE_BYTES] = "";
    size_t used = 0;
    if (!field_find(record, "shed", &shed) || !bson_iter_init(&iter, &shed)) {
        return;
    }
    while (bson_iter_next(&iter) && used < sizeof line) {
        double count = BSON_ITER_HOLDS_NUMBER(&iter) ? bson_iter_as_double(&iter) : 0;
        if (count > 0) {
            used += (size_t)snprintf(line + used, sizeof line - used, "%s%s %.0f", used ? ", " : "",
                                     bson_iter_key(&iter), count);
        }
    }
    fputs("\nRequests that were refused, by reason\n", out);
    print_wrapped(INDENT, "", used ? line : "none", out);
}

static void print_worst(const bson_t *record, FILE *out)
{
    bson_t worst;
    char at[32];
    if (!field_find(record, "worst", &worst)) {
        return;
    }
    fputs("\nAt worst\n", out);
    print_line(out, INDENT, "%s: %.0f in flight, %.0f waiting", date(number_of(&worst, "at"), at),
               number_of(&worst, "inFlight"), number_of(&worst, "waiting"));
    print_list(&worst, "holders", "Held then, longest first", 0, print_holder, out);
}

static void print_owner(const bson_t *owner, FILE *out)
{
    char idle[32];
    const char *app = field_text(owner, "app");
    print_line(out, INDENT, "%s: %.0f cursors (%.0f idle), %.0f transactions (%.0f idle)",
               app[0] ? app : "(no name)", number_of(owner, "cursors"),
               number_of(owner, "cursorsIdle"), number_of(owner, "transactions"),
               number_of(owner, "transactionsIdle"));
    print_line(out, 2 * INDENT, "idle for %s: client %.0f from %s, %s",
               duration(number_of(owner, "longestIdle"), idle), number_of(owner, "client"),
               field_text(owner, "peer"), field_text(owner, "shape"));
}

static void print_connections(const bson_t *record, FILE *out)
{
    bson_t part;
    char away[32];
    char opening[32];
    char login[32];
    char before[32];
    if (field_find(record, "upstreams", &part)) {
        fputs("\nConnections to the server\n", out);
        print_line(out, INDENT, "%.0f opened, %.0f could not be, %.0f lost; away for %s",
                   number_of(&part, "opened"), number_of(&part, "openFailures"),
                   number_of(&part, "lost"), duration(number_of(&part, "away"), away));
        print_line(out, INDENT, "%s to open one, of that %s to log in (%s before)",
                   duration(number_of(&part, "meanOpening"), opening),
                   duration(number_of(&part, "meanLogin"), login),
                   duration(number_of(&part, "meanLoginBefore"), before));
    }
    if (field_find(record, "left", &part)) {
        fputs("\nLeft open and idle, at most\n", out);
        print_line(out, INDENT, "%.0f cursors, %.0f transactions", number_of(&part, "cursorsIdle"),
                   number_of(&part, "transactionsIdle"));
        print_list(&part, "owners", "Left open, by app", 0, print_owner, out);
    }
}

// --- what the server said -----------------------------------------------------------------------

static bool truth_of(const bson_t *document, const char *key)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, document, key) && bson_iter_as_bool(&iter);
}

static void print_operation(const bson_t *operation, FILE *out)
{
    char running[32];
    const char *shape = field_text(operation, "shape");
    const char *plan = field_text(operation, "plan");
    print_line(out, INDENT, "%s  %s", duration(number_of(operation, "running"), running),
               shape[0] ? shape : field_text(operation, "namespace"));
    print_line(out, 2 * INDENT, "%s%s", plan[0] ? plan : "no plan told",
               truth_of(operation, "waitsForLock") ? ", waits for a lock" : "");
}

static void print_member(const bson_t *member, FILE *out)
{
    char lag[32];
    print_line(out, INDENT, "%s: %s%s, %s behind", field_text(member, "name"),
               field_text(member, "state"), truth_of(member, "healthy") ? "" : " (not healthy)",
               duration(number_of(member, "lag"), lag));
}

static void print_unanswered(const bson_t *gap, FILE *out)
{
    print_line(out, INDENT, "%s: %s", field_text(gap, "what"), field_text(gap, "why"));
    print_wrapped(2 * INDENT, "", field_text(gap, "says"), out);
}

static void print_plan(const bson_t *deployment, FILE *out)
{
    bson_t part;
    if (field_find(deployment, "plan", &part)) {
        print_line(out, INDENT, "The plan of %s: %s%s", field_text(&part, "shape"),
                   field_text(&part, "stages"),
                   truth_of(&part, "scans") ? ", it scans the collection" : "");
    }
    if (field_find(deployment, "index", &part)) {
        const char *there = field_text(&part, "there");
        print_line(out, INDENT, "The index for it: %s; %s%s", field_text(&part, "wanted"),
                   there[0] ? "there is " : "there is none", there);
    }
}

static void print_deployment(const bson_t *record, FILE *out)
{
    bson_t deployment;
    bson_t part;
    char at[32];
    if (!field_find(record, "deployment", &deployment)) {
        return;
    }
    fputs("\nWhat the server said of itself\n", out);
    bool answered = number_of(&deployment, "at") > 0;
    print_line(out, INDENT, "%s%s%s", field_text(&deployment, "state"), answered ? ", " : "",
               answered ? date(number_of(&deployment, "at"), at) : "");
    if (field_find(&deployment, "connections", &part)) {
        char more[48] = "how many are possible it does not tell";
        if (bson_has_field(&part, "available")) {
            snprintf(more, sizeof more, "%.0f more possible", number_of(&part, "available"));
        }
        print_line(out, INDENT, "%.0f connections, %s", number_of(&part, "current"), more);
    }
    print_plan(&deployment, out);
    if (field_find(&deployment, "operations", &part)) {
        char threshold[32];
        print_line(out, INDENT, "%.0f operations%s, %.0f of them for more than %s, %.0f by a scan",
                   number_of(&part, "active"), truth_of(&part, "ownOnly") ? " of weir's own" : "",
                   number_of(&part, "long"), duration(number_of(&part, "threshold"), threshold),
                   number_of(&part, "longScans"));
        print_list(&part, "longest", "Under way there, longest first", 0, print_operation, out);
    }
    print_list(&deployment, "members", "Members, as it sees them", 0, print_member, out);
    print_list(&deployment, "unanswered", "What it did not answer", 0, print_unanswered, out);
}

// --- what is not known here ---------------------------------------------------------------------

static bool is_known(const char *key)
{
    static const char *const known[] = {
        "_id",         "server", "begin",   "end",    "ended",     "duration", "cap",
        "limit",       "cause",  "verdict", "causes", "remedies",  "holders",  "worst",
        "longestWait", "shed",   "waiters", "shapes", "upstreams", "left",     "deployment",
    };
    size_t place = 0;
    while (place < sizeof known / sizeof known[0] && strcmp(known[place], key) != 0) {
        place++;
    }
    return place < sizeof known / sizeof known[0];
}

// What a newer weir has written besides, as it is.
static void print_unknown(const bson_t *record, FILE *out)
{
    bson_t unknown = BSON_INITIALIZER;
    bson_iter_t iter;
    for (bson_iter_init(&iter, record); bson_iter_next(&iter);) {
        if (!is_known(bson_iter_key(&iter))) {
            bson_append_iter(&unknown, NULL, -1, &iter);
        }
    }
    if (!bson_empty(&unknown)) {
        char *json = bson_as_relaxed_extended_json(&unknown, NULL);
        fputs("\nBesides, which this weir does not know\n", out);
        print_wrapped(INDENT, "", json ? json : "(no text)", out);
        bson_free(json);
    }
    bson_destroy(&unknown);
}

static void print_head(const bson_t *record, FILE *out)
{
    char begin[32];
    char lasted[32];
    char wait[32];
    const char *ended = field_text(record, "ended");
    bool calm = strcmp(field_text(record, "cause"), "none") == 0;
    bool cut_off = ended[0] != '\0' && strcmp(ended, "calm") != 0;
    if (calm) {
        print_line(out, 0, "Now, at %s", field_text(record, "server"));
    } else {
        print_line(out, 0, "Exhaustion %s of %s", field_text(record, "_id"),
                   field_text(record, "server"));
    }
    print_line(out, INDENT, "%s, %s%s%s%s; cap %.0f, limit %.0f; longest wait %s",
               date(number_of(record, "begin"), begin),
               duration(number_of(record, "duration"), lasted),
               number_of(record, "end") > 0 ? "" : " so far", cut_off ? ", then: " : "",
               cut_off ? ended : "", number_of(record, "cap"), number_of(record, "limit"),
               duration(number_of(record, "longestWait"), wait));
    fputs("\nVerdict\n", out);
    print_wrapped(INDENT, "", field_text(record, "verdict"), out);
}

bool explain_event_print(const bson_t *record, FILE *out)
{
    if (!field_text(record, "_id")[0] || !field_text(record, "server")[0] ||
        !field_text(record, "verdict")[0] || number_of(record, "begin") <= 0) {
        return false;
    }
    bool clear = strcmp(field_text(record, "cause"), "unclear") != 0;
    print_head(record, out);
    print_list(record, "remedies", "What to do", 0, print_remedy, out);
    print_list(record, "causes", clear ? "Less likely" : "Not enough for a verdict", clear,
               print_cause, out);
    print_list(record, "holders", "Held at the begin, longest first", 0, print_holder, out);
    print_worst(record, out);
    print_list(record, "waiters", "Waited, by tenant", 0, print_waiter, out);
    print_shed(record, out);
    print_list(record, "shapes", "Shapes that held most", 0, print_shape, out);
    print_connections(record, out);
    print_deployment(record, out);
    print_unknown(record, out);
    return true;
}

// --- where it is from ---------------------------------------------------------------------------

__attribute__((format(printf, 2, 3))) static int complain(int status, const char *format, ...)
{
    char text[LINE_BYTES];
    char escaped[PRINTED_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printed_escape(text, escaped);
    fprintf(stderr, "weir explain-event: %s\n", escaped);
    return status;
}

static bool read_whole(const char *path, struct buffer *content, char ret_error[ERROR_BYTES])
{
    FILE *file = fopen(path, "re");
    size_t got = 0;
    if (file) {
        got = fread(buffer_reserve(content, FILE_BYTES_MAX), 1, FILE_BYTES_MAX, file);
        buffer_commit(content, got);
    }
    bool good = file && !ferror(file);
    if (!good) {
        snprintf(ret_error, ERROR_BYTES, "%.500s: %s", path, strerror(errno));
    } else if (got == FILE_BYTES_MAX) {
        snprintf(ret_error, ERROR_BYTES, "%.500s: too large to be a record", path);
        good = false;
    }
    if (file) {
        fclose(file);
    }
    return good;
}

static int explain_file(const char *path)
{
    char error[ERROR_BYTES];
    bson_error_t wrong = {0};
    struct buffer content = {0};
    if (!read_whole(path, &content, error)) {
        buffer_fini(&content);
        return complain(EXIT_FAILURE, "%s", error);
    }
    ssize_t len = (ssize_t)buffer_held(&content);
    bson_t *record = len > 0 ? bson_new_from_json(buffer_at(&content), len, &wrong) : NULL;
    buffer_fini(&content);
    if (!record) {
        return complain(EXIT_FAILURE, "%.500s: is %s", path, len > 0 ? "not JSON" : "empty");
    }
    bool good = explain_event_print(record, stdout);
    bson_destroy(record);
    return good ? EXIT_SUCCESS
                : complain(EXIT_FAILURE, "%.500s: is not the record of an exhaustion", path);
}

// The newest are the last, and named.
static void name_those_there(const bson_t *events, const char *id, char ret_error[ERROR_BYTES])
{
    bson_iter_t iter;
    bson_t event;
    int count = (int)bson_count_keys(events);
    int place = 0;
    size_t used = (size_t)snprintf(ret_error, ERROR_BYTES, "%.60s: no such event", id);
    if (count == 0) {
        snprintf(ret_error + used, ERROR_BYTES - used, ", nor any other: nothing ran out so far");
        return;
    }
    used += (size_t)snprintf(ret_error + used, ERROR_BYTES - used,
                             "; %s:", count > NAMED_MAX ? "the latest are" : "there are");
    for (bson_iter_init(&iter, events); bson_iter_next(&iter);) {
        if (place++ >= count - NAMED_MAX && field_open(&iter, &event)) {
            used += (size_t)snprintf(ret_error + used, ERROR_BYTES - used, " %.48s",
                                     field_text(&event, "_id"));
        }
    }
}

static int explain_one_of(const bson_t *events, const char *id)
{
    char error[ERROR_BYTES];
    bson_iter_t iter;
    bson_t event;
    for (bson_iter_init(&iter, events); bson_iter_next(&iter);) {
        if (field_open(&iter, &event) && strcmp(field_text(&event, "_id"), id) == 0) {
            return explain_event_print(&event, stdout)
                       ? EXIT_SUCCESS
                       : complain(EXIT_FAILURE, "%.60s: its record cannot be read", id);
        }
    }
    name_those_there(events, id, error);
    return complain(EXIT_FAILURE, "%s", error);
}

static int explain_answer(const struct buffer *line, const char *id)
{
    char error[ERROR_BYTES];
    bson_t state;
    bson_t events;
    bson_t *answer = control_client_read(line, error);
    if (!answer) {
        return complain(EXIT_FAILURE, "%s", error);
    }
    int status = field_find(answer, "state", &state) && field_find(&state, "exhaustions", &events)
                     ? explain_one_of(&events, id)
                     : complain(EXIT_FAILURE, "this weir keeps no records");
    bson_destroy(answer);
    return status;
}

static int ask(const struct control_choice *choice, const char *id)
{
    char path[CONTROL_PATH_BYTES];
    char error[ERROR_BYTES];
    int status = control_client_choose(choice, path, error);
    if (status != EXIT_SUCCESS) {
        return complain(status, "%s", error);
    }
    struct buffer line = {0};
    bson_t *order =
        BCON_NEW("order", BCON_UTF8("state"), "collections", "[", BCON_UTF8("exhaustions"), "]");
    status = control_client_ask(path, order, &line, error) ? explain_answer(&line, id)
                                                           : complain(EXIT_FAILURE, "%s", error);
    bson_destroy(order);
    buffer_fini(&line);
    return status;
}

// An id has neither.
static bool is_file(const char *text)
{
    return strchr(text, '/') || strchr(text, '.') || access(text, F_OK) == 0;
}

int explain_event_main(int argc, char **argv)
{
    struct control_choice choice = {0};
    const char *what = NULL;
    bool help = false;
    char error[FLAGS_ERROR_BYTES];
    const struct flag flags[] = {
        {"socket", &choice.socket, NULL}, {"port", &choice.port, NULL}, {"help", NULL, &help}};
    if (!flags_read(flags, sizeof flags / sizeof flags[0], argc, argv, &what, error)) {
        return complain(EXIT_USAGE, "%s", error);
    }
    if (help) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (!what || !what[0]) {
        return complain(EXIT_USAGE, "say which: an ID from the log, or a FILE; see --help");
    }
    return is_file(what) ? explain_file(what) : ask(&choice, what);
}
