// SPDX-License-Identifier: Apache-2.0
//
// The YAML file. Mappings are flattened to dotted names, which are looked up in the table:
//
//     net:                          net.port      -> 27017
//       port: 27017                 net.tls.mode  -> requireTLS
//       tls: {mode: requireTLS}
//
// The walk goes no deeper than names in the table do, so an alias to what contains it ends as an
// unknown key. Lists of mappings (rules:, users:) are taken over as they are, bounded in all
// directions, because aliases make a short file long.

#include "proxy/config_loader.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <yaml.h>

#include "policy/rules.h"
#include "proxy/mem.h"

enum { FILE_BYTES = 1 << 20, DOTTED_BYTES = 256 };
enum { ENTRY_FIELDS = 64, ENTRY_VALUE_BYTES = 4096 };

static const struct entries_row {
    const char *name;
    size_t offset;
    size_t most;
} entries_rows[] = {
    {"rules", offsetof(struct config, rules), RULES_MAX},
    {"users", offsetof(struct config, users), 4096},
    {"identities", offsetof(struct config, identities), 64},
};

struct walk {
    struct loader *loader;
    const char *path;
    yaml_document_t *document;
};

static int line_of(const yaml_node_t *node)
{
    return (int)node->start_mark.line + 1;
}

static bool fail_at(struct walk *walk, const yaml_node_t *node, const char *name, const char *what)
{
    return loader_fail(walk->loader, "%.200s:%d: %.100s: %s", walk->path, line_of(node), name,
                       what);
}

static const char *scalar_of(const yaml_node_t *node)
{
    return (const char *)node->data.scalar.value;
}

// True for a scalar that is a text to C as well.
static bool is_text(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && strlen(scalar_of(node)) == node->data.scalar.length;
}

