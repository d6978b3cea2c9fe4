// SPDX-License-Identifier: Apache-2.0

#include "tests/fuzz/conversation.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <stdarg.h>
#include <ucontext.h>

#include "proxy/log.h"
#include "proxy/mem.h"
#include "tests/sim/sim_loop.h"
#include "wire/request_build.h"

#define ROOM_BYTES (1 << 22)
#define TABLE_ENTRIES 8

struct conversation conversation;

static const struct loop_profile threads;
static const struct net_profile network = {.capacity_least = ROOM_BYTES,
                                           .capacity_most = ROOM_BYTES};

_Noreturn void sim_broken(const char *format, ...)
{
    va_list arguments;
    trace_print_last();
    va_start(arguments, format);
    fputs("BROKEN: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

// --- switching between fibers
// ---------------------------------------------------------------------

// AddressSanitizer's own swapcontext maps the shadow of the whole stack anew at each switch. The
// fibers tell it of their switches themselves, so libc's is enough, and a stack that is clean to
// begin with.

int __wrap_swapcontext(ucontext_t *from, const ucontext_t *to);
int __wrap_swapcontext(ucontext_t *from, const ucontext_t *to)
{
    static int (*libcs)(ucontext_t * from, const ucontext_t *to);
    if (!libcs) {
        *(void **)&libcs = dlsym(RTLD_NEXT, "swapcontext");
    }
    return libcs(from, to);
}

void __real_makecontext(ucontext_t *context, void (*fn)(void), int argc, ...);
void __wrap_makecontext(ucontext_t *context, void (*fn)(void), int argc);
void __wrap_makecontext(ucontext_t *context, void (*fn)(void), int argc)
{
    ASAN_UNPOISON_MEMORY_REGION(context->uc_stack.ss_sp, context->uc_stack.ss_size);
    __real_makecontext(context, fn, argc);
}

// --- small tables
// ---------------------------------------------------------------------------------

// Weir's own take 40 MB, which are not to be cleared for each input; small ones are full at times,
// too.

struct pins *__real_pins_new(size_t capacity);
struct pins *__wrap_pins_new(size_t capacity);
struct pins *__wrap_pins_new(size_t capacity)
{
    (void)capacity;
    return __real_pins_new(TABLE_ENTRIES);
}

struct shapes *__real_shapes_new(size_t capacity);
struct shapes *__wrap_shapes_new(size_t capacity);
struct shapes *__wrap_shapes_new(size_t capacity)
{
    (void)capacity;
    return __real_shapes_new(TABLE_ENTRIES);
}

// --- the one way to the deployment, which outlives all that use it

struct approach *approach_keep(struct approach *approach)
{
    return approach;
}

void approach_drop(struct approach *approach)
{
    (void)approach;
}

// --- control, which has nothing to discover and derives keys at once
// ------------------------------

struct control {
    struct control_job *job;
    struct event work;
};

static struct control control;

static void do_job(void *arg)
{
    (void)arg;
    struct control_job *job = control.job;
    control.job = job->next;
    if (control.job) {
        event_set(&control.work, sim_now_us());
    }
    job->run(job);
}

void control_post(struct control *posted_to, struct control_job *job)
{
    job->next = posted_to->job;
    posted_to->job = job;
    event_set(&posted_to->work, sim_now_us());
}

// Nothing is slow here.
void control_kill(struct control *asked, struct kill *kill)
{
    (void)asked;
    free(kill);
}

void control_request_scan(struct control *asked)
{
    (void)asked;
}

// --- connections
// ----------------------------------------------------------------------------------

static void accept_upstream(void *arg, struct net_end *end)
{
    (void)arg;
    struct side *side = xcalloc(1, sizeof *side);
    side->end = end;
    side->next = conversation.servers;
    conversation.servers = side;
    conversation.accepted(side);
}

static void connect_upstream(const struct address *address, struct connect_answer *ret_answer)
{
    (void)address;
    ret_answer->outcome = conversation.refusing ? CONNECT_REFUSED : CONNECT_ACCEPTED;
    ret_answer->after_us = 0;
    ret_answer->profile = &network;
    ret_answer->accepted = accept_upstream;
}

struct side conversation_connect(void)
{
    struct net_conn *conn = net_open(&network);
    worker_give_client(conversation.worker, stream_fd_of(&conn->ends[1]), 0);
    return (struct side){.end = &conn->ends[0]};
}

void side_send(struct side *side, struct bytes bytes)
{
    size_t len;
    if (side->end && bytes.len > 0) {
        (void)net_write(side->end, bytes.at, bytes.len, &len);
    }
}

void side_read(struct side *side)
{
    enum net_status status = NET_OK;
    while (side->end && status == NET_OK) {
        size_t len;
        status = net_read(side->end, buffer_reserve(&side->in, 4096), 4096, &len);
        if (status == NET_OK) {
            buffer_commit(&side->in, len);
        }
    }
    side->ended |= status == NET_ENDED || status == NET_FAILED;
}

void side_close(struct side *side, bool reset)
{
    if (side->end && reset) {
        net_reset(side->end);
    } else if (side->end) {
        net_close(side->end);
    }
    side->end = NULL;
    buffer_fini(&side->in);
}

bool side_message(const struct side *side, struct bytes *ret_message)
{
    struct frame frame;
    const uint8_t *at = buffer_at(&side->in);
    enum frame_status status = frame_read(at, buffer_held(&side->in), &frame);
    MUST(status != FRAME_BAD_LENGTH);
    if (status != FRAME_OK || buffer_held(&side->in) < (size_t)frame.length) {
        return false;
    }
    *ret_message = (struct bytes){at, (size_t)frame.length};
    return true;
}

void side_reply(struct side *side, int32_t response_to, const bson_t *document)
{
    struct buffer out = {0};
    size_t start = op_msg_begin(&out, 77, response_to);
    buffer_append(&out, bson_get_data(document), document->len);
    op_msg_end(&out, start);
    side_send(side, (struct bytes){buffer_at(&out), buffer_held(&out)});
    buffer_fini(&out);
}

// --- weir
// -----------------------------------------------------------------------------------------

static void configure(const struct credential *credential)
{
    conversation.config = (struct config){
        .max_connections = 2,
        .connect_timeout_us = 10000000,
        .server_wait_us = 1000000,
        .max_incoming_connections = 10,
        .handshake_timeout_us = 10000000,
        .message_timeout_us = 10000000,
        .max_buffered_bytes = 1 << 27,
        .max_wait_us = 100000,
        .max_queue = 10,
        .slow_share = 0.5,
        .slow_op_threshold_us = 100000,
    };
    conversation.deployment.credential = *credential;
    conversation.approach.deployment = &conversation.deployment;
    conversation.shared = (struct shared){
        .config = &conversation.config,
        .approach = &conversation.approach,
        .control = &control,
        .budget = {.limit = 1 << 27},
    };
}

static void tell_topology(void)
{
    struct topology *topology = topology_new(1, 1);
    struct server_info *info = &topology->servers[0];
    snprintf(info->name, sizeof info->name, "server:27017");
    snprintf(info->host, sizeof info->host, "server");
    info->kind = SERVER_PRIMARY;
    info->max_wire_version = 21;
    info->max_bson_bytes = 16777216;
    info->max_message_bytes = FRAME_MAX_BYTES;
    info->max_write_batch = 100000;
    info->session_timeout_minutes = 30;
    info->address_count = 1;
    struct topology_mail *mail = xcalloc(1, sizeof *mail);
    servers_adopt(conversation.shared.servers, topology);
    mail->topology = topology;
    worker_post(conversation.worker, &mail->mail, MAIL_TOPOLOGY);
}

void conversation_begin(const struct credential *credential, void (*accepted)(struct side *side))
{
    static struct key_cache *keys;
    if (!keys) {
        keys = key_cache_new();
        log_init(LOG_LOGFMT, open("/dev/null", O_WRONLY | O_CLOEXEC));
    }
    sim_begin(1);
    conversation = (struct conversation){.accepted = accepted};
    control = (struct control){0};
    event_init(&control.work, do_job, NULL);
    configure(credential);
    conversation.approach.keys = keys;
    loops_use(&threads);
    streams_use(connect_upstream);
    atomic_init(&conversation.shared.next_client_id, 1);
    atomic_init(&conversation.shared.next_upstream_id, 1);
    conversation.shared.servers = servers_new(&conversation.config, &conversation.worker, 1);
    affinity_init(&conversation.shared.affinity);
    conversation.worker = worker_new(0, &conversation.shared);
    tell_topology();
    loop_start(conversation.worker->loop);
}

void conversation_pass(int64_t us)
{
    int64_t until_us = sim_now_us() + us;
    while (sim_step(until_us)) {
    }
    for (struct side *side = conversation.servers; side; side = side->next) {
        side_read(side);
    }
}

static void close_servers(void)
{
    while (conversation.servers) {
        struct side *side = conversation.servers;
        conversation.servers = side->next;
        side_close(side, false);
        free(side);
    }
}

void conversation_end(void)
{
    MUST(atomic_load(&conversation.worker->client_count) == 0 && !conversation.worker->clients);
    MUST(atomic_load(&conversation.shared.budget.used) == 0 ||
         conversation.worker->request_count > 0);
    struct mail *mail = xcalloc(1, sizeof *mail);
    worker_post(conversation.worker, mail, MAIL_END);
    conversation_pass(1000);
    conversation.refusing = true;
    close_servers();
    conversation_pass(30000000);
    MUST(loop_has_ended(conversation.worker->loop));
    MUST(atomic_load(&conversation.shared.budget.used) == 0);
    worker_free(conversation.worker);
    servers_free(conversation.shared.servers);
    affinity_fini(&conversation.shared.affinity);
    close_servers();
    conversation_pass(1000000);
    MUST(net_count() == 0 && streams_count() == 0);
    sim_end();
}
