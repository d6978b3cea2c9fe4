// SPDX-License-Identifier: Apache-2.0
//
// Explores what can become of a small fleet: every order in which, within bounds, instances ask,
// the store executes, messages are late or for ever under way, time passes, the store forgets or
// restarts with what it had once saved, instances freeze, crash and come back. Both halves are the
// real ones: policy/lease.c and proxy/fleet.lua, run by Lua with a small Redis around it.
//
// An instance is as bad as it may be: it opens at once whatever it is allowed, and closes only when
// it must (or at will, which is explored, too).
//
// Invariant, looked at after every step: all together have at most `cap` connections open.
//
// All of it within small bounds, or beyond those, where that is too much, many walks at random.
//
//      model [--settled] [--walks N] [--instances N] [--asks N] [--faults N] [--fault NAME]
//      [--ticks N] [--edit FROM TO] [--violation]
//
// --settled begins where a fleet is after its first seconds: all known to a store whose epoch is
// mature, which else most of the bounds are spent to reach. --fault: of this kind only. --edit
// replaces a text of the script; --violation: succeeds if the invariant is broken, and shows the
// way there.

#include <assert.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/lease.h"

enum { MOST = 3, FIELDS = 16, MESSAGES = 10, TEXT = 80, STEPS = 256 };
#define TICK_US INT64_C(1000000)
#define LEASE_US (4 * TICK_US)

struct field {
    char name[24];
    char value[TEXT];
};

struct store {
    struct field fields[FIELDS];
    int count;
};

struct message {
    int from; // -1: none
    bool is_answer;
    uint64_t id;
    struct lease_ask ask;
    char epoch[LEASE_EPOCH_BYTES];
    uint64_t over[MOST];
    uint64_t over_seq[MOST];
    int over_count;
    struct lease_answer answer; // its epoch is the one above
    struct lease_peer peers[MOST];
    int peer_count;
};

struct instance {
    struct lease lease;
    struct lease_peer peers[MOST];
    int open;
    bool frozen;
    bool dead;
};

struct world {
    int64_t now_us;
    struct store store;
    struct store saved;
    int run;
    int asks;
    int faults;
    uint64_t last_id;
    struct instance instances[MOST];
    struct message messages[MESSAGES];
};

static struct lease_terms terms = {.cap = 4, .floor = 1, .instances = 2, .us = LEASE_US};
static int asks_max = 6;
static int faults_max = 2;
static int ticks_max = 9;
static const char *only_fault;
static char script[16384];
static lua_State *lua;
static struct store *at_work; // the store that the script sees
static int run_at_work;
static const char *path[STEPS];
static int path_of[STEPS];

// --- a small Redis ------------------------------------------------------------------------------

