// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/user_command.h"

#include <bson/bson.h>
#include <gsasl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <termios.h>
#include <unistd.h>

#include "proxy/config_loader.h"
#include "proxy/mem.h"
#include "proxy/users.h"

enum { EXIT_REFUSED = 2, PASSWORD_BYTES = 1024, INPUT_BYTES = 1 << 20 };

static const char usage[] =
    "Usage: weir user add NAME [--scram-sha-1] [FLAG...] <PASSWORD\n"
    "       weir user import [FLAG...] <DOCUMENTS\n"
    "\n"
    "Prints entries for the list under users: in weir's file. They hold keys, not\n"
    "passwords.\n"
    "\n"
    "add asks for the password, or takes a line of standard input. --scram-sha-1\n"
    "makes the keys for drivers from before 2018 as well. import takes the users of a\n"
    "deployment, with their passwords: what\n"
    "db.getSiblingDB('admin').system.users.find() returns, as JSON, by a user who may\n"
    "see it.\n"
    "\n"
    "Example: weir user add shop --may read,write --databases shop\n"
    "\n";

__attribute__((format(printf, 1, 2))) static int refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("weir user: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return EXIT_REFUSED;
}

static int print_usage(void)
{
    fputs(usage, stdout);
    for (int i = 0; i < user_table.count; i++) {
        if (user_table.rows[i].flag[0] != '\0') {
            option_print_help(stdout, &user_table.rows[i]);
        }
    }
    return EXIT_SUCCESS;
}

// --- entries ------------------------------------------------------------------------------------

// As a YAML text that is read as it is.
static void print_text(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            putchar('\\');
        }
        putchar(*text);
    }
    putchar('"');
}

static void print_list(const struct config_list *list)
{
    putchar('[');
    for (size_t i = 0; i < list->count; i++) {
        fputs(i > 0 ? ", " : "", stdout);
        print_text(list->items[i]);
    }
    putchar(']');
}

static void print_entry(const struct user_spec *spec)
{
    const char *before = "  - ";
    for (int i = 0; i < user_table.count; i++) {
        const struct option_row *row = &user_table.rows[i];
        char value[CONFIG_VALUE_BYTES];
        const struct config_list *list = (const void *)((const char *)spec + row->offset);
        bool given = row->type == OPTION_LIST ? list->count > 0 : option_has_value(row, spec);
        option_show(row, spec, value, sizeof value);
        if (!given || (row->preset && strcmp(row->preset, value) == 0)) {
            continue;
        }
        printf("%s%s: ", before, row->name);
        before = "    ";
        if (row->type == OPTION_LIST) {
            print_list(list);
        } else if (row->type == OPTION_STRING) {
            print_text(value);
        } else {
            fputs(value, stdout);
        }
        putchar('\n');
    }
}

// NULL: there is none, which was said.
static const struct option_row *find_flag(const char *flag, size_t length, bool makes_keys)
{
    struct guess guess;
    char typed[OPTION_NAME_BYTES];
    snprintf(typed, sizeof typed, "%.*s", (int)length, flag);
    guess_init(&guess, typed + strspn(typed, "-"));
    if (makes_keys) {
        guess_try(&guess, "scram-sha-1");
    }
    for (int i = 0; i < user_table.count; i++) {
        const struct option_row *row = &user_table.rows[i];
        if (row->flag[0] != '\0' && strncmp(typed, "--", 2) == 0 &&
            strcmp(typed + 2, row->flag) == 0) {
            return row;
        }
        guess_try(&guess, row->flag);
    }
    if (strncmp(typed, "--", 2) == 0 && guess.match[0] != '\0') {
        refuse("%s: unknown flag, did you mean --%s?", typed, guess.match);
    } else {
        refuse("%s: unknown, see weir user --help", typed);
    }
    return NULL;
}

// A reason begins with the field's name in the file, which may not be the flag's.
static bool refuse_flag(const struct option_row *row, const char *reason)
{
    size_t length = strlen(row->name);
    bool named = strncmp(reason, row->name, length) == 0;
    refuse("--%s%s", row->flag, named ? reason + length : reason);
    return false;
}

static bool check_spec(const struct user_spec *spec)
{
    char reason[OPTION_REASON_BYTES];
    if (user_spec_check(spec, reason)) {
        return true;
    }
    refuse("--%s", reason); // its fields are called as their flags are
    return false;
}

// The flags after the words, into the spec; ret_sha_1 NULL: there is no --scram-sha-1. False: one
// is wrong, and it was said.
static bool take_flags(int argc, char *const argv[], int first, struct user_spec *spec,
                       bool *ret_sha_1)
{
    for (int i = first; i < argc; i++) {
        char reason[OPTION_REASON_BYTES];
        if (ret_sha_1 && strcmp(argv[i], "--scram-sha-1") == 0) {
            *ret_sha_1 = true;
            continue;
        }
        size_t length = strcspn(argv[i], "=");
        bool has_value = argv[i][length] == '=';
        const struct option_row *row = find_flag(argv[i], length, ret_sha_1 != NULL);
        if (!row) {
            return false;
        }
        if (!has_value && i + 1 == argc) {
            refuse("%s: needs a value", argv[i]);
            return false;
        }
        const char *value = has_value ? argv[i] + length + 1 : argv[++i];
        if (!entry_set(&user_table, spec, row->name, value, reason)) {
            return refuse_flag(row, reason);
        }
    }
    return check_spec(spec);
}

