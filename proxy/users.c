// SPDX-License-Identifier: Apache-2.0

#include "proxy/users.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/mem.h"

#define ROW(field, name, flag, type, ...)                                                          \
    {name, flag, OPTION_##type, offsetof(struct user_spec, field), __VA_ARGS__},
static const struct option_row user_rows[] = {USER_OPTIONS(ROW)};
#undef ROW
#define ROW(field, name, flag, type, ...)                                                          \
    {name, flag, OPTION_##type, offsetof(struct identity_spec, field), __VA_ARGS__},
static const struct option_row identity_rows[] = {IDENTITY_OPTIONS(ROW)};
#undef ROW

const struct entry_table user_table = {user_rows, sizeof user_rows / sizeof user_rows[0]};
const struct entry_table identity_table = {identity_rows,
                                           sizeof identity_rows / sizeof identity_rows[0]};

const char *const scram_names[SCRAM_COUNT] = {"SCRAM-SHA-256", "SCRAM-SHA-1"};
const int scram_key_bytes[SCRAM_COUNT] = {32, 20};

enum { ITERATIONS_MIN = 4096, ITERATIONS_MAX = 10000000, SALT_MAX_BYTES = 64 };

struct users {
    atomic_int references;
    struct user **sorted; // by database and name
    size_t count;
    uint32_t last_id;
};

// --- keys ---------------------------------------------------------------------------------------

// How many bytes a text is the base64 of; -1 if it is none.
static int decoded_bytes(const char *text)
{
    unsigned char bytes[SCRAM_TEXT_BYTES];
    size_t length = strlen(text);
    if (length == 0 || length % 4 != 0 || length >= SCRAM_TEXT_BYTES) {
        return -1;
    }
    int count = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)length);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return count - (text[length - 1] == '=') - (text[length - 2] == '=');
}

// Takes what stands before the next ':' or the end.
static bool take_part(const char **text, char ret_part[SCRAM_TEXT_BYTES])
{
    size_t length = strcspn(*text, ":");
    if (length >= SCRAM_TEXT_BYTES) {
        return false;
    }
    memcpy(ret_part, *text, length);
    ret_part[length] = '\0';
    *text += length + ((*text)[length] == ':');
    return true;
}

bool scram_keys_read(enum scram scram, const char *text, struct scram_keys *ret_keys,
                     char ret_reason[OPTION_REASON_BYTES])
{
    struct scram_keys keys = {0};
    char iterations[SCRAM_TEXT_BYTES];
    int bytes = scram_key_bytes[scram];
    bool taken = take_part(&text, iterations) && take_part(&text, keys.salt) &&
                 take_part(&text, keys.stored_key) && take_part(&text, keys.server_key);
    if (!taken || *text != '\0' || decoded_bytes(keys.stored_key) != bytes ||
        decoded_bytes(keys.server_key) != bytes || decoded_bytes(keys.salt) < 8 ||
        decoded_bytes(keys.salt) > SALT_MAX_BYTES ||
        strspn(iterations, "0123456789") != strlen(iterations)) {
        snprintf(ret_reason, OPTION_REASON_BYTES,
                 "must be iterations:salt:storedKey:serverKey, as weir user add makes them");
        return false;
    }
    long count = strtol(iterations, NULL, 10);
    if (count < ITERATIONS_MIN || count > ITERATIONS_MAX) {
        snprintf(ret_reason, OPTION_REASON_BYTES, "its iterations must be %d to %d", ITERATIONS_MIN,
                 ITERATIONS_MAX);
        return false;
    }
    keys.iterations = (int)count;
    *ret_keys = keys;
    return true;
}

// --- a user -------------------------------------------------------------------------------------

static bool read_may(struct user *user, char *ret_reason)
{
    static const char *const classes[] = {"read", "write", "admin"};
    const struct config_list *list = &user->spec.may;
    for (size_t i = 0; i < list->count; i++) {
        unsigned class = 0;
        while (class < 3 && strcmp(list->items[i], classes[class]) != 0) {
            class ++;
        }
        if (class == 3) {
            return option_refuse(ret_reason, "may %.60s: must be of read, write, admin",
                                 list->items[i]);
        }
        user->may |= 1u << class;
    }
    return true;
}

