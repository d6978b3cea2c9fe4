// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/ctl.h"

#include <bson/bson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/admin/control_client.h"
#include "proxy/admin/explain_event.h"
#include "proxy/admin/fields.h"
#include "proxy/admin/printed.h"
#include "proxy/config_loader.h"
#include "proxy/mem.h"
#include "proxy/rule_text.h"
#include "wire/buffer.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

enum { NAME_BYTES = 64, LINE_BYTES = 2048 };

static const char usage[] =
    "Usage: weir ctl [--socket PATH | --port N] [--json] ORDER\n"
    "\n"
    "Asks a weir that runs on this machine. One that was started by the same user is\n"
    "found by itself; among several, --port says which. Root may ask every weir:\n"
    "--socket PATH.\n"
    "\n"
    "  status                what is held just now\n"
    "  state                 all that can be seen, as JSON\n"
    "  verdict               whether connections have run out just now, and why\n"
    "  rule list             the rules in their order; the first that matches an\n"
    "                        operation counts\n"
    "  rule add FIELDS       a rule before all others, for 15 minutes unless --for\n"
    "                        says otherwise\n"
    "  rule remove ID        ID as rule list has it\n"
    "  emergency on [--for TIME] [--why TEXT]\n"
    "                        a smaller cap, short waits, bounded times, runaways\n"
    "                        killed, as emergency.* of the configuration says; once\n"
    "                        more changes the end only with --for\n"
    "  emergency off         takes back exactly that\n"
    "  emergency status\n"
    "  reload                the configuration is read anew; what has changed is\n"
    "                        told, what takes a restart is named; with a mistake in\n"
    "                        it nothing changes\n"
    "  drain [--within TIME] takes nobody new, sends clients away when they are idle,\n"
    "                        and ends with the last of them, or after that time\n"
    "  upgrade [--within TIME]\n"
    "                        another process takes over, by the binary and the\n"
    "                        configuration that are there now, under one cap with\n"
    "                        this one, which drains; if it cannot, nothing changes\n"
    "  setCap N | default    the cap of each server; shrinks as connections come back\n"
    "  setLimit N | default  the most requests that each server has at one time\n"
    "  pause, resume         what is new waits, for upstream.serverWait at most\n"
    "  kill --request N | --client N | --over TIME | --shape ID [--over TIME]\n"
    "                        ends a request, a client, all that a server has worked\n"
    "                        on for so long, all of a shape; --why TEXT\n"
    "\n"
    "Examples:\n"
    "  weir ctl emergency on --for 30m --why 'deploy went wrong'\n"
    "  weir ctl rule add --namespace shop.orders --command distinct --deny\n"
    "  weir ctl rule add --app 'report*' --at-once 2 --for 2h\n"
    "  weir ctl rule add --kind write --per-second 100 --dry-run\n"
    "  weir ctl rule remove 3\n"
    "  weir ctl kill --over 30s\n"
    "\n"
    "  --json                the answer as it came\n"
    "  --help                this\n"
    "\n"
    "Fields of a rule: what it matches, all of which must be so; what it does; the\n"
    "rest.\n"
    "\n";

// What the command line says.
struct wish {
    struct control_choice weir;
    bool json;
    bool help;
    bool has_by;
    char order[NAME_BYTES]; // its words, but for a number
    const char *id;
    bson_t fields;
};

