// SPDX-License-Identifier: Apache-2.0
//
// Loading, from the weakest source to the strongest; each overwrites what the one before said:
//
//     presets -> file -> variables -> flags -> do they agree?
//
// Flags are collected first, because one of them names the file. A wrong value is refused also
// where a stronger source would have overwritten it. Each value remembers where it came from, so
// that an error can name the place also when it is found much later.

#include "proxy/config.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/config_loader.h"
#include "proxy/mem.h"
#include "proxy/rule_text.h"
#include "proxy/users.h"
#include "wire/compression.h"

enum { SHOWN_BYTES = 200 };

// What the command line says: texts borrowed from argv, NULL where it says nothing.
struct command_line {
    const char *values[CONFIG_OPTION_COUNT];
    const char *file;
};

static const char *uri_variable; // of the app; NULL: there is none

void config_look_at(const char *apps_variable)
{
    uri_variable = apps_variable;
}

// A URI where none belongs (an argument forgotten before it, = or : mistaken) has its password with
// it: what stands between its :// and rest is hidden.
static void hide_uri(char *text, const char *rest)
{
    char *uri = strstr(text, "://");
    if (uri == NULL || rest < uri + strlen("://***")) {
        return;
    }
    memcpy(uri, "://***", strlen("://***"));
    memmove(uri + strlen("://***"), rest, strlen(rest) + 1);
}

// The last ": ", after which there is nothing but what we have to say; NULL if there is none.
static const char *our_words(const char *line)
{
    const char *last = NULL;
    for (const char *c = strstr(line, ": "); c != NULL; c = strstr(c + 1, ": ")) {
        last = c;
    }
    return last;
}

bool loader_fail(struct loader *loader, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(loader->ret_error, CONFIG_ERROR_BYTES, format, arguments);
    va_end(arguments);
    for (char *c = loader->ret_error; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == '\x7f') {
            *c = '?';
        }
    }
    const char *ours = our_words(loader->ret_error);
    if (ours != NULL) {
        hide_uri(loader->ret_error, ours);
    }
    return false;
}

// Writes what the setting is called where it comes from.
static void option_name_in(enum config_option option, enum config_source source,
                           char ret_name[OPTION_NAME_BYTES])
{
    const struct option_row *row = &option_rows[option];
    if (source == CONFIG_FROM_VARIABLE) {
        option_variable(row->flag, ret_name);
    } else if (source == CONFIG_FROM_APPS_VARIABLE) {
        snprintf(ret_name, OPTION_NAME_BYTES, "%s", uri_variable);
    } else if (source == CONFIG_FROM_FLAG && row->type == OPTION_URI) {
        snprintf(ret_name, OPTION_NAME_BYTES, "URI");
    } else if (source == CONFIG_FROM_FLAG) {
        snprintf(ret_name, OPTION_NAME_BYTES, "--%s", row->flag);
    } else {
        snprintf(ret_name, OPTION_NAME_BYTES, "%s", row->name);
    }
}

static void describe(const struct config *config, enum config_option option,
                     struct config_origin origin, const char *value, char *ret_subject)
{
    char place[CONFIG_SUBJECT_BYTES / 2] = "", name[OPTION_NAME_BYTES];
    enum option_type type = option_rows[option].type;
    bool show = type != OPTION_URI && type != OPTION_URL && value[0] != '\0';
    option_name_in(option, origin.source, name);
    if (origin.source == CONFIG_FROM_FILE) {
        snprintf(place, sizeof place, "%.200s:%d: ", config->file, origin.line);
    }
    snprintf(ret_subject, CONFIG_SUBJECT_BYTES, "%s%s%s%.*s", place, name, show ? " " : "",
             show ? SHOWN_BYTES : 0, value);
    hide_uri(ret_subject, ret_subject + strlen(ret_subject));
}

void config_describe(const struct config *config, enum config_option option,
                     char ret_subject[CONFIG_SUBJECT_BYTES])
{
    char value[CONFIG_VALUE_BYTES] = "";
    if (option_has_value(&option_rows[option], config)) {
        option_show(&option_rows[option], config, value, sizeof value);
    }
    describe(config, option, config->origins[option], value, ret_subject);
}

