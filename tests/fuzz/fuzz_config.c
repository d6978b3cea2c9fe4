// SPDX-License-Identifier: Apache-2.0
//
// A configuration: a file, variables and flags. What is refused is refused with one line, what is
// taken is written and taken again as the same; and a URI's password is in none of it.
//
//      input: the file: length 2, bytes | words that end in NUL: variables (E…) and arguments
//
// A byte 1 stands for a URI with a password.

#include <sys/mman.h>
#include <unistd.h>

#include "proxy/config.h"
#include "proxy/config_option.h"
#include "tests/fuzz/fuzz.h"

#define SECRET "Zk9qW7pX2vL4"
#define URI "mongodb://app:" SECRET "@h:1/"

enum { WORDS_MOST = 12, FLAG_BYTES = CONFIG_VALUE_BYTES + 128 };

struct words {
    char *items[WORDS_MOST + 3];
    int count;
};

struct settings {
    char *flags[CONFIG_OPTION_COUNT + 2];
    int count;
    bool cut;
};

// The text with the URI in the places where it belongs. The caller frees it.
static char *fill_form(struct bytes form, size_t *ret_len)
{
    struct buffer out = {0};
    for (size_t i = 0; i < form.len; i++) {
        if (form.at[i] == 1) {
            buffer_append(&out, URI, strlen(URI));
        } else {
            buffer_append(&out, form.at + i, 1);
        }
    }
    *ret_len = buffer_held(&out);
    char *text = malloc(*ret_len + 1);
    if (*ret_len > 0) {
        memcpy(text, buffer_at(&out), *ret_len);
    }
    text[*ret_len] = '\0';
    buffer_fini(&out);
    return text;
}

static void check_line(const char *text)
{
    MUST(text[0] != '\0' && strlen(text) < CONFIG_ERROR_BYTES);
    MUST(!strstr(text, SECRET));
    for (const char *c = text; *c != '\0'; c++) {
        MUST((unsigned char)*c >= ' ' && *c != 0x7f);
    }
}

// --- what is taken ------------------------------------------------------------------------------

static void note_setting(void *context, const char *name, const char *value)
{
    struct settings *settings = context;
    int option = 0;
    while (strcmp(option_rows[option].name, name) != 0) {
        option++;
    }
    const char *shown = value;
    if (option_rows[option].type == OPTION_URI) {
        MUST(!strstr(value, SECRET));
        shown = "mongodb://h"; // it was masked
    }
    settings->cut |= strlen(value) >= CONFIG_VALUE_BYTES - 1;
    char *flag = malloc(FLAG_BYTES);
    snprintf(flag, FLAG_BYTES, "--%s=%s", option_rows[option].flag, shown);
    settings->flags[settings->count++] = flag;
}

static struct settings settings_of(const struct config *config)
{
    struct settings settings = {.flags = {strdup("weir")}, .count = 1};
    config_each(config, false, note_setting, &settings);
    return settings;
}

static void settings_free(struct settings *settings)
{
    for (int i = 0; i < settings->count; i++) {
        free(settings->flags[i]);
    }
}

// Written as flags, it is the same configuration.
static void load_again(const struct config *config)
{
    char error[CONFIG_ERROR_BYTES];
    char *const nothing[] = {NULL};
    struct settings before = settings_of(config);
    if (!before.cut) {
        struct config *again = config_load(before.count, before.flags, nothing, error);
        MUST(again);
        struct settings after = settings_of(again);
        MUST(after.count == before.count);
        for (int i = 0; i < before.count; i++) {
            MUST(strcmp(before.flags[i], after.flags[i]) == 0);
        }
        settings_free(&after);
        config_free(again);
    }
    settings_free(&before);
}

static void describe_all(const struct config *config)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        char *subject = malloc(CONFIG_SUBJECT_BYTES);
        config_describe(config, (enum config_option)i, subject);
        MUST(memchr(subject, 0, CONFIG_SUBJECT_BYTES) && !strstr(subject, SECRET));
        free(subject);
    }
}

// ------------------------------------------------------------------------------------------------

static void load(struct words *arguments, struct words *variables)
{
    char *error = malloc(CONFIG_ERROR_BYTES);
    struct config *config =
        config_load(arguments->count, arguments->items, variables->items, error);
    if (config) {
        MUST(config->uri && config->bind_ip.count > 0);
        describe_all(config);
        load_again(config);
    } else {
        check_line(error);
    }
    config_free(config);
    free(error);
}

static int make_file(struct bytes form)
{
    size_t len;
    char *text = fill_form(form, &len);
    int fd = memfd_create("weir.yaml", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, text, len) == (ssize_t)len);
    free(text);
    return fd;
}

static void add_word(struct words *words, char *word)
{
    words->items[words->count++] = word;
}

static void split_words(struct input input, struct words *arguments, struct words *variables)
{
    for (int i = 0; i < WORDS_MOST && input.len > 0; i++) {
        const uint8_t *end = memchr(input.at, 0, input.len);
        size_t len = end ? (size_t)(end - input.at) : input.len;
        size_t filled;
        char *word = fill_form((struct bytes){input.at, len}, &filled);
        bool is_variable = word[0] == 'E';
        add_word(is_variable ? variables : arguments, is_variable ? strdup(word + 1) : word);
        if (is_variable) {
            free(word);
        }
        len += len < input.len;
        input.at += len;
        input.len -= len;
    }
}

static void words_free(struct words *words)
{
    for (int i = 0; i < words->count; i++) {
        free(words->items[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    if (holds_text(data, size, SECRET)) {
        return 0;
    }
    struct bytes file = input_piece(&input);
    struct words arguments = {.items = {strdup("weir")}, .count = 1};
    struct words variables = {0};
    int fd = -1;
    if (file.len > 0) {
        char path[64];
        fd = make_file(file);
        snprintf(path, sizeof(path), "--config=/proc/self/fd/%d", fd);
        add_word(&arguments, strdup(path));
    }
    split_words(input, &arguments, &variables);
    load(&arguments, &variables);
    words_free(&arguments);
    words_free(&variables);
    if (fd >= 0) {
        close(fd);
    }
    return 0;
}