__attribute__((format(printf, 2, 3))) static int complain(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("weir ctl: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return status;
}

// --- the command line ---------------------------------------------------------------------------

static int field_of_flag(const char *flag, size_t length)
{
    int field = 0;
    while (field < RULE_OPTION_COUNT && (strlen(rule_rows[field].flag) != length ||
                                         strncmp(rule_rows[field].flag, flag, length) != 0)) {
        field++;
    }
    return field;
}

// Those that no rule has; NULL if it is none of them.
static const char *const other_fields[] = {"request", "over", "within"};
#define OTHER_FIELD_COUNT (sizeof other_fields / sizeof other_fields[0])

static const char *other_field_of_flag(const char *flag, size_t length)
{
    for (size_t i = 0; i < OTHER_FIELD_COUNT; i++) {
        if (strlen(other_fields[i]) == length && strncmp(other_fields[i], flag, length) == 0) {
            return other_fields[i];
        }
    }
    return NULL;
}

static int complain_of_flag(const char *flag, size_t length)
{
    static const char *const others[] = {"socket", "port", "json", "help"};
    char typed[NAME_BYTES];
    struct guess guess;
    snprintf(typed, sizeof typed, "%.*s", (int)length, flag);
    guess_init(&guess, typed);
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        guess_try(&guess, rule_rows[i].flag);
    }
    for (size_t i = 0; i < OTHER_FIELD_COUNT; i++) {
        guess_try(&guess, other_fields[i]);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        guess_try(&guess, others[i]);
    }
    if (guess.match[0] == '\0') {
        return complain(EXIT_USAGE, "--%s: unknown flag, see weir ctl --help", typed);
    }
    return complain(EXIT_USAGE, "--%s: unknown flag, did you mean --%s?", typed, guess.match);
}

static int take_flag(struct wish *wish, int argc, char *const argv[], int *at)
{
    const char *flag = argv[*at] + 2;
    size_t length = strcspn(flag, "=");
    const char *value = flag[length] == '=' ? flag + length + 1 : NULL;
    bool is_socket = length == 6 && strncmp(flag, "socket", length) == 0;
    bool is_port = length == 4 && strncmp(flag, "port", length) == 0;
    int field = field_of_flag(flag, length);
    const char *other_field = other_field_of_flag(flag, length);
    if (strcmp(flag, "json") == 0) {
        wish->json = true;
        return 0;
    }
    if (strcmp(flag, "help") == 0) {
        wish->help = true;
        return 0;
    }
    if (!is_socket && !is_port && !other_field && field == RULE_OPTION_COUNT) {
        return complain_of_flag(flag, length);
    }
    if (!value && field < RULE_OPTION_COUNT && rule_rows[field].type == OPTION_BOOL) {
        value = "true";
    }
    if (!value && *at + 1 == argc) {
        return complain(EXIT_USAGE, "%s: needs a value", argv[*at]);
    }
    value = value ? value : argv[++*at];
    if (is_socket) {
        wish->weir.socket = value;
    } else if (is_port) {
        wish->weir.port = value;
    } else if (!bson_utf8_validate(value, strlen(value), false)) {
        return complain(EXIT_USAGE, "--%.*s: is not UTF-8", (int)length, flag);
    } else {
        const char *name = other_field ? other_field : rule_rows[field].name;
        BSON_APPEND_UTF8(&wish->fields, name, value);
        wish->has_by |= field == RULE_OPTION_by;
    }
    return 0;
}

static int take_word(struct wish *wish, const char *word)
{
    size_t used = strlen(wish->order);
    if (word[0] != '\0' && word[strspn(word, "0123456789")] == '\0') {
        bool first = !wish->id;
        wish->id = word;
        return first ? 0 : complain(EXIT_USAGE, "%s: one number at a time", word);
    }
    int length =
        snprintf(wish->order + used, sizeof wish->order - used, "%s%s", used ? " " : "", word);
    return (size_t)length < sizeof wish->order - used
               ? 0
               : complain(EXIT_USAGE, "too many words, see weir ctl --help");
}

static int read_command_line(struct wish *wish, int argc, char *const argv[])
{
    int status = 0;
    for (int i = 1; i < argc && status == 0; i++) {
        status = strncmp(argv[i], "--", 2) == 0 ? take_flag(wish, argc, argv, &i)
                 : strcmp(argv[i], "-h") == 0   ? (wish->help = true, 0)
                                                : take_word(wish, argv[i]);
    }
    return status;
}

static void print_help(void)
{
    fputs(usage, stdout);
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        option_print_help(stdout, &rule_rows[i]);
    }
}

// --- what it was refused for --------------------------------------------------------------------

// The flag of a field as the database weir calls it; NULL: there is none.
static const char *flag_of_field(const char *name, size_t length)
{
    for (int i = 0; i < RULE_OPTION_COUNT; i++) {
        if (strlen(rule_rows[i].name) == length && strncmp(rule_rows[i].name, name, length) == 0) {
            return rule_rows[i].flag;
        }
    }
    return other_field_of_flag(name, length);
}