void config_blame(const struct config *config, enum config_option option, const char *error,
                  char *ret_error, size_t capacity)
{
    char subject[CONFIG_SUBJECT_BYTES], value[CONFIG_VALUE_BYTES];
    const struct option_row *row = &option_rows[option];
    config_describe(config, option, subject);
    if (option_has_value(row, config)) {
        option_show(row, config, value, sizeof value);
        if (strncmp(error, value, strlen(value)) == 0) { // a path: once is enough
            describe(config, option, config->origins[option], "", subject);
        }
    }
    snprintf(ret_error, capacity, "%.*s: %s", CONFIG_SUBJECT_BYTES, subject, error);
}

bool loader_set(struct loader *loader, enum config_option option, struct config_origin origin,
                const char *text)
{
    struct config *config = loader->config;
    char subject[CONFIG_SUBJECT_BYTES], reason[OPTION_REASON_BYTES];
    describe(config, option, origin, text, subject);
    if (origin.source == config->origins[option].source && origin.source != CONFIG_FROM_DEFAULT) {
        return loader_fail(loader, "%s: given twice", subject);
    }
    if (!option_set(&option_rows[option], config, text, reason)) {
        return loader_fail(loader, "%s: %s", subject, reason);
    }
    config->origins[option] = origin;
    return true;
}

static void set_presets(struct loader *loader)
{
    struct config_origin origin = {CONFIG_FROM_DEFAULT, 0};
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const char *preset = option_rows[i].preset;
        bool fine = preset == NULL || loader_set(loader, (enum config_option)i, origin, preset);
        assert(fine);
    }
}

static void guess_flag(struct guess *guess, const char *typed)
{
    guess_init(guess, typed);
    guess_try(guess, "config");
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        guess_try(guess, option_rows[i].flag);
    }
}

static bool fail_unknown_flag(struct loader *loader, const char *flag)
{
    struct guess guess;
    char typed[OPTION_NAME_BYTES];
    snprintf(typed, sizeof typed, "%.*s", (int)strcspn(flag, "="), flag);
    guess_flag(&guess, typed);
    if (guess.match[0] == '\0') {
        return loader_fail(loader, "%s: unknown flag, see weir --help", typed);
    }
    return loader_fail(loader, "%s: unknown flag, did you mean --%s?", typed, guess.match);
}

static void make_long_options(struct option ret_options[CONFIG_OPTION_COUNT + 2])
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        bool is_switch = option_rows[i].type == OPTION_BOOL;
        int argument = is_switch ? optional_argument : required_argument;
        ret_options[i] = (struct option){option_rows[i].flag, argument, NULL, 'f'};
    }
    ret_options[CONFIG_OPTION_COUNT] = (struct option){"config", required_argument, NULL, 'f'};
    ret_options[CONFIG_OPTION_COUNT + 1] = (struct option){0};
}

// flag is the argument as written. getopt would take the beginning of a name for the name; what is
// written then changes its meaning when a setting is added.
static bool take_flag(struct loader *loader, struct command_line *line, const char *flag,
                      const struct option *option, int index)
{
    char name[OPTION_NAME_BYTES];
    snprintf(name, sizeof name, "--%s", option->name);
    if (strcspn(flag, "=") != strlen(name)) {
        return fail_unknown_flag(loader, flag);
    }
    const char **place = index < CONFIG_OPTION_COUNT ? &line->values[index] : &line->file;
    if (*place != NULL) {
        return loader_fail(loader, "%s: given twice", name);
    }
    *place = optarg != NULL ? optarg : "true";
    return true;
}

static bool take_uri(struct loader *loader, struct command_line *line, const char *uri)
{
    const char **place = &line->values[CONFIG_OPTION_uri];
    if (*place != NULL) {
        return loader_fail(loader, "URI: given twice, or an argument that belongs to no flag");
    }
    *place = uri;
    return true;
}

static bool read_command_line(struct loader *loader, int argc, char *const argv[],
                              struct command_line *line)
{
    struct option options[CONFIG_OPTION_COUNT + 2];
    make_long_options(options);
    opterr = 0;
    optind = 0; // begins anew, in glibc and musl
    for (;;) {
        int at = optind > 0 ? optind : 1, index = 0;
        int found = getopt_long(argc, argv, "-:", options, &index);
        bool fine = true;
        if (found == -1) {
            break;
        }
        if (found == 'f') {
            fine = take_flag(loader, line, argv[at], &options[index], index);
        } else if (found == 1) {
            fine = take_uri(loader, line, optarg);
        } else if (found == ':') {
            fine = loader_fail(loader, "%.*s: needs a value", SHOWN_BYTES, argv[at]);
        } else {
            fine = fail_unknown_flag(loader, argv[at]);
        }
        if (!fine) {
            return false;
        }
    }
    for (; optind < argc; optind++) {
        if (!take_uri(loader, line, argv[optind])) {
            return false;
        }
    }
    return true;
}