static int find_field(const struct store *store, const char *name)
{
    for (int i = 0; i < store->count; i++) {
        if (strcmp(store->fields[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct field *)a)->name, ((const struct field *)b)->name);
}

static void put_field(struct store *store, const char *name, const char *value)
{
    int at = find_field(store, name);
    if (at < 0) {
        assert(store->count < FIELDS);
        at = store->count++;
    }
    memset(&store->fields[at], 0, sizeof store->fields[at]);
    snprintf(store->fields[at].name, sizeof store->fields[at].name, "%s", name);
    snprintf(store->fields[at].value, TEXT, "%s", value);
    qsort(store->fields, (size_t)store->count, sizeof store->fields[0], by_name);
}

static void drop_field(struct store *store, const char *name)
{
    int at = find_field(store, name);
    if (at < 0) {
        return;
    }
    store->count--;
    memmove(&store->fields[at], &store->fields[at + 1],
            sizeof store->fields[0] * (size_t)(store->count - at));
    memset(&store->fields[store->count], 0, sizeof store->fields[0]);
}

static int redis_call(lua_State *state)
{
    const char *command = luaL_checkstring(state, 1);
    if (strcmp(command, "INFO") == 0) {
        lua_pushfstring(state, "# Server\r\nrun_id:r%d\r\n", run_at_work);
    } else if (strcmp(command, "HGETALL") == 0) {
        lua_newtable(state);
        for (int i = 0; i < at_work->count; i++) {
            lua_pushstring(state, at_work->fields[i].name);
            lua_rawseti(state, -2, 2 * i + 1);
            lua_pushstring(state, at_work->fields[i].value);
            lua_rawseti(state, -2, 2 * i + 2);
        }
    } else if (strcmp(command, "DEL") == 0) {
        memset(at_work, 0, sizeof *at_work);
        lua_pushinteger(state, 1);
    } else if (strcmp(command, "HDEL") == 0) {
        drop_field(at_work, luaL_checkstring(state, 3));
        lua_pushinteger(state, 1);
    } else if (strcmp(command, "HSET") == 0) {
        for (int i = 3; i < lua_gettop(state); i += 2) {
            put_field(at_work, luaL_checkstring(state, i), luaL_checkstring(state, i + 1));
        }
        lua_pushinteger(state, 1);
    } else {
        return luaL_error(state, "the model's Redis has no %s", command);
    }
    return 1;
}

static void load_script(const char *from, const char *to)
{
    FILE *file = fopen(WEIR_SOURCE_DIR "/proxy/fleet.lua", "r");
    assert(file);
    size_t len = fread(script, 1, sizeof script - 1, file);
    fclose(file);
    assert(len > 0 && len < sizeof script - 256);
    if (from) {
        char *at = strstr(script, from);
        if (!at) {
            fprintf(stderr, "the script does not have: %s\n", from);
            exit(2);
        }
        char rest[sizeof script];
        snprintf(rest, sizeof rest, "%s%s", to, at + strlen(from));
        memcpy(at, rest, strlen(rest) + 1);
    }
    lua = luaL_newstate();
    luaL_openlibs(lua);
    lua_newtable(lua);
    lua_pushcfunction(lua, redis_call);
    lua_setfield(lua, -2, "call");
    lua_setglobal(lua, "redis");
    if (luaL_loadstring(lua, script) != 0) {
        fprintf(stderr, "%s\n", lua_tostring(lua, -1));
        exit(2);
    }
}

static void push_arg(int at, const char *text)
{
    lua_pushstring(lua, text);
    lua_rawseti(lua, -2, at);
}

static void push_number(int at, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    push_arg(at, text);
}

static const char *reply_text(int at)
{
    lua_rawgeti(lua, -1, at);
    const char *text = lua_tostring(lua, -1);
    lua_pop(lua, 1); // the reply itself still holds it
    return text;
}

static uint64_t reply_number(int at)
{
    const char *text = reply_text(at);
    return text ? strtoull(text, NULL, 10) : 0;
}

static void read_granted(struct message *message)
{
    struct lease_answer *answer = &message->answer;
    answer->kind = LEASE_GRANTED;
    memset(message->epoch, 0, sizeof message->epoch);
    snprintf(message->epoch, sizeof message->epoch, "%s", reply_text(2));
    answer->mature = strcmp(reply_text(3), "1") == 0;
    answer->held = (int)reply_number(4);
    answer->told = (int)reply_number(5);
    for (int i = 6; reply_text(i); i += 5) {
        message->peers[message->peer_count++] = (struct lease_peer){
            .id = reply_number(i),
            .seq = reply_number(i + 1),
            .held = (int)reply_number(i + 2),
            .need = (int)reply_number(i + 3),
        };
    }
}

// The message becomes its answer; without one it is gone.
static void execute(struct world *world, struct message *message)
{
    char text[64];
    at_work = &world->store;
    run_at_work = world->run;
    lua_newtable(lua);
    push_arg(1, "k");
    lua_setglobal(lua, "KEYS");
    lua_newtable(lua);
    push_number(1, message->id);
    push_number(2, message->ask.seq);
    snprintf(text, sizeof text, "%d %d %d 1", terms.cap, terms.floor, terms.instances);
    push_arg(3, text);
    push_arg(4, message->epoch);
    push_arg(5, message->ask.mature ? "1" : "");
    push_number(6, (uint64_t)message->ask.held);
    push_number(7, (uint64_t)message->ask.need);
    push_number(8, (uint64_t)message->ask.room);
    push_arg(9, "x");
    push_arg(10, "");
    for (int i = 0; i < message->over_count; i++) {
        push_number(11 + 2 * i, message->over[i]);
        push_number(12 + 2 * i, message->over_seq[i]);
    }
    lua_setglobal(lua, "ARGV");
    lua_pushvalue(lua, 1);
    if (lua_pcall(lua, 0, 1, 0) != 0) {
        fprintf(stderr, "%s\n", lua_tostring(lua, -1));
        exit(2);
    }
    const char *kind = reply_text(1);
    message->is_answer = true;
    message->answer = (struct lease_answer){.seq = message->ask.seq, .kind = LEASE_FULL};
    if (strcmp(kind, "granted") == 0) {
        read_granted(message);
    } else if (strcmp(kind, "full") != 0) {
        *message = (struct message){.from = -1};
    }
    lua_pop(lua, 1);
}

// --- instances ----------------------------------------------------------------------------------

static struct lease *lease_of(struct instance *instance)
{
    instance->lease.peers = instance->peers; // worlds are copied
    return &instance->lease;
}

static void start(struct world *world, struct instance *instance)
{
    memset(instance, 0, sizeof *instance);
    lease_init(&instance->lease, &terms, terms.cap, ++world->last_id, instance->peers,
               world->now_us);
    instance->lease.settled = true; // with its floor
    instance->open = terms.floor;
}

// What it does whenever it runs.
static void live(struct world *world, struct instance *instance)
{
    struct lease *lease = lease_of(instance);
    if (instance->frozen || instance->dead) {
        return;
    }
    int may = lease_allows(lease, world->now_us);
    if (instance->open < may || lease_must_cut(lease, world->now_us)) {
        instance->open = may;
    }
    lease_look(lease, instance->open, world->now_us);
}

static bool ask(struct world *world, int i, bool wants)
{
    struct instance *instance = &world->instances[i];
    struct lease *lease = lease_of(instance);
    int at = 0;
    while (at < MESSAGES && world->messages[at].from >= 0) {
        at++;
    }
    if (instance->frozen || instance->dead || at == MESSAGES || world->asks == asks_max) {
        return false;
    }
    world->asks++;
    struct message *message = &world->messages[at];
    message->from = i;
    message->id = lease->id;
    memcpy(message->epoch, lease->epoch, sizeof lease->epoch);
    message->ask = lease_ask(lease, instance->open, wants ? terms.cap : 0, world->now_us);
    for (size_t k = 0; k < lease->peer_count; k++) {
        if (lease_is_over(lease, &lease->peers[k], world->now_us)) {
            message->over[message->over_count] = lease->peers[k].id;
            message->over_seq[message->over_count++] = lease->peers[k].seq;
        }
    }
    return true;
}

static void deliver(struct world *world, struct message *message)
{
    struct instance *instance = &world->instances[message->from];
    struct lease *lease = lease_of(instance);
    message->answer.epoch = message->epoch;
    if (message->id == lease->id && lease_learn(lease, &message->answer, world->now_us) &&
        message->answer.kind == LEASE_GRANTED) {
        for (int i = 0; i < message->peer_count; i++) {
            lease_meet(lease, &message->peers[i], world->now_us);
        }
        lease_part(lease);
    }
    *message = (struct message){.from = -1};
    live(world, instance);
}

static void pass_time(struct world *world)
{
    world->now_us += TICK_US;
    for (int i = 0; i < terms.instances; i++) {
        struct instance *instance = &world->instances[i];
        bool dies = instance->frozen && world->now_us >= lease_dies_us(&instance->lease);
        if (dies) {
            instance->open = 0;
            instance->dead = true;
            instance->frozen = false;
        }
        live(world, instance);
    }
}

// --- steps --------------------------------------------------------------------------------------

static const char *const faults[] = {"forgets", "restarts", "saves", "freezes", "thaws", "crashes"};

// What comes of it does not matter any more: not a state of its own.
static void drop_stale(struct world *world)
{
    for (int i = 0; i < MESSAGES; i++) {
        struct message *message = &world->messages[i];
        const struct lease *lease =
            message->from < 0 ? NULL : &world->instances[message->from].lease;
        if (lease && message->is_answer &&
            (message->id != lease->id || message->ask.seq != lease->seq ||
             world->now_us >= lease->sent_us + terms.us)) {
            *message = (struct message){.from = -1};
        }
    }
}

static bool fault(struct world *world, int kind, int i)
{
    struct instance *instance = &world->instances[i];
    if (only_fault && strcmp(faults[kind], only_fault) != 0) {
        return false;
    }
    if (kind != 2 && kind != 4 && world->faults++ == faults_max) {
        return false;
    }
    switch (kind) {
    case 0:
        memset(&world->store, 0, sizeof world->store);
        return i == 0;
    case 1:
        world->store = world->saved;
        world->run++;
        return i == 0;
    case 2: {
        bool changes = memcmp(&world->saved, &world->store, sizeof world->store) != 0;
        world->saved = world->store;
        return i == 0 && changes && world->run == 0;
    }
    case 3:
        if (instance->frozen || instance->dead) {
            return false;
        }
        instance->frozen = true;
        return true;
    case 4: {
        bool frozen = instance->frozen;
        instance->frozen = false;
        live(world, instance);
        return frozen;
    }
    default:
        start(world, instance);
        return true;
    }
}

// In this order: what leads to trouble, if there is any, soonest.
enum step {
    ASKS_FOR_MORE,
    ARRIVES,
    TIME_PASSES,
    ASKS_FOR_NOTHING,
    CLOSES,
    FAULTS,
    STEP_KINDS = 11
};

static const char *const names[] = {"asks for more", "executed or delivered", "time passes",
                                    "asks for nothing", "closes"};

// Whether the step can be; `world` is then what it leads to.
static bool do_step(struct world *world, int step, int i, const char **ret_name)
{
    struct instance *instance = i < MOST ? &world->instances[i] : NULL;
    struct message *message = i < MESSAGES ? &world->messages[i] : NULL;
    *ret_name = step < FAULTS ? names[step] : faults[step - FAULTS];
    switch (step) {
    case TIME_PASSES:
        pass_time(world);
        return i == 0 && world->now_us <= ticks_max * TICK_US;
    case ASKS_FOR_MORE:
    case ASKS_FOR_NOTHING:
        return i < terms.instances && ask(world, i, step == ASKS_FOR_MORE);
    case CLOSES: {
        if (i >= terms.instances || instance->frozen || instance->dead) {
            return false;
        }
        int may = lease_allows(lease_of(instance), world->now_us);
        bool closes = instance->open > may;
        instance->open = closes ? may : instance->open;
        return closes;
    }
    case ARRIVES:
        if (message->from < 0 || (message->is_answer && (world->instances[message->from].frozen ||
                                                         world->instances[message->from].dead))) {
            return false;
        }
        if (message->is_answer) {
            deliver(world, message);
        } else {
            execute(world, message);
        }
        return true;
    default:
        return i < terms.instances && fault(world, step - FAULTS, i);
    }
}

// --- the search ---------------------------------------------------------------------------------

static uint64_t *seen;
static size_t seen_size = (size_t)1 << 26;
static size_t seen_count;
static uint64_t steps_done;

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0xff51afd7ed558ccd;
    return hash ^ (hash >> 29);
}