// As weir says it, but with flags for fields: for those that it blames, and all whose names are no
// common words.
static void translate(const char *error, char ret_text[CONTROL_CLIENT_ERROR_BYTES])
{
    static const char on[] = ": true"; // a switch has no value here
    size_t used = 0;
    while (*error != '\0' && used < CONTROL_CLIENT_ERROR_BYTES - 1) {
        size_t length = strspn(error, LETTERS);
        const char *flag = flag_of_field(error, length);
        length = length > 0 ? length : 1;
        if (flag && (error[length] == ':' || strncmp(flag, error, length) != 0)) {
            used +=
                (size_t)snprintf(ret_text + used, CONTROL_CLIENT_ERROR_BYTES - used, "--%s", flag);
            length += strncmp(error + length, on, strlen(on)) == 0 ? strlen(on) : 0;
        } else {
            used += (size_t)snprintf(ret_text + used, CONTROL_CLIENT_ERROR_BYTES - used, "%.*s",
                                     (int)length, error);
        }
        error += length;
    }
}

// --- what people read ---------------------------------------------------------------------------

static int64_t number_of(const bson_t *document, const char *key)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, document, key) ? bson_iter_as_int64(&iter) : 0;
}

static void print_rule(const bson_t *rule)
{
    const char *why = field_text(rule, "why");
    printf("%4lld  %-14s %9lld %9lld  %s%s  [%s%s%s]\n", (long long)number_of(rule, "id"),
           field_text(rule, "ends"), (long long)number_of(rule, "hits"),
           (long long)number_of(rule, "refused"), field_text(rule, "says"),
           number_of(rule, "dryRun") ? " (dry run)" : "", field_text(rule, "by"),
           why[0] ? ": " : "", why);
}

static void print_server(const bson_t *server)
{
    if (!bson_has_field(server, "cap")) {
        printf("%s\n    waiting %lld\n", field_text(server, "server"),
               (long long)number_of(server, "waiting"));
        return;
    }
    printf("%s\n", field_text(server, "server"));
    printf("    in flight %lld (slow %lld of %lld), limit %lld, cap %lld\n",
           (long long)number_of(server, "inFlight"), (long long)number_of(server, "inFlightSlow"),
           (long long)number_of(server, "slowLimit"), (long long)number_of(server, "limit"),
           (long long)number_of(server, "cap"));
    printf("    waiting %lld, shed since start %lld, connections %lld (idle %lld)\n",
           (long long)number_of(server, "waiting"), (long long)number_of(server, "shed"),
           (long long)number_of(server, "upstreamsOpen"),
           (long long)number_of(server, "upstreamsIdle"));
}

// Calls a function for each document of an array. Returns how many.
static int for_each(const bson_iter_t *array, void (*print)(const bson_t *item))
{
    bson_iter_t item;
    int count = 0;
    if (!BSON_ITER_HOLDS_ARRAY(array) || !bson_iter_recurse(array, &item)) {
        return 0;
    }
    for (; bson_iter_next(&item); count++) {
        bson_t document;
        if (BSON_ITER_HOLDS_DOCUMENT(&item) && field_open(&item, &document)) {
            print(&document);
        }
    }
    return count;
}

static void print_rules(const bson_iter_t *rules)
{
    printf("%4s  %-14s %9s %9s\n", "ID", "END", "HITS", "REFUSED");
    if (for_each(rules, print_rule) == 0) {
        puts("no rules");
    }
}

static void print_emergency(const bson_iter_t *iter)
{
    const uint8_t *data;
    uint32_t len;
    bson_t emergency;
    bson_iter_document(iter, &len, &data);
    if (!bson_init_static(&emergency, data, len) || !number_of(&emergency, "on")) {
        puts("no emergency");
        return;
    }
    const char *why = field_text(&emergency, "why");
    long long ends_s = number_of(&emergency, "endsInSeconds");
    printf("EMERGENCY for %llds [%s%s%s], ", (long long)number_of(&emergency, "forSeconds"),
           field_text(&emergency, "by"), why[0] ? ": " : "", why);
    if (ends_s > 0) {
        printf(ends_s >= 120 ? "ends in %lldm\n" : "ends in %llds\n",
               ends_s >= 120 ? (ends_s + 59) / 60 : ends_s);
    } else {
        puts("until weir ctl emergency off");
    }
}