static bool read_databases(struct user *user, char *ret_reason)
{
    const struct config_list *list = &user->spec.databases;
    for (size_t i = 0; i < list->count; i++) {
        const char *star = strchr(list->items[i], '*');
        if (star && star[1] != '\0') {
            return option_refuse(ret_reason, "databases: a * may only be the end of a name");
        }
    }
    if (user->may != 0 && list->count == 0) {
        return option_refuse(ret_reason, "may: needs databases");
    }
    return true;
}

bool user_spec_check(const struct user_spec *spec, char ret_reason[OPTION_REASON_BYTES])
{
    struct user user = {.spec = *spec};
    return read_may(&user, ret_reason) && read_databases(&user, ret_reason);
}

static bool read_keys(struct user *user, char *ret_reason)
{
    const struct user_spec *spec = &user->spec;
    const char *texts[SCRAM_COUNT] = {spec->scram_sha_256, spec->scram_sha_1};
    static const char *const fields[SCRAM_COUNT] = {"scramSha256", "scramSha1"};
    bool external = strcmp(spec->db, "$external") == 0;
    char reason[OPTION_REASON_BYTES];
    for (int i = 0; i < SCRAM_COUNT; i++) {
        if (texts[i] && !scram_keys_read((enum scram)i, texts[i], &user->scram[i], reason)) {
            snprintf(ret_reason, OPTION_REASON_BYTES, "%s: %.120s", fields[i], reason);
            return false;
        }
    }
    bool any = texts[SCRAM_256] || texts[SCRAM_1];
    if (external == any) {
        return option_refuse(ret_reason,
                             external ? "db: one of $external has no keys, but a certificate"
                                      : "scramSha256: missing, or scramSha1, or db: $external");
    }
    return true;
}

static bool read_identity(struct user *user, const struct config *config, char *ret_reason)
{
    if (!user->spec.identity) {
        return true;
    }
    for (size_t i = 0; i < config->identities.count; i++) {
        const struct config_entry *entry = &config->identities.items[i];
        for (size_t j = 0; j < entry->count; j++) {
            if (strcmp(entry->fields[j].name, "name") == 0 &&
                strcmp(entry->fields[j].value, user->spec.identity) == 0) {
                user->identity = (int)i + 1;
                return true;
            }
        }
    }
    return option_refuse(ret_reason, "identity: no entry of identities has that name");
}

static bool user_read(struct user *user, const struct config *config,
                      const struct config_entry *entry, int *ret_line, char *ret_reason)
{
    return entry_read(&user_table, entry, &user->spec, ret_line, ret_reason) &&
           (user->spec.name || option_refuse(ret_reason, "name: missing")) &&
           read_may(user, ret_reason) && read_databases(user, ret_reason) &&
           read_keys(user, ret_reason) && read_identity(user, config, ret_reason);
}

struct user *user_keep(struct user *user)
{
    if (user) {
        atomic_fetch_add(&user->references, 1);
    }
    return user;
}

void user_drop(struct user *user)
{
    if (!user || atomic_fetch_sub(&user->references, 1) > 1) {
        return;
    }
    if (user->first != user) {
        user_drop(user->first);
    }
    OPENSSL_cleanse(user->scram, sizeof user->scram);
    entry_clear(&user_table, &user->spec);
    free(user);
}

// Not meant by a *, "l*" neither, but to those who may do everything.
static bool is_of_server(struct bytes database)
{
    return bytes_equal(database, "admin") || bytes_equal(database, "config") ||
           bytes_equal(database, "local");
}

bool user_may_use(const struct user *user, struct bytes database)
{
    const struct config_list *list = &user->spec.databases;
    for (size_t i = 0; i < list->count; i++) {
        const char *item = list->items[i];
        size_t length = strcspn(item, "*");
        bool begins = database.len >= length && memcmp(database.at, item, length) == 0;
        bool all = item[length] == '*' && (user->may & USER_MAY_ADMIN || !is_of_server(database));
        if (begins && (all || (item[length] == '\0' && database.len == length))) {
            return true;
        }
    }
    return false;
}