static bool set_flags(struct loader *loader, const struct command_line *line)
{
    struct config_origin origin = {CONFIG_FROM_FLAG, 0};
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const char *value = line->values[i];
        if (value != NULL && !loader_set(loader, (enum config_option)i, origin, value)) {
            return false;
        }
    }
    return true;
}

static const char *variable_value(char *const env[], const char *name)
{
    size_t length = strlen(name);
    for (; *env != NULL; env++) {
        if (strncmp(*env, name, length) == 0 && (*env)[length] == '=') {
            return (*env)[length + 1] != '\0' ? *env + length + 1 : NULL;
        }
    }
    return NULL;
}

// In a pod beside a service named weir, Kubernetes sets WEIR_PORT=tcp://10.0.0.1:27017, which is
// not meant for us.
static bool is_service_link(int option, const char *value)
{
    return option == CONFIG_OPTION_port && strncmp(value, "tcp://", 6) == 0;
}

static bool set_variables(struct loader *loader, char *const env[])
{
    struct config_origin origin = {CONFIG_FROM_VARIABLE, 0};
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        char name[OPTION_NAME_BYTES];
        option_variable(option_rows[i].flag, name);
        const char *value = variable_value(env, name);
        if (value == NULL || is_service_link(i, value)) {
            continue;
        }
        if (!loader_set(loader, (enum config_option)i, origin, value)) {
            return false;
        }
    }
    const char *uri = uri_variable ? variable_value(env, uri_variable) : NULL;
    origin.source = CONFIG_FROM_APPS_VARIABLE;
    return !uri || loader->config->origins[CONFIG_OPTION_uri].source == CONFIG_FROM_VARIABLE ||
           loader_set(loader, CONFIG_OPTION_uri, origin, uri);
}

// Variables named WEIR_ may be anybody's, so one that we do not know is refused only if it is
// nearly one of ours.
static bool check_unknown_variables(struct loader *loader, char *const env[])
{
    for (; *env != NULL; env++) {
        char typed[OPTION_NAME_BYTES], known[OPTION_NAME_BYTES];
        struct guess guess;
        if (strncmp(*env, "WEIR_", 5) != 0) {
            continue;
        }
        snprintf(typed, sizeof typed, "%.*s", (int)strcspn(*env, "="), *env);
        guess_flag(&guess, typed + 5);
        option_variable(guess.match, known);
        if (guess.match[0] != '\0' && strcmp(typed, known) != 0) {
            return loader_fail(loader, "%s: unknown variable, did you mean %s?", typed, known);
        }
    }
    return true;
}

// Blames option: its value needs something of other, and more words. What it needs is named as it
// would be written where option was set.
static bool fail_needs(struct loader *loader, enum config_option option, enum config_option other,
                       const char *more)
{
    char subject[CONFIG_SUBJECT_BYTES], name[OPTION_NAME_BYTES];
    config_describe(loader->config, option, subject);
    option_name_in(other, loader->config->origins[option].source, name);
    return loader_fail(loader, "%s: needs %s%s", subject, name, more);
}

static bool check_tls(struct loader *loader)
{
    static const char modes[] = " allowTLS, preferTLS or requireTLS";
    const struct config *config = loader->config;
    bool tls = config->tls_mode != CONFIG_TLS_DISABLED;
    if (!tls && config->tls_certificate_key_file != NULL) {
        return fail_needs(loader, CONFIG_OPTION_tls_certificate_key_file, CONFIG_OPTION_tls_mode,
                          modes);
    }
    if (!tls && config->tls_ca_file != NULL) {
        return fail_needs(loader, CONFIG_OPTION_tls_ca_file, CONFIG_OPTION_tls_mode, modes);
    }
    if (tls && config->tls_certificate_key_file == NULL) {
        return fail_needs(loader, CONFIG_OPTION_tls_mode, CONFIG_OPTION_tls_certificate_key_file,
                          "");
    }
    if (config->tls_crl_file != NULL && config->tls_ca_file == NULL) {
        return fail_needs(loader, CONFIG_OPTION_tls_crl_file, CONFIG_OPTION_tls_ca_file, "");
    }
    if (config->tls_allow_connections_without_certificates && config->tls_ca_file == NULL) {
        return fail_needs(loader, CONFIG_OPTION_tls_allow_connections_without_certificates,
                          CONFIG_OPTION_tls_ca_file, "");
    }
    return true;
}