static uint64_t mix_text(uint64_t hash, const char *text)
{
    for (; *text; text++) {
        hash = mix(hash, (uint64_t)*text);
    }
    return mix(hash, 0);
}

static uint64_t mix_store(uint64_t hash, const struct store *store)
{
    for (int i = 0; i < store->count; i++) {
        hash = mix_text(mix_text(hash, store->fields[i].name), store->fields[i].value);
    }
    return mix(hash, (uint64_t)store->count);
}

static uint64_t mix_instance(uint64_t hash, const struct instance *instance)
{
    const struct lease *lease = &instance->lease;
    const uint64_t words[] = {
        (uint64_t)instance->open,
        instance->frozen,
        instance->dead,
        lease->id,
        lease->seq,
        (uint64_t)lease->sent_us,
        lease->answered,
        (uint64_t)lease->held,
        (uint64_t)lease->told,
        (uint64_t)lease->ends_us,
        (uint64_t)lease->epoch_us,
        lease->mature,
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        hash = mix(hash, words[i]);
    }
    for (size_t i = 0; i < lease->peer_count; i++) {
        const struct lease_peer *peer = &instance->peers[i];
        hash = mix(mix(mix(hash, peer->id), peer->seq), (uint64_t)peer->seen_us);
    }
    return mix_text(hash, lease->epoch);
}