void user_session_id(const struct user *user, uint8_t id[16])
{
    uint8_t text[16 + 1024 + 64];
    unsigned char digest[EVP_MAX_MD_SIZE];
    int len =
        snprintf((char *)text + 16, sizeof text - 16, "%s@%s", user->spec.name, user->spec.db);
    memcpy(text, id, 16);
    if (EVP_Digest(text, 16 + (size_t)len, digest, NULL, EVP_sha256(), NULL) != 1) {
        abort();
    }
    memcpy(id, digest, 16);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x80); // a UUID of version 8, RFC 9562
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
}

// --- all ----------------------------------------------------------------------------------------

static int compare_text(const char *a, struct bytes b)
{
    size_t length = strlen(a);
    int order = memcmp(a, b.at, length < b.len ? length : b.len);
    return order != 0 ? order : (length > b.len) - (length < b.len);
}

static int compare(const struct user *user, struct bytes db, struct bytes name)
{
    int order = compare_text(user->spec.db, db);
    return order != 0 ? order : compare_text(user->spec.name, name);
}

static struct bytes as_bytes(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static int compare_users(const void *a, const void *b)
{
    const struct user *other = *(struct user *const *)b;
    return compare(*(struct user *const *)a, as_bytes(other->spec.db), as_bytes(other->spec.name));
}

static bool fail(const struct config *config, int line, size_t place, const char *reason,
                 char *ret_error, size_t capacity)
{
    snprintf(ret_error, capacity, "%.200s:%d: users, the %zu. one: %s", config->file, line,
             place + 1, reason);
    return false;
}

static bool read_all(struct users *users, const struct config *config, char *ret_error,
                     size_t capacity)
{
    for (size_t i = 0; i < config->users.count; i++) {
        struct user *user = xcalloc(1, sizeof *user);
        char reason[OPTION_REASON_BYTES];
        int line = 0;
        users->sorted[users->count++] = user;
        user->references = 1;
        user->first = user;
        user->id = (uint32_t)i + 1; // its place, until all are numbered
        if (!user_read(user, config, &config->users.items[i], &line, reason)) {
            return fail(config, line, i, reason, ret_error, capacity);
        }
    }
    qsort(users->sorted, users->count, sizeof *users->sorted, compare_users);
    for (size_t i = 1; i < users->count; i++) {
        if (compare_users(&users->sorted[i - 1], &users->sorted[i]) == 0) {
            size_t place = users->sorted[i]->id - 1;
            return fail(config, config->users.items[place].line, place,
                        "name: there is one of that name and db", ret_error, capacity);
        }
    }
    return true;
}

static void number_all(struct users *users, const struct users *former)
{
    users->last_id = former ? former->last_id : 0;
    for (size_t i = 0; i < users->count; i++) {
        struct user *user = users->sorted[i];
        struct user *before =
            former ? users_find(former, as_bytes(user->spec.db), as_bytes(user->spec.name)) : NULL;
        user->id = before ? before->id : ++users->last_id;
        user->first = before ? user_keep(before->first) : user;
    }
}

struct users *users_new(const struct config *config, const struct users *former, char *ret_error,
                        size_t error_capacity)
{
    struct users *users = xcalloc(1, sizeof *users);
    users->references = 1;
    users->sorted = xcalloc(config->users.count, sizeof *users->sorted);
    if (!read_all(users, config, ret_error, error_capacity)) {
        users_drop(users);
        return NULL;
    }
    number_all(users, former);
    return users;
}

struct users *users_keep(struct users *users)
{
    atomic_fetch_add(&users->references, 1);
    return users;
}

void users_drop(struct users *users)
{
    if (!users || atomic_fetch_sub(&users->references, 1) > 1) {
        return;
    }
    for (size_t i = 0; i < users->count; i++) {
        user_drop(users->sorted[i]);
    }
    free(users->sorted);
    free(users);
}

struct user *users_find(const struct users *users, struct bytes db, struct bytes name)
{
    size_t low = 0;
    size_t high = users->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(users->sorted[middle], db, name);
        if (order == 0) {
            return users->sorted[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

size_t users_count(const struct users *users)
{
    return users->count;
}

struct user *users_at(const struct users *users, size_t place)
{
    return users->sorted[place];
}