// Of names only localhost is known to be loopback without asking a name server.
static bool is_loopback(const char *address)
{
    struct in6_addr six;
    struct in_addr four;
    if (inet_pton(AF_INET, address, &four) == 1) {
        return ntohl(four.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, address, &six) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
    }
    return strcasecmp(address, "localhost") == 0;
}

static bool everybody_shows_a_certificate(const struct config *config)
{
    return config->tls_mode == CONFIG_TLS_REQUIRE && config->tls_ca_file != NULL &&
           !config->tls_allow_connections_without_certificates;
}

bool config_is_open(const struct config *config)
{
    bool remote = false;
    for (size_t i = 0; i < config->bind_ip.count; i++) {
        remote |= !is_loopback(config->bind_ip.items[i]);
    }
    return remote && config->authorization != CONFIG_AUTHORIZATION_ENABLED &&
           !everybody_shows_a_certificate(config);
}

static bool check_remote(struct loader *loader)
{
    const struct config *config = loader->config;
    if (config->allow_remote_without_auth || !config_is_open(config)) {
        return true;
    }
    return fail_needs(loader, CONFIG_OPTION_bind_ip, CONFIG_OPTION_allow_remote_without_auth,
                      ", or users in the file, or client certificates required of everybody: TLS "
                      "mode requireTLS, a CA file, none allowed without");
}

static bool is_preset(const struct config *config, const struct option_row *row)
{
    char value[CONFIG_VALUE_BYTES];
    if (!option_has_value(row, config)) {
        return true;
    }
    option_show(row, config, value, sizeof value);
    return row->preset != NULL && strcmp(value, row->preset) == 0;
}

// Whoever changes a part of it means a cap that several weirs share.
static bool check_fleet(struct loader *loader)
{
    const struct config *config = loader->config;
    for (int i = 0; i < CONFIG_OPTION_COUNT && config->fleet_redis == NULL; i++) {
        const struct option_row *row = &option_rows[i];
        if (strncmp(row->name, "fleet.", 6) == 0 && !is_preset(config, row)) {
            return fail_needs(loader, (enum config_option)i, CONFIG_OPTION_fleet_redis, "");
        }
    }
    return true;
}

static bool check_compressors(struct loader *loader)
{
    const struct config_list *list = &loader->config->compressors;
    bool disabled = list->count == 1 && strcmp(list->items[0], "disabled") == 0;
    for (size_t i = 0; i < list->count && !disabled; i++) {
        struct bytes name = {(const uint8_t *)list->items[i], strlen(list->items[i])};
        if (compressor_find(name) == COMPRESSOR_NONE) {
            char subject[CONFIG_SUBJECT_BYTES];
            config_describe(loader->config, CONFIG_OPTION_compressors, subject);
            return loader_fail(loader, "%s: must be of snappy, zstd, zlib, or disabled", subject);
        }
    }
    return true;
}

static bool check_rules(struct loader *loader)
{
    const struct config_entries *entries = &loader->config->rules;
    for (size_t i = 0; i < entries->count; i++) {
        struct rule_spec spec = {0};
        char reason[OPTION_REASON_BYTES];
        int line;
        bool fine = rule_spec_read(&spec, &entries->items[i], &line, reason);
        rule_spec_clear(&spec);
        if (!fine) {
            return loader_fail(loader, "%.200s:%d: rules, the %zu. one: %s", loader->config->file,
                               line, i + 1, reason);
        }
    }
    return true;
}

static bool is_weight(const char *item)
{
    const char *sign = strrchr(item, '=');
    char *end = NULL;
    long weight = sign ? strtol(sign + 1, &end, 10) : 0;
    return sign > item && isdigit((unsigned char)sign[1]) && *end == '\0' && weight >= 1 &&
           weight <= TENANT_WEIGHT_MAX;
}

static bool check_tenant_weights(struct loader *loader)
{
    const struct config_list *list = &loader->config->tenant_weights;
    for (size_t i = 0; i < list->count; i++) {
        if (!is_weight(list->items[i])) {
            char subject[CONFIG_SUBJECT_BYTES];
            config_describe(loader->config, CONFIG_OPTION_tenant_weights, subject);
            return loader_fail(loader, "%s: must be of NAME=N, N from 1 to %d", subject,
                               TENANT_WEIGHT_MAX);
        }
    }
    return true;
}