// The order of those under way does not matter.
static uint64_t digest_message(const struct message *message)
{
    const struct lease_ask *ask = &message->ask;
    const struct lease_answer *answer = &message->answer;
    if (message->from < 0) {
        return 0;
    }
    uint64_t hash = mix_text(mix(message->id, ask->seq), message->epoch);
    hash = mix(mix(hash, (uint64_t)ask->held), (uint64_t)ask->need);
    hash = mix(mix(hash, ask->mature), message->is_answer);
    hash = mix(mix(hash, (uint64_t)answer->kind), (uint64_t)answer->held);
    hash = mix(mix(hash, (uint64_t)answer->told), answer->mature);
    for (int i = 0; i < message->over_count; i++) {
        hash = mix(mix(hash, message->over[i]), message->over_seq[i]);
    }
    for (int i = 0; i < message->peer_count; i++) {
        hash = mix(mix(hash, message->peers[i].id), message->peers[i].seq);
    }
    return hash;
}

static uint64_t digest(const struct world *world)
{
    uint64_t hash = mix(mix((uint64_t)world->now_us, (uint64_t)world->run), world->last_id);
    hash = mix(mix(hash, (uint64_t)world->asks), (uint64_t)world->faults);
    hash = mix_store(mix_store(hash, &world->store), &world->saved);
    for (int i = 0; i < terms.instances; i++) {
        hash = mix_instance(hash, &world->instances[i]);
    }
    uint64_t under_way = 0;
    for (int i = 0; i < MESSAGES; i++) {
        under_way += digest_message(&world->messages[i]);
    }
    return mix(hash, under_way) | 1;
}