static void print_verdict(const bson_t *verdict)
{
    static bool another;
    fputs(another ? "\n\n" : "", stdout);
    another = true;
    if (!explain_event_print(verdict, stdout)) {
        puts("(it cannot be read)");
    }
}

static void print_state(const bson_iter_t *iter)
{
    const uint8_t *data;
    uint32_t len;
    bson_t state;
    bson_iter_t verdicts;
    bson_iter_document(iter, &len, &data);
    if (!bson_init_static(&state, data, len)) {
        return;
    }
    if (bson_iter_init_find(&verdicts, &state, "verdicts")) {
        if (for_each(&verdicts, print_verdict) == 0) {
            puts("no server of the deployment is known yet");
        }
    } else {
        char *json = bson_as_relaxed_extended_json(&state, NULL);
        puts(json);
        bson_free(json);
    }
}

static void print_answer(const bson_t *answer)
{
    bson_iter_t iter;
    bool silent = true;
    for (bson_iter_init(&iter, answer); bson_iter_next(&iter);) {
        const char *key = bson_iter_key(&iter);
        if (strcmp(key, "rules") == 0) {
            print_rules(&iter);
        } else if (strcmp(key, "servers") == 0) {
            for_each(&iter, print_server);
        } else if (strcmp(key, "state") == 0 && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            print_state(&iter);
        } else if (strcmp(key, "emergency") == 0 && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            print_emergency(&iter);
        } else if (strcmp(key, "id") == 0) {
            printf("rule %lld: %s, %s\n", (long long)bson_iter_as_int64(&iter),
                   field_text(answer, "says"), field_text(answer, "ends"));
        } else if ((strcmp(key, "reloaded") == 0 || strcmp(key, "upgraded") == 0 ||
                    strcmp(key, "now") == 0) &&
                   BSON_ITER_HOLDS_UTF8(&iter)) {
            puts(bson_iter_utf8(&iter, NULL));
        } else if (strcmp(key, "draining") == 0 && bson_iter_as_bool(&iter)) {
            puts("DRAINING");
        } else if (BSON_ITER_HOLDS_INT(&iter)) {
            printf("%s %lld\n", strcmp(key, "ended") == 0 ? "asked to end" : key,
                   (long long)bson_iter_as_int64(&iter));
        } else {
            continue;
        }
        silent = false;
    }
    if (silent) {
        puts("done");
    }
}

// --- the first lines of the status --------------------------------------------------------------

// Of those of now the one of that server; NULL: there is none that goes on.
static const char *verdict_of(const bson_t *answer, const char *server)
{
    bson_t state;
    bson_t list;
    bson_t verdict;
    bson_iter_t iter;
    bool some = answer && field_find(answer, "state", &state) &&
                field_find(&state, "verdicts", &list) && bson_iter_init(&iter, &list);
    while (some && bson_iter_next(&iter)) {
        if (field_open(&iter, &verdict) && strcmp(field_text(&verdict, "server"), server) == 0 &&
            strcmp(field_text(&verdict, "cause"), "none") != 0) {
            return field_text(&verdict, "verdict");
        }
    }
    return NULL;
}

// Returns whether there is something to say of the server.
static bool print_trouble(const bson_t *server, const bson_t *verdicts)
{
    char line[LINE_BYTES];
    const char *name = field_text(server, "server");
    const char *trouble = field_text(server, "trouble");
    const char *verdict = verdict_of(verdicts, name);
    bson_iter_t iter;
    double lasts =
        bson_iter_init_find(&iter, server, "exhaustedFor") ? bson_iter_as_double(&iter) : 0;
    if (lasts > 0) {
        snprintf(line, sizeof line, "EXHAUSTED for %.0f s, %s: %s%s%s", lasts, name, trouble,
                 verdict ? "; " : "", verdict ? verdict : "");
    } else if (trouble[0]) {
        snprintf(line, sizeof line, "NOT USABLE, %s: %s", name, trouble);
    } else {
        return false;
    }
    print_wrapped(0, "", line, stdout);
    return true;
}