// The preset gives way to a cap below it.
static bool check_limit(struct loader *loader)
{
    struct config *config = loader->config;
    if (config->min_limit <= config->max_connections) {
        return true;
    }
    if (config->origins[CONFIG_OPTION_min_limit].source == CONFIG_FROM_DEFAULT) {
        config->min_limit = config->max_connections;
        return true;
    }
    char subject[CONFIG_SUBJECT_BYTES];
    config_describe(config, CONFIG_OPTION_min_limit, subject);
    return loader_fail(loader, "%s: must not be above the cap, upstream.maxConnections %lld",
                       subject, (long long)config->max_connections);
}

// Who names users means them, unless somebody says that they do not count.
static bool check_users(struct loader *loader)
{
    struct config *config = loader->config;
    bool preset = config->origins[CONFIG_OPTION_authorization].source == CONFIG_FROM_DEFAULT;
    if (preset && config->users.count > 0) {
        config->authorization = CONFIG_AUTHORIZATION_ENABLED;
    }
    if (config->authorization == CONFIG_AUTHORIZATION_ENABLED && config->users.count == 0) {
        char subject[CONFIG_SUBJECT_BYTES];
        config_describe(config, CONFIG_OPTION_authorization, subject);
        return loader_fail(loader, "%s: needs users in the file; nobody could log in", subject);
    }
    struct users *users = users_new(config, NULL, loader->ret_error, CONFIG_ERROR_BYTES);
    users_drop(users);
    return users != NULL;
}

static bool check_uri(struct loader *loader)
{
    return loader->config->uri != NULL ||
           loader_fail(loader,
                       "URI: missing; %s, WEIR_URI or upstream.uri in the file says where the "
                       "deployment is",
                       uri_variable ? uri_variable : "weir URI");
}

static bool load(struct loader *loader, int argc, char *const argv[], char *const env[])
{
    struct command_line line = {0};
    if (!read_command_line(loader, argc, argv, &line)) {
        return false;
    }
    const char *file = line.file != NULL ? line.file : variable_value(env, "WEIR_CONFIG");
    loader->config->file = file != NULL ? xstrdup(file) : NULL;
    set_presets(loader);
    return (file == NULL || loader_read_file(loader, file)) && set_variables(loader, env) &&
           check_unknown_variables(loader, env) && set_flags(loader, &line) && check_uri(loader) &&
           check_tls(loader) && check_fleet(loader) && check_limit(loader) &&
           check_compressors(loader) && check_tenant_weights(loader) && check_users(loader) &&
           check_remote(loader) && check_rules(loader);
}

struct config *config_load(int argc, char *const argv[], char *const env[],
                           char ret_error[CONFIG_ERROR_BYTES])
{
    struct config *config = (struct config *)xcalloc(1, sizeof *config);
    struct loader loader = {config, ret_error};
    if (load(&loader, argc, argv, env)) {
        return config;
    }
    config_free(config);
    return NULL;
}

static void entries_free(struct config_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        for (size_t j = 0; j < entries->items[i].count; j++) {
            free(entries->items[i].fields[j].name);
            free(entries->items[i].fields[j].value);
        }
        free(entries->items[i].fields);
    }
    free(entries->items);
    *entries = (struct config_entries){0};
}

void config_free_entries(struct config *config)
{
    entries_free(&config->rules);
    entries_free(&config->users);
    entries_free(&config->identities);
}

static void free_one(struct config *config)
{
    config_free_entries(config);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        option_clear(&option_rows[i], config);
    }
    free(config->file);
    free(config);
}

// Not recursive: there may be as many former ones as there were reloads.
void config_free(struct config *config)
{
    while (config != NULL) {
        struct config *former = config->former;
        free_one(config);
        config = former;
    }
}

void config_each(const struct config *config, bool only_given,
                 void (*each)(void *context, const char *name, const char *value), void *context)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        char value[CONFIG_VALUE_BYTES];
        bool given = config->origins[i].source != CONFIG_FROM_DEFAULT;
        if (!option_has_value(&option_rows[i], config) || (only_given && !given)) {
            continue;
        }
        option_show(&option_rows[i], config, value, sizeof value);
        each(context, option_rows[i].name, value);
    }
}