static bool is_new(const struct world *world)
{
    uint64_t hash = digest(world);
    size_t at = (size_t)(hash >> 8) & (seen_size - 1);
    while (seen[at]) {
        if (seen[at] == hash) {
            return false;
        }
        at = (at + 1) & (seen_size - 1);
    }
    seen[at] = hash;
    seen_count++;
    assert(seen_count < seen_size - seen_size / 4);
    return true;
}

static int count_open(const struct world *world)
{
    int open = 0;
    for (int i = 0; i < terms.instances; i++) {
        open += world->instances[i].open;
    }
    return open;
}

static int most_open;

// Returns whether the invariant is broken somewhere from here on; `path` then leads there.
static bool explore(const struct world *world, int depth)
{
    int open = count_open(world);
    most_open = open > most_open ? open : most_open;
    if (open > terms.cap) {
        path[depth] = NULL;
        return true;
    }
    for (int step = 0; step < STEP_KINDS && depth < STEPS - 1; step++) {
        for (int i = 0; i < (step == ARRIVES ? MESSAGES : terms.instances); i++) {
            struct world next;
            memcpy(&next, world, sizeof next);
            path_of[depth] = i;
            if (!do_step(&next, step, i, &path[depth])) {
                continue;
            }
            drop_stale(&next);
            steps_done++;
            const char *name = path[depth];
            if (is_new(&next) && explore(&next, depth + 1)) {
                path[depth] = name;
                path_of[depth] = i;
                return true;
            }
        }
    }
    return false;
}

