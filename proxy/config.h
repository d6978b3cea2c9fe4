// SPDX-License-Identifier: Apache-2.0
//
// The configuration: one immutable value, put together once from defaults, the YAML file, WEIR_*
// variables and flags, where the later wins over the earlier. What it holds is in config_table.h.
//
// A wrong configuration is refused with one line that says where, what, and what would be right:
//
//     weir.yaml:3: net.prot: unknown key, did you mean net.port?
//     WEIR_MAX_WAIT 5: must be a time such as 100ms, 10s, 5m or 1h
//     --max-connections 0: must be 1 to 100000

#ifndef PROXY_CONFIG_H
#define PROXY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proxy/config_table.h"

#define TENANT_WEIGHT_MAX 1000

enum config_tenant_by { CONFIG_TENANT_APP, CONFIG_TENANT_ADDRESS };

struct config_list {
    char **items;
    size_t count;
};

enum config_tls_mode {
    CONFIG_TLS_DISABLED,
    CONFIG_TLS_ALLOW,
    CONFIG_TLS_PREFER,
    CONFIG_TLS_REQUIRE,
};

enum config_limit { CONFIG_LIMIT_FIXED, CONFIG_LIMIT_ADAPTIVE };
enum config_authorization { CONFIG_AUTHORIZATION_DISABLED, CONFIG_AUTHORIZATION_ENABLED };

enum config_source {
    CONFIG_FROM_DEFAULT,
    CONFIG_FROM_FILE,
    CONFIG_FROM_VARIABLE,
    CONFIG_FROM_APPS_VARIABLE, // config_look_at's
    CONFIG_FROM_FLAG,
};

struct config_origin {
    enum config_source source;
    int line;
};

// One name for each setting: CONFIG_OPTION_port, CONFIG_OPTION_tls_mode, ...
#define CONFIG_ID(field, ...) CONFIG_OPTION_##field,
enum config_option { CONFIG_OPTIONS(CONFIG_ID) CONFIG_OPTION_COUNT };
#undef CONFIG_ID

// How a field of each type is held. Times are microseconds, sizes bytes; an ENUM is the place of
// its choice: enum config_tls_mode, enum config_limit, enum log_format. Texts that are not set are
// NULL.
#define CONFIG_C_STRING char *
#define CONFIG_C_URI char *
#define CONFIG_C_URL char *
#define CONFIG_C_LIST struct config_list
#define CONFIG_C_INT int
#define CONFIG_C_BOOL bool
#define CONFIG_C_DURATION int64_t
#define CONFIG_C_BYTES int64_t
#define CONFIG_C_FRACTION double
#define CONFIG_C_ENUM int

// A list of mappings, which only the file can have: what its fields may be is for those to say who
// read them.
//
//      rules:
//        - {namespace: shop.orders, deny: true}
struct config_field {
    char *name;
    char *value; // a list's items with commas between them
    int line;
};

struct config_entry {
    struct config_field *fields;
    size_t count;
    int line;
};

struct config_entries {
    struct config_entry *items;
    size_t count;
};

#define CONFIG_FIELD(field, name, flag, type, ...) CONFIG_C_##type field;
struct config {
    CONFIG_OPTIONS(CONFIG_FIELD)
    struct config_entries rules;      // each makes a rule (rule_text.h)
    struct config_entries users;      // who may log in (users.h)
    struct config_entries identities; // as whom weir logs in for them
    char *file;                       // as it was given; NULL: none
    struct config *former;            // that it has taken the place of; freed with it
    struct config_origin origins[CONFIG_OPTION_COUNT];
};
#undef CONFIG_FIELD

enum {
    CONFIG_ERROR_BYTES = 1024,
    CONFIG_SUBJECT_BYTES = 640,
    CONFIG_REASON_BYTES = CONFIG_ERROR_BYTES - CONFIG_SUBJECT_BYTES - 2, // an error without it
    CONFIG_VALUE_BYTES = 1024,
};

// Reads everything and checks what can be checked without opening a certificate or a socket. argv
// is as in main and borrowed for the call, env as environ. Returns a configuration that the caller
// frees, or NULL with one line, without a line end, in ret_error. Not for two threads at a time.
struct config *config_load(int argc, char *const argv[], char *const env[],
                           char ret_error[CONFIG_ERROR_BYTES]);

// Has the URI looked for in that variable too, borrowed for good, if WEIR_URI is not set: weir exec
// finds the deployment where the app would. Before the first config_load.
void config_look_at(const char *apps_variable);

// Whether other machines can reach weir, and need neither log in nor show a certificate.
bool config_is_open(const struct config *config);

// Frees what config_load returned; NULL is allowed.
void config_free(struct config *config);

// Frees what only the file can have, once all of it was read.
void config_free_entries(struct config *config);

// Writes what an error about this setting begins with, whoever finds it: where it was set, its name
// there and its value; for example "weir.yaml:7: net.tls.certificateKeyFile /etc/weir.pem",
// "--port 27017". The value of a URI is left out.
void config_describe(const struct config *config, enum config_option option,
                     char ret_subject[CONFIG_SUBJECT_BYTES]);

// Puts that in front of an error about the setting.
void config_blame(const struct config *config, enum config_option option, const char *error,
                  char *ret_error, size_t capacity);

// Calls each for every setting that has a value, default or not (`only_given`: not), with its name
// in the file and its value as a user would write it, secrets masked. Both texts live for the call.
void config_each(const struct config *config, bool only_given,
                 void (*each)(void *context, const char *name, const char *value), void *context);

// Writes uri without what is secret in it: the password, and options that hold passwords or tokens.
// Where it cannot be told for certain what the password is, nothing after mongodb:// is shown. Cuts
// at size.
void config_mask_uri(const char *uri, char *ret_masked, size_t size);

// Writes the scheme and the host of a URL, and no more of it.
void config_mask_url(const char *url, char *ret_masked, size_t size);

// Print --help; print docs/configuration.md.
void config_print_help(FILE *out);
void config_print_reference(FILE *out);

#endif