// --- keys ---------------------------------------------------------------------------------------

static void encode(const unsigned char *bytes, int count, char ret_text[SCRAM_TEXT_BYTES])
{
    EVP_EncodeBlock((unsigned char *)ret_text, bytes, count);
}

// RFC 5802, 3; MongoDB's salts and iterations.
static char *make_keys(enum scram scram, const char *password)
{
    static const int iterations[SCRAM_COUNT] = {15000, 10000};
    static const int salts[SCRAM_COUNT] = {28, 16};
    const EVP_MD *digest = scram == SCRAM_256 ? EVP_sha256() : EVP_sha1();
    unsigned char salt[28], salted[32], client[32], stored[32], server[32];
    char texts[3][SCRAM_TEXT_BYTES];
    int bytes = scram_key_bytes[scram];
    if (getentropy(salt, (size_t)salts[scram]) != 0 ||
        PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, salts[scram], iterations[scram],
                          digest, bytes, salted) != 1 ||
        !HMAC(digest, salted, bytes, (const unsigned char *)"Client Key", 10, client, NULL) ||
        !HMAC(digest, salted, bytes, (const unsigned char *)"Server Key", 10, server, NULL) ||
        EVP_Digest(client, (size_t)bytes, stored, NULL, digest, NULL) != 1) {
        abort();
    }
    encode(salt, salts[scram], texts[0]);
    encode(stored, bytes, texts[1]);
    encode(server, bytes, texts[2]);
    OPENSSL_cleanse(salted, sizeof salted);
    OPENSSL_cleanse(client, sizeof client);
    return bson_strdup_printf("%d:%s:%s:%s", iterations[scram], texts[0], texts[1], texts[2]);
}

// What MongoDB salts with SCRAM-SHA-1 instead of the password.
static char *mongo_digest(const char *name, const char *password)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char *text = bson_strdup_printf("%s:mongo:%s", name, password);
    char *hex = xcalloc(2 * 16 + 1, 1);
    if (EVP_Digest(text, strlen(text), digest, NULL, EVP_md5(), NULL) != 1) {
        abort();
    }
    for (size_t i = 0; i < 16; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    OPENSSL_cleanse(text, strlen(text));
    bson_free(text);
    return hex;
}

// False: the password cannot be one.
static bool add_keys(struct user_spec *spec, const char *password, bool sha_1)
{
    char *prepared = NULL;
    if (gsasl_saslprep(password, 0, &prepared, NULL) != GSASL_OK || prepared[0] == '\0') {
        return false;
    }
    spec->scram_sha_256 = make_keys(SCRAM_256, prepared);
    OPENSSL_cleanse(prepared, strlen(prepared));
    gsasl_free(prepared);
    if (sha_1) {
        char *hex = mongo_digest(spec->name, password);
        spec->scram_sha_1 = make_keys(SCRAM_1, hex);
        OPENSSL_cleanse(hex, strlen(hex));
        free(hex);
    }
    return true;
}

// A line, without echo from a terminal. False: there is none, or it is too long.
static bool read_password(const char *prompt, char ret_password[PASSWORD_BYTES])
{
    struct termios former, quiet;
    bool terminal = tcgetattr(STDIN_FILENO, &former) == 0;
    if (terminal) {
        fputs(prompt, stderr);
        quiet = former;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    bool read = fgets(ret_password, PASSWORD_BYTES, stdin) != NULL;
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &former);
        fputc('\n', stderr);
    }
    size_t length = read ? strcspn(ret_password, "\r\n") : 0;
    bool whole = length > 0 && length < PASSWORD_BYTES - 1;
    ret_password[length] = '\0';
    return whole;
}

// NULL, or why there is none.
static const char *ask_password(char ret_password[PASSWORD_BYTES])
{
    char again[PASSWORD_BYTES];
    if (!read_password("Password: ", ret_password)) {
        return "no password: the first line of standard input is to be one";
    }
    if (!isatty(STDIN_FILENO)) {
        return NULL;
    }
    bool same = read_password("Once more: ", again) && strcmp(again, ret_password) == 0;
    OPENSSL_cleanse(again, sizeof again);
    return same ? NULL : "not the same password twice";
}

