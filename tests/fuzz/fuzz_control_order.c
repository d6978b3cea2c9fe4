// SPDX-License-Identifier: Apache-2.0
//
// What the control socket is asked: lines that end in \n, one after the other, of one rulebook.
// Each has one answer, a document of valid texts that says whether it was done; what was refused
// changes nothing; the rules that are published can judge.

#include <stdio.h>
#include "proxy/admin/control_order.h"
#include "proxy/admin/state.h"
#include "proxy/log.h"
#include "tests/fuzz/fuzz.h"

static struct rules *published;

// --- the log ------------------------------------------------------------------------------------

void __wrap_log_begin(struct log_line *line, enum log_level level, const char *event);
void __wrap_log_str(struct log_line *line, const char *key, const char *value);
void __wrap_log_int(struct log_line *line, const char *key, int64_t value);
void __wrap_log_end(struct log_line *line);

void __wrap_log_begin(struct log_line *line, enum log_level level, const char *event)
{
    (void)line, (void)level, (void)event;
}

void __wrap_log_str(struct log_line *line, const char *key, const char *value)
{
    (void)line, (void)key;
    MUST(value && bson_utf8_validate(value, strlen(value), false));
}

void __wrap_log_int(struct log_line *line, const char *key, int64_t value)
{
    (void)line, (void)key, (void)value;
}

void __wrap_log_end(struct log_line *line)
{
    (void)line;
}

// ------------------------------------------------------------------------------------------------

static void changed(void *arg, struct rules *rules, const struct emergency *emergency)
{
    (void)arg, (void)emergency;
    rules_drop(published);
    published = rules;
}

static bool reload(void *arg, char ret_said[CONTROL_SAID_BYTES])
{
    snprintf(ret_said, CONTROL_SAID_BYTES, "nothing");
    return arg == NULL;
}

static void drain(void *arg, int64_t within_us)
{
    (void)arg;
    (void)within_us;
}

static bool is_upgraded(void *arg, bool *ret_good, char ret_said[CONTROL_SAID_BYTES])
{
    snprintf(ret_said, CONTROL_SAID_BYTES, "process 1 has taken over");
    *ret_good = true;
    return arg == NULL;
}

static void tell_status(void *arg, int64_t now_us, bson_t *reply)
{
    (void)arg, (void)now_us;
    BSON_APPEND_INT64(reply, "clients", 1);
}

static bool kill_all(void *arg, const struct cull_wish *wish, struct cull_counts *ret_counts)
{
    (void)arg;
    MUST(wish->request != 0 || wish->client != 0 || wish->has_shape || wish->over_us > 0);
    *ret_counts = (struct cull_counts){.ended = 1};
    return true;
}

static struct server_bounds tell_bounds(void *arg)
{
    (void)arg;
    return (struct server_bounds){.cap = 4};
}

static void set_bound(void *arg, int bound)
{
    (void)arg;
    MUST(bound >= -1 && bound <= 100000);
}

static void pause_all(void *arg, bool paused)
{
    (void)arg, (void)paused;
}

static void judge(int64_t now_us)
{
    static const uint8_t address[16] = {10};
    const struct rule_facts facts = {
        .database = {"shop", 4},
        .collection = {"orders", 6},
        .command = {"find", 4},
        .app = {"web.1", 5},
        .address = address,
    };
    struct rule_verdict verdict;
    rules_judge(published, &facts, now_us, &verdict);
    MUST(verdict.answer == RULE_PASSES || verdict.rule);
    MUST(verdict.default_time_ms == 0 || verdict.max_time_ms == 0 ||
         verdict.default_time_ms <= verdict.max_time_ms);
    rule_verdict_end(&verdict);
}

static void check_answer(const bson_t *reply, const struct rules *before)
{
    bson_iter_t iter;
    MUST(bson_validate(reply, BSON_VALIDATE_UTF8, NULL));
    MUST(bson_iter_init_find(&iter, reply, "ok") && BSON_ITER_HOLDS_BOOL(&iter));
    bool ok = bson_iter_bool(&iter);
    MUST(ok != bson_iter_init_find(&iter, reply, "error"));
    MUST(ok || published == before);
    char *json = bson_as_relaxed_extended_json(reply, NULL);
    MUST(json && !strchr(json, '\n'));
    bson_free(json);
}

static void check_rulebook(const struct rulebook *book)
{
    size_t count = 0;
    const struct rule *rule;
    for (; (rule = rulebook_at(book, count)); count++) {
        MUST(rule_words(rule)[0] != '\0' && rulebook_find(book, rule_id(rule)) == rule);
    }
    MUST(count <= RULES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config = {.emergency_max_time_us = 5000000};
    struct rulebook *book = rulebook_new(&config, (struct rulebook_reader){.changed = changed});
    const struct control_desk desk = {
        .book = book,
        .tell_status = tell_status,
        .reload = reload,
        .drain = drain,
        .upgrade = drain,
        .is_upgraded = is_upgraded,
        .kill = kill_all,
        .tell_bounds = tell_bounds,
        .set_cap = set_bound,
        .set_limit = set_bound,
        .pause = pause_all,
    };
    int64_t now_us = 1000000;
    while (size > 0) {
        const uint8_t *newline = memchr(data, '\n', size);
        size_t len = newline ? (size_t)(newline - data) : size;
        char *line = (char *)exact_copy(data, len);
        bson_t reply = BSON_INITIALIZER;
        const struct rules *before = published;
        unsigned told = control_order_answer(&desk, line, len, "fuzz", now_us, &reply);
        MUST((told & ~STATE_ALL) == 0);
        MUST(!bson_empty(&reply) || control_order_tell_upgrade(&desk, &reply));
        check_answer(&reply, before);
        check_rulebook(book);
        judge(now_us);
        bson_destroy(&reply);
        free(line);
        data += len + (newline != NULL);
        size -= len + (newline != NULL);
        now_us += 100000000;
        MUST(rulebook_tick(book, now_us) > now_us);
    }
    rulebook_free(book);
    rules_drop(published);
    published = NULL;
    return 0;
}