static bool walk(const struct world *start_of_it, uint64_t seed)
{
    struct world world = *start_of_it;
    uint64_t random = seed * 0x9e3779b97f4a7c15 + 1;
    for (int depth = 0; depth < STEPS - 1 && world.now_us < ticks_max * TICK_US;) {
        random = random * 6364136223846793005 + 1442695040888963407;
        static const int weights[] = {TIME_PASSES,      TIME_PASSES, ASKS_FOR_MORE, ASKS_FOR_MORE,
                                      ASKS_FOR_NOTHING, CLOSES,      ARRIVES,       ARRIVES,
                                      ARRIVES,          ARRIVES,     ARRIVES,       FAULTS,
                                      FAULTS + 1,       FAULTS + 2,  FAULTS + 3,    FAULTS + 4,
                                      FAULTS + 5,       ARRIVES,     ARRIVES,       ASKS_FOR_MORE};
        int step = weights[(random >> 33) % (sizeof weights / sizeof weights[0])];
        path_of[depth] =
            (int)((random >> 45) % (unsigned)(step == ARRIVES ? MESSAGES : terms.instances));
        if (step == ARRIVES && world.messages[path_of[depth]].from < 0) {
            continue;
        }
        static struct world next;
        next = world;
        if (!do_step(&next, step, path_of[depth], &path[depth])) {
            continue;
        }
        drop_stale(&next);
        world = next;
        depth++;
        steps_done++;
        most_open = count_open(&world) > most_open ? count_open(&world) : most_open;
        if (count_open(&world) > terms.cap) {
            path[depth] = NULL;
            return true;
        }
    }
    return false;
}

// All ask for nothing, and time passes, until the epoch is mature. The store then was saved last
// when only the first had been given something.
static void settle(struct world *world)
{
    bool mature = false;
    while (!mature) {
        mature = true;
        for (int i = 0; i < terms.instances; i++) {
            bool asked = ask(world, i, false);
            assert(asked);
            execute(world, &world->messages[0]);
            deliver(world, &world->messages[0]);
            world->saved = i == 0 ? world->store : world->saved;
            mature = mature && world->instances[i].lease.mature;
        }
        pass_time(world);
    }
    ticks_max += (int)(world->now_us / TICK_US);
    world->asks = 0;
}

static int number(char *const argv[], int *at)
{
    return atoi(argv[++*at]);
}

int main(int argc, char *argv[])
{
    const char *from = NULL;
    const char *to = NULL;
    bool violation = false;
    bool settled = false;
    int walks = 0;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--instances") == 0 && more) {
            terms.instances = number(argv, &i);
            terms.cap = terms.instances + 2;
        } else if (strcmp(argv[i], "--walks") == 0 && more) {
            walks = number(argv, &i);
        } else if (strcmp(argv[i], "--asks") == 0 && more) {
            asks_max = number(argv, &i);
        } else if (strcmp(argv[i], "--faults") == 0 && more) {
            faults_max = number(argv, &i);
        } else if (strcmp(argv[i], "--fault") == 0 && more) {
            only_fault = argv[++i];
        } else if (strcmp(argv[i], "--ticks") == 0 && more) {
            ticks_max = number(argv, &i);
        } else if (strcmp(argv[i], "--edit") == 0 && i + 2 < argc) {
            from = argv[++i];
            to = argv[++i];
        } else if (strcmp(argv[i], "--settled") == 0) {
            settled = true;
        } else if (strcmp(argv[i], "--violation") == 0) {
            violation = true;
        } else {
            fprintf(stderr, "unknown: %s\n", argv[i]);
            return 2;
        }
    }
    assert(terms.instances >= 1 && terms.instances <= MOST);
    load_script(from, to);
    seen = calloc(seen_size, sizeof *seen);
    static struct world world;
    for (int i = 0; i < MESSAGES; i++) {
        world.messages[i].from = -1;
    }
    for (int i = 0; i < terms.instances; i++) {
        start(&world, &world.instances[i]);
    }
    if (settled) {
        int asks = asks_max;
        asks_max = INT_MAX;
        settle(&world);
        asks_max = asks;
    }
    bool broken = walks == 0 && explore(&world, 0);
    for (int i = 1; i <= walks && !broken; i++) {
        broken = walk(&world, (uint64_t)i);
    }
    printf("%zu states, %" PRIu64 " steps, at most %d of %d open: %s\n", seen_count, steps_done,
           most_open, terms.cap, broken ? "BROKEN" : "holds");
    for (int i = 0; broken && path[i]; i++) {
        printf("  %d %s\n", path_of[i], path[i]);
    }
    free(seen);
    lua_close(lua);
    return broken == violation ? 0 : 1;
}