static int add(int argc, char *const argv[])
{
    struct user_spec spec = {0};
    char password[PASSWORD_BYTES];
    char reason[OPTION_REASON_BYTES];
    bool sha_1 = false;
    int status = EXIT_REFUSED;
    entry_preset(&user_table, &spec);
    if (argc < 3 || argv[2][0] == '-') {
        refuse("add: needs a NAME");
    } else if (!entry_set(&user_table, &spec, "name", argv[2], reason)) {
        refuse("%s", reason);
    } else if (!take_flags(argc, argv, 3, &spec, &sha_1)) {
        status = EXIT_REFUSED;
    } else if (strcmp(spec.db, "$external") == 0) {
        refuse(
            "--db $external: who shows a certificate has no password; docs/users.md has the entry");
    } else {
        const char *problem = ask_password(password);
        if (problem) {
            refuse("%s", problem);
        } else if (!add_keys(&spec, password, sha_1)) {
            refuse("the password has characters that SCRAM does not allow (SASLprep, RFC 4013)");
        } else {
            print_entry(&spec);
            status = EXIT_SUCCESS;
        }
        OPENSSL_cleanse(password, sizeof password);
    }
    entry_clear(&user_table, &spec);
    return status;
}

// --- import -------------------------------------------------------------------------------------

static const char *text_in(const bson_t *document, const char *path)
{
    bson_iter_t top, iter;
    bool found = bson_iter_init(&top, document) && bson_iter_find_descendant(&top, path, &iter) &&
                 BSON_ITER_HOLDS_UTF8(&iter);
    return found ? bson_iter_utf8(&iter, NULL) : NULL;
}

// credentials.SCRAM-SHA-256 and -1 of a document of admin.system.users. NULL: it has none. The
// caller frees it by bson_free.
static char *credential_in(const bson_t *document, enum scram scram)
{
    char path[80];
    bson_iter_t top, iter;
    snprintf(path, sizeof path, "credentials.%s.iterationCount", scram_names[scram]);
    if (!bson_iter_init(&top, document) || !bson_iter_find_descendant(&top, path, &iter)) {
        return NULL;
    }
    int64_t iterations = bson_iter_as_int64(&iter);
    static const char *const parts[] = {"salt", "storedKey", "serverKey"};
    const char *texts[3];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "credentials.%s.%s", scram_names[scram], parts[i]);
        texts[i] = text_in(document, path);
    }
    return texts[0] && texts[1] && texts[2]
               ? bson_strdup_printf("%lld:%s:%s:%s", (long long)iterations, texts[0], texts[1],
                                    texts[2])
               : NULL;
}

// Sets the keys that the document has, if they are any. Returns NULL or what is wrong.
static const char *import_keys(const bson_t *document, struct user_spec *spec)
{
    static const char *const fields[SCRAM_COUNT] = {"scramSha256", "scramSha1"};
    char reason[OPTION_REASON_BYTES];
    int count = 0;
    for (int i = 0; i < SCRAM_COUNT; i++) {
        struct scram_keys keys;
        char *text = credential_in(document, (enum scram)i);
        bool good = text && scram_keys_read((enum scram)i, text, &keys, reason) &&
                    entry_set(&user_table, spec, fields[i], text, reason);
        bool bad = text && !good;
        bson_free(text);
        if (bad) {
            return "its credentials are none";
        }
        count += good;
    }
    return count > 0 ? NULL : "has no SCRAM credentials";
}

static const char *import_user(int argc, char *const argv[], const bson_t *document)
{
    struct user_spec spec = {0};
    char reason[OPTION_REASON_BYTES];
    const char *name = text_in(document, "user");
    const char *db = text_in(document, "db");
    const char *problem = NULL;
    entry_preset(&user_table, &spec);
    if (!name || !db || !entry_set(&user_table, &spec, "name", name, reason) ||
        !entry_set(&user_table, &spec, "db", db, reason)) {
        problem = "is no document of system.users";
    } else if (!take_flags(argc, argv, 2, &spec, NULL)) {
        problem = "";
    } else {
        problem = import_keys(document, &spec);
    }
    if (!problem) {
        print_entry(&spec);
    }
    entry_clear(&user_table, &spec);
    return problem;
}

// One document after the other, or an array of them.
static int import(int argc, char *const argv[])
{
    bson_error_t error;
    bson_t document = BSON_INITIALIZER;
    bson_json_reader_t *reader = bson_json_reader_new_from_fd(STDIN_FILENO, false);
    int read = 0;
    int count = 0;
    const char *problem = NULL;
    while (!problem && (read = bson_json_reader_read(reader, &document, &error)) == 1) {
        problem = import_user(argc, argv, &document);
        bson_reinit(&document);
        count++;
    }
    bson_json_reader_destroy(reader);
    bson_destroy(&document);
    if (problem && problem[0] == '\0') {
        return EXIT_REFUSED; // a flag is wrong, which was said
    }
    if (problem || read < 0) {
        return refuse("import: document %d: %s", problem ? count : count + 1,
                      problem ? problem : "is no JSON");
    }
    return count > 0 ? EXIT_SUCCESS : refuse("import: standard input has no documents");
}

int user_main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return print_usage();
        }
    }
    if (strcmp(verb, "add") == 0) {
        return add(argc, argv);
    }
    return strcmp(verb, "import") == 0 ? import(argc, argv)
                                       : refuse("needs add or import, see weir user --help");
}