static void print_troubles(const bson_t *status, const bson_t *verdicts)
{
    bson_t list;
    bson_t server;
    bson_iter_t iter;
    bool any = false;
    bool some = field_find(status, "servers", &list) && bson_iter_init(&iter, &list);
    while (some && bson_iter_next(&iter)) {
        any |= field_open(&iter, &server) && print_trouble(&server, verdicts);
    }
    puts(any ? "" : "ok");
}

// The verdict may be late, and the status is told without it then.
static void print_status(const bson_t *status, const char *path)
{
    char error[CONTROL_CLIENT_ERROR_BYTES];
    struct buffer line = {0};
    bson_t order = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&order, "order", "verdict");
    bson_t *verdicts =
        control_client_ask(path, &order, &line, error) ? control_client_read(&line, error) : NULL;
    print_troubles(status, verdicts);
    print_answer(status);
    bson_destroy(verdicts);
    bson_destroy(&order);
    buffer_fini(&line);
}

// ------------------------------------------------------------------------------------------------

static int show(const struct wish *wish, const struct buffer *line, const char *path)
{
    char error[CONTROL_CLIENT_ERROR_BYTES];
    bson_t *answer = control_client_read(line, error);
    if (wish->json) {
        printf("%.*s", (int)buffer_held(line), (const char *)buffer_at(line));
    } else if (answer && strcmp(wish->order, "status") == 0) {
        print_status(answer, path);
    } else if (answer) {
        print_answer(answer);
    } else {
        char text[CONTROL_CLIENT_ERROR_BYTES] = "";
        translate(error, text);
        complain(EXIT_FAILURE, "%s", text);
    }
    int status = answer ? EXIT_SUCCESS : EXIT_FAILURE;
    bson_destroy(answer);
    return status;
}

// ------------------------------------------------------------------------------------------------

static void write_order(struct wish *wish, bson_t *order)
{
    const char *sudo = getenv("SUDO_USER");
    bool named = strcmp(wish->order, "rule add") == 0 || strcmp(wish->order, "emergency on") == 0 ||
                 strcmp(wish->order, "kill") == 0;
    if (sudo && geteuid() == 0 && named && !wish->has_by &&
        bson_utf8_validate(sudo, strlen(sudo), false)) {
        BSON_APPEND_UTF8(&wish->fields, "by", sudo);
    }
    BSON_APPEND_UTF8(order, "order", wish->order);
    if (wish->id) {
        BSON_APPEND_INT64(order, "id", strtoll(wish->id, NULL, 10));
    }
    BSON_APPEND_DOCUMENT(order, "fields", &wish->fields);
}

static int ask(struct wish *wish)
{
    char path[CONTROL_PATH_BYTES] = "";
    char error[CONTROL_CLIENT_ERROR_BYTES];
    if (!bson_utf8_validate(wish->order, strlen(wish->order), false)) {
        return complain(EXIT_USAGE, "that is not UTF-8");
    }
    int status = control_client_choose(&wish->weir, path, error);
    if (status != EXIT_SUCCESS) {
        return complain(status, "%s", error);
    }
    struct buffer answer = {0};
    bson_t order = BSON_INITIALIZER;
    write_order(wish, &order);
    status = control_client_ask(path, &order, &answer, error) ? show(wish, &answer, path)
                                                              : complain(EXIT_FAILURE, "%s", error);
    bson_destroy(&order);
    buffer_fini(&answer);
    return status;
}

int ctl_main(int argc, char **argv)
{
    struct wish wish = {.fields = BSON_INITIALIZER};
    int status = read_command_line(&wish, argc, argv);
    if (status == 0 && wish.help) {
        print_help();
    } else if (status == 0 && wish.order[0] == '\0') {
        status = complain(EXIT_USAGE, "say what is to be done, see weir ctl --help");
    } else if (status == 0) {
        status = ask(&wish);
    }
    bson_destroy(&wish.fields);
    return status;
}
