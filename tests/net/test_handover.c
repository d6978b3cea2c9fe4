// SPDX-License-Identifier: Apache-2.0
//
// Streams that are handed to and fro between two loops in two threads, while a client in a third
// one talks to them. Each piece that is echoed is the last thing a worker does before it gives the
// stream away, so TLS often has bytes of its own left, and some go on shaking hands elsewhere.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/net/listener.h"
#include "proxy/net/loop.h"
#include "proxy/net/stream.h"
#include "proxy/net/tls.h"
#include "tests/net/help_certificates.h"

enum { CALLERS = 6, ROUNDS = 150, PIECE_BYTES = 64, MESSAGE_BYTES = 1000 };

enum mail_kind { MAIL_GUEST, MAIL_STOP };

struct worker {
    struct loop *loop;
    struct mailbox *mailbox;
    struct worker *other;
    pthread_t thread;
    struct mail stop;
    long handovers;
};

static atomic_int guests_there;

// One stream on the server's side.
struct guest {
    struct mail mail;
    struct worker *worker;
    struct stream *stream;
    bool open;
    uint8_t piece[PIECE_BYTES];
    size_t len;
    size_t written;
};

static void guest_pass_on(struct guest *guest)
{
    struct worker *worker = guest->worker;
    worker->handovers++;
    stream_detach(guest->stream);
    guest->worker = worker->other;
    guest->mail.kind = MAIL_GUEST;
    mailbox_post(worker->other->mailbox, &guest->mail);
}

static void worker_stop(struct worker *worker)
{
    worker->stop.kind = MAIL_STOP;
    mailbox_post(worker->mailbox, &worker->stop);
}

// The last one turns out the light.
static void guest_leave(struct guest *guest)
{
    struct worker *worker = guest->worker;
    stream_free(guest->stream);
    free(guest);
    if (atomic_fetch_sub(&guests_there, 1) == 1) {
        worker_stop(worker->other);
        worker_stop(worker);
    }
}

// Whether the piece has gone out as a whole.
static bool guest_write(struct guest *guest)
{
    while (guest->written < guest->len) {
        size_t n = 0;
        size_t left = guest->len - guest->written;
        enum stream_status status =
            stream_write(guest->stream, guest->piece + guest->written, left, &n);
        assert(status == STREAM_OK || status == STREAM_WAIT);
        guest->written += n;
        if (n < left) {
            stream_watch(guest->stream, STREAM_WRITE);
            return false;
        }
    }
    stream_watch(guest->stream, STREAM_READ);
    return true;
}

static void guest_shake(struct guest *guest)
{
    enum stream_status status = stream_handshake(guest->stream);
    assert(status == STREAM_OK || status == STREAM_WAIT);
    guest->open = status == STREAM_OK;
    if (guest->open) {
        stream_watch(guest->stream, STREAM_READ);
    }
    guest_pass_on(guest);
}

static void guest_ready(void *arg, unsigned directions)
{
    (void)directions;
    struct guest *guest = arg;
    if (!guest->open) {
        guest_shake(guest);
        return;
    }
    if (guest->written == guest->len) {
        size_t n = 0;
        enum stream_status status = stream_read(guest->stream, guest->piece, PIECE_BYTES, &n);
        if (status == STREAM_WAIT) {
            return;
        }
        if (status != STREAM_OK) {
            assert(status == STREAM_CLOSED);
            guest_leave(guest);
            return;
        }
        guest->len = n;
        guest->written = 0;
    }
    if (guest_write(guest)) {
        guest_pass_on(guest);
    }
}

static void worker_deliver(void *arg, struct mail *mail)
{
    struct worker *worker = arg;
    if (mail->kind == MAIL_STOP) {
        loop_stop(worker->loop);
        return;
    }
    struct guest *guest = (struct guest *)mail;
    assert(guest->worker == worker);
    stream_attach(guest->stream, worker->loop, (struct stream_handler){guest_ready, guest});
}

static void *worker_run(void *arg)
{
    struct worker *worker = arg;
    loop_run(worker->loop);
    return NULL;
}

// One stream on the client's side: sends a message, wants it back, and so on.
struct caller {
    struct party *party;
    struct stream *stream;
    bool open;
    unsigned seed;
    int rounds;
    uint8_t message[MESSAGE_BYTES];
    size_t len;
    size_t echoed;
};

struct party {
    struct loop *loop; // the callers'
    struct worker workers[2];
    struct tls_server *server_tls;
    struct tls_client *client_tls;
    struct listener *listener;
    struct caller callers[CALLERS];
    int talking;
};