static bool is_null(const yaml_node_t *node)
{
    if (!is_text(node) || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
        return false;
    }
    const char *text = scalar_of(node);
    return text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

static int option_named(const char *name)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        if (strcmp(option_rows[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool is_section(const char *name)
{
    size_t length = strlen(name);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        if (strncmp(option_rows[i].name, name, length) == 0 && option_rows[i].name[length] == '.') {
            return true;
        }
    }
    return false;
}

static void guess_sections(struct guess *guess, const char *name)
{
    for (const char *dot = strchr(name, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
        char section[OPTION_NAME_BYTES];
        snprintf(section, sizeof section, "%.*s", (int)(dot - name), name);
        guess_try(guess, section);
    }
}

static bool fail_unknown(struct walk *walk, const yaml_node_t *key, const yaml_node_t *value,
                         const char *name)
{
    struct guess guess;
    guess_init(&guess, name);
    for (size_t i = 0; i < sizeof entries_rows / sizeof entries_rows[0]; i++) {
        guess_try(&guess, entries_rows[i].name);
    }
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        if (value->type == YAML_MAPPING_NODE) {
            guess_sections(&guess, option_rows[i].name);
        } else {
            guess_try(&guess, option_rows[i].name);
        }
    }
    char what[OPTION_REASON_BYTES] = "unknown key";
    if (guess.match[0] != '\0') {
        snprintf(what, sizeof what, "unknown key, did you mean %s?", guess.match);
    }
    return fail_at(walk, key, name, what);
}

// Joins a sequence to the comma list that flags and variables have. NULL if an item is no text.
static char *join_items(struct walk *walk, const yaml_node_t *sequence)
{
    char *text = xstrdup("");
    size_t used = 0;
    const yaml_node_item_t *first = sequence->data.sequence.items.start;
    for (const yaml_node_item_t *item = first; item < sequence->data.sequence.items.top; item++) {
        const yaml_node_t *node = yaml_document_get_node(walk->document, *item);
        if (!is_text(node)) {
            free(text);
            return NULL;
        }
        size_t length = strlen(scalar_of(node));
        text = (char *)xrealloc(text, used + length + 2);
        used += (size_t)sprintf(text + used, "%s%s", item > first ? "," : "", scalar_of(node));
    }
    return text;
}

static bool set_option(struct walk *walk, int option, const yaml_node_t *value)
{
    const struct option_row *row = &option_rows[option];
    struct config_origin origin = {CONFIG_FROM_FILE, line_of(value)};
    bool list = row->type == OPTION_LIST && value->type == YAML_SEQUENCE_NODE;
    if (is_null(value)) {
        return fail_at(walk, value, row->name, "has no value");
    }
    if (!list && !is_text(value)) {
        return fail_at(walk, value, row->name, "must be one value");
    }
    char *text = list ? join_items(walk, value) : xstrdup(scalar_of(value));
    if (text == NULL) {
        return fail_at(walk, value, row->name, "must be a list of texts");
    }
    bool set = loader_set(walk->loader, (enum config_option)option, origin, text);
    free(text);
    return set;
}

static bool is_repeated(struct walk *walk, const yaml_node_t *mapping, const yaml_node_pair_t *pair)
{
    const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
    const yaml_node_pair_t *other = mapping->data.mapping.pairs.start;
    for (; other < pair; other++) {
        const yaml_node_t *earlier = yaml_document_get_node(walk->document, other->key);
        if (strcmp(scalar_of(earlier), scalar_of(key)) == 0) {
            return true;
        }
    }
    return false;
}

// --- lists of mappings --------------------------------------------------------------------------

static const struct entries_row *entries_named(const char *name)
{
    for (size_t i = 0; i < sizeof entries_rows / sizeof entries_rows[0]; i++) {
        if (strcmp(entries_rows[i].name, name) == 0) {
            return &entries_rows[i];
        }
    }
    return NULL;
}

// The value of a field as one text; NULL, with the error set, if it is none. The caller frees it.
static char *field_value(struct walk *walk, const yaml_node_t *value, const char *name)
{
    if (is_null(value)) {
        fail_at(walk, value, name, "has no value");
        return NULL;
    }
    bool list = value->type == YAML_SEQUENCE_NODE;
    char *text = list ? join_items(walk, value) : is_text(value) ? xstrdup(scalar_of(value)) : NULL;
    if (text == NULL) {
        fail_at(walk, value, name, "must be one value or a list of texts");
    } else if (strlen(text) > ENTRY_VALUE_BYTES) {
        fail_at(walk, value, name, "too long");
        free(text);
        text = NULL;
    }
    return text;
}

static bool take_field(struct walk *walk, const yaml_node_t *mapping, const yaml_node_pair_t *pair,
                       const char *list, struct config_entry *entry)
{
    const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
    if (!is_text(key)) {
        return fail_at(walk, key, list, "a key must be a name");
    }
    const char *name = scalar_of(key);
    if (strlen(name) > ENTRY_VALUE_BYTES || entry->count == ENTRY_FIELDS) {
        return fail_at(walk, key, list, "too many keys, or one that is too long");
    }
    if (is_repeated(walk, mapping, pair)) {
        return fail_at(walk, key, name, "given twice");
    }
    char *text = field_value(walk, value, name);
    if (text == NULL) {
        return false;
    }
    entry->fields[entry->count++] = (struct config_field){xstrdup(name), text, line_of(value)};
    return true;
}

static bool take_entry(struct walk *walk, const yaml_node_t *node, const char *list,
                       struct config_entry *entry)
{
    entry->line = line_of(node);
    if (node->type != YAML_MAPPING_NODE) {
        return fail_at(walk, node, list, "each must hold keys of its own");
    }
    entry->fields = (struct config_field *)xcalloc(ENTRY_FIELDS, sizeof *entry->fields);
    const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
    for (; pair < node->data.mapping.pairs.top; pair++) {
        if (!take_field(walk, node, pair, list, entry)) {
            return false;
        }
    }
    return true;
}

static bool take_entries(struct walk *walk, const struct entries_row *row, const yaml_node_t *value)
{
    struct config_entries *entries =
        (struct config_entries *)((char *)walk->loader->config + row->offset);
    if (value->type != YAML_SEQUENCE_NODE) {
        return is_null(value) || fail_at(walk, value, row->name, "must be a list, each with a -");
    }
    size_t count = (size_t)(value->data.sequence.items.top - value->data.sequence.items.start);
    if (count > row->most) {
        char what[OPTION_REASON_BYTES];
        snprintf(what, sizeof what, "%zu are too many, at most %zu", count, row->most);
        return fail_at(walk, value, row->name, what);
    }
    entries->items = (struct config_entry *)xcalloc(count, sizeof *entries->items);
    while (entries->count < count) {
        int item = value->data.sequence.items.start[entries->count];
        const yaml_node_t *node = yaml_document_get_node(walk->document, item);
        struct config_entry *entry = &entries->items[entries->count++];
        if (!take_entry(walk, node, row->name, entry)) {
            return false;
        }
    }
    return true;
}

// --- sections -----------------------------------------------------------------------------------

static bool walk_mapping(struct walk *walk, const yaml_node_t *mapping, const char *section);

static bool walk_pair(struct walk *walk, const yaml_node_t *mapping, const yaml_node_pair_t *pair,
                      const char *section)
{
    const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
    if (!is_text(key)) {
        return fail_at(walk, key, section[0] != '\0' ? section : "file", "a key must be a name");
    }
    char name[DOTTED_BYTES];
    snprintf(name, sizeof name, "%s%s%s", section, section[0] != '\0' ? "." : "", scalar_of(key));
    if (is_repeated(walk, mapping, pair)) {
        return fail_at(walk, key, name, "given twice");
    }
    int option = option_named(name);
    if (option >= 0) {
        return set_option(walk, option, value);
    }
    const struct entries_row *entries = entries_named(name);
    if (entries != NULL) {
        return take_entries(walk, entries, value);
    }
    if (!is_section(name)) {
        return fail_unknown(walk, key, value, name);
    }
    if (value->type == YAML_MAPPING_NODE) {
        return walk_mapping(walk, value, name);
    }
    return is_null(value) || fail_at(walk, value, name, "must be a section, with keys of its own");
}

static bool walk_mapping(struct walk *walk, const yaml_node_t *mapping, const char *section)
{
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
    for (; pair < mapping->data.mapping.pairs.top; pair++) {
        if (!walk_pair(walk, mapping, pair, section)) {
            return false;
        }
    }
    return true;
}

static bool walk_document(struct loader *loader, const char *path, yaml_document_t *document)
{
    struct walk walk = {loader, path, document};
    const yaml_node_t *root = yaml_document_get_root_node(document);
    if (root == NULL || is_null(root)) {
        return true;
    }
    if (root->type != YAML_MAPPING_NODE) {
        return fail_at(&walk, root, "file", "must hold keys, such as net:");
    }
    return walk_mapping(&walk, root, "");
}

static bool fail_syntax(struct loader *loader, const char *path, const yaml_parser_t *parser,
                        const char *text)
{
    size_t line = parser->problem_mark.line + 1;
    if (parser->error == YAML_READER_ERROR) {
        line = 1;
        for (size_t i = 0; i < parser->problem_offset; i++) {
            line += text[i] == '\n';
        }
    }
    return loader_fail(loader, "%.200s:%zu: not valid YAML: %s", path, line,
                       parser->problem != NULL ? parser->problem : "cannot be read");
}

static bool parse(struct loader *loader, const char *path, yaml_parser_t *parser, const char *text)
{
    yaml_document_t document;
    for (int count = 0;; count++) {
        if (!yaml_parser_load(parser, &document)) {
            return fail_syntax(loader, path, parser, text);
        }
        const yaml_node_t *root = yaml_document_get_root_node(&document);
        bool ended = root == NULL;
        bool fine = ended || (count == 0 && walk_document(loader, path, &document));
        if (!ended && count > 0) {
            loader_fail(loader, "%.200s:%d: a second document", path, line_of(root));
        }
        yaml_document_delete(&document);
        if (ended || !fine) {
            return fine;
        }
    }
}

// Returns the whole file, NULL with the error set. The caller frees it.
static char *read_whole(struct loader *loader, const char *path, size_t *ret_length)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        loader_fail(loader, "%.200s: %s", path, strerror(errno));
        return NULL;
    }
    char *text = (char *)xmalloc(FILE_BYTES);
    size_t length = fread(text, 1, FILE_BYTES, file);
    bool whole = length < FILE_BYTES && !ferror(file);
    if (ferror(file)) {
        loader_fail(loader, "%.200s: %s", path, strerror(errno));
    } else if (!whole) {
        loader_fail(loader, "%.200s: too large, must be less than 1 MB", path);
    }
    fclose(file);
    if (!whole) {
        free(text);
        return NULL;
    }
    *ret_length = length;
    return text;
}

bool loader_read_file(struct loader *loader, const char *path)
{
    size_t length;
    char *text = read_whole(loader, path, &length);
    if (text == NULL) {
        return false;
    }
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        abort();
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    bool fine = parse(loader, path, &parser, text);
    yaml_parser_delete(&parser);
    free(text);
    return fine;
}