static void party_accepted(void *arg, int fd)
{
    struct party *party = arg;
    struct guest *guest = calloc(1, sizeof *guest);
    assert(fd >= 0 && guest != NULL);
    guest->worker = &party->workers[0];
    guest->stream = stream_accept(guest->worker->loop, fd, party->server_tls, true,
                                  (struct stream_handler){guest_ready, guest});
}

static void caller_say(struct caller *caller)
{
    caller->len = 1 + (size_t)rand_r(&caller->seed) % MESSAGE_BYTES;
    caller->echoed = 0;
    for (size_t i = 0; i < caller->len; i++) {
        caller->message[i] = (uint8_t)rand_r(&caller->seed);
    }
    size_t n = 0;
    assert_int_equal(stream_write(caller->stream, caller->message, caller->len, &n), STREAM_OK);
    assert_int_equal(n, caller->len);
}

static void caller_hang_up(struct caller *caller)
{
    stream_free(caller->stream);
    if (--caller->party->talking == 0) {
        loop_stop(caller->party->loop);
    }
}

static void caller_hear(struct caller *caller)
{
    uint8_t bytes[MESSAGE_BYTES];
    size_t n = 0;
    enum stream_status status = stream_read(caller->stream, bytes, sizeof bytes, &n);
    if (status == STREAM_WAIT) {
        return;
    }
    assert_int_equal(status, STREAM_OK);
    assert_true(caller->echoed + n <= caller->len);
    assert_memory_equal(bytes, caller->message + caller->echoed, n);
    caller->echoed += n;
    if (caller->echoed < caller->len) {
        return;
    }
    if (++caller->rounds == ROUNDS) {
        caller_hang_up(caller);
    } else {
        caller_say(caller);
    }
}

static void caller_ready(void *arg, unsigned directions)
{
    (void)directions;
    struct caller *caller = arg;
    if (caller->open) {
        caller_hear(caller);
        return;
    }
    enum stream_status status = stream_handshake(caller->stream);
    if (status == STREAM_WAIT) {
        return;
    }
    assert_string_equal(stream_error(caller->stream), "");
    assert_int_equal(status, STREAM_OK);
    caller->open = true;
    stream_watch(caller->stream, STREAM_READ);
    caller_say(caller);
}

static void workers_begin(struct worker *workers)
{
    for (int i = 0; i < 2; i++) {
        workers[i] = (struct worker){.loop = loop_new(), .other = &workers[1 - i]};
        workers[i].mailbox = mailbox_new(workers[i].loop, worker_deliver, &workers[i]);
    }
}

static void party_begin(struct party *party)
{
    char error[256] = "";
    struct address address;
    const char *words;
    struct tls_client_options options = {.ca_file = certificates_path("ca.pem")};
    memset(party, 0, sizeof *party);
    party->loop = loop_new();
    workers_begin(party->workers);
    party->server_tls = tls_server_new(certificates_path("server.pem"), NULL, TLS_CLIENTS_NONE,
                                       error, sizeof error);
    party->client_tls = tls_client_new(&options, error, sizeof error);
    assert_string_equal(error, "");
    assert_int_equal(address_resolve("127.0.0.1", 0, &address, 1, &words), 1);
    party->listener =
        listener_open(party->workers[0].loop, &address, party_accepted, party, error, sizeof error);
    assert_string_equal(error, "");
    listener_address(party->listener, &address);
    for (unsigned i = 0; i < CALLERS; i++) {
        struct caller *caller = &party->callers[i];
        *caller = (struct caller){.party = party, .seed = i + 1};
        caller->stream =
            stream_connect(party->loop, &address, i % 2 == 0 ? party->client_tls : NULL,
                           "localhost", (struct stream_handler){caller_ready, caller});
    }
    party->talking = CALLERS;
    atomic_store(&guests_there, CALLERS);
}

static void party_end(struct party *party)
{
    listener_free(party->listener);
    for (int i = 0; i < 2; i++) {
        mailbox_free(party->workers[i].mailbox);
        loop_free(party->workers[i].loop);
    }
    loop_free(party->loop);
    tls_server_free(party->server_tls);
    tls_client_free(party->client_tls);
}

static void streams_are_handed_to_and_fro(void **state)
{
    (void)state;
    static struct party party;
    party_begin(&party);
    struct worker *workers = party.workers;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]), 0);
    }
    loop_run(party.loop);
    for (int i = 0; i < 2; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    print_message("%ld + %ld hand-overs\n", workers[0].handovers, workers[1].handovers);
    assert_true(workers[0].handovers > ROUNDS * CALLERS);
    assert_true(workers[1].handovers > ROUNDS * CALLERS);
    party_end(&party);
}

int main(void)
{
    alarm(300);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_handed_to_and_fro),
    };
    return cmocka_run_group_tests(tests, certificates_make, certificates_remove);
}
