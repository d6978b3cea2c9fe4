// SPDX-License-Identifier: Apache-2.0
//
// Who trusts whom, and what is said when they do not. The other side is a stream of ours, or
// OpenSSL's own client in a thread, blocking, where a stream does not do such things.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net/help_certificates.h"
#include "tests/net/help_ends.h"

static void files_that_will_not_do_are_said(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        const char *error;
    } cases[] = {
        {"nowhere.pem", "cannot be read: no such file or directory"},
        {".", "cannot be read: is a directory"},
        {"key.pem", "no certificate in it"},
        {"certificate.pem", "no private key in it"},
        {"mismatch.pem", "its private key does not belong to its certificate"},
        {"encrypted.pem", "its private key is encrypted, and no password is given"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = certificates_path(cases[i].file);
        char error[256] = "";
        char expected[256];
        snprintf(expected, sizeof expected, "%s: %s", path, cases[i].error);
        assert_null(tls_server_new(path, NULL, TLS_CLIENTS_NONE, error, sizeof error));
        assert_string_equal(error, expected);
    }
}

static void ca_files_that_will_not_do_are_said(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        const char *error;
    } cases[] = {
        {"nowhere.pem", "cannot be read: no such file or directory"},
        {"key.pem", "no certificate in it"},
    };
    const char *server = certificates_path("server.pem");
    char error[256] = "";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = certificates_path(cases[i].file);
        char expected[256];
        struct tls_client_options options = {.ca_file = path};
        snprintf(expected, sizeof expected, "%s: %s", path, cases[i].error);
        assert_null(tls_server_new(server, path, TLS_CLIENTS_OPTIONAL, error, sizeof error));
        assert_string_equal(error, expected);
        assert_null(tls_client_new(&options, error, sizeof error));
        assert_string_equal(error, expected);
    }
    assert_null(tls_server_new(server, NULL, TLS_CLIENTS_REQUIRED, error, sizeof error));
    assert_string_equal(error, "client certificates cannot be verified without a CA file");
}

static void password_opens_the_key(void **state)
{
    (void)state;
    const char *path = certificates_path("encrypted.pem");
    struct tls_client_options options = {
        .ca_file = certificates_path("ca.pem"),
        .certificate_key_file = path,
        .certificate_key_password = "secret",
    };
    char error[256] = "";
    char expected[256];
    struct tls_client *tls = tls_client_new(&options, error, sizeof error);
    assert_string_equal(error, "");
    tls_client_free(tls);
    options.certificate_key_password = "wrong";
    snprintf(expected, sizeof expected, "%s: the password does not open its private key", path);
    assert_null(tls_client_new(&options, error, sizeof error));
    assert_string_equal(error, expected);
}

static void system_authorities_are_the_default(void **state)
{
    (void)state;
    struct tls_client_options options = {0};
    char error[256] = "";
    struct tls_client *tls = tls_client_new(&options, error, sizeof error);
    assert_string_equal(error, "");
    tls_client_free(tls);
}

struct trust {
    const char *name;
    const char *server_file;
    enum tls_client_certificates clients;
    const char *host;
    struct tls_client_options options; // file names in the directory of certificates
    const char *client_error;          // NULL: it works
    const char *server_error;
};

static const struct trust trusts[] = {
    {"good", "server.pem", TLS_CLIENTS_NONE, "localhost", {.ca_file = "ca.pem"}, NULL, NULL},
    {"good address",
     "server.pem",
     TLS_CLIENTS_NONE,
     "127.0.0.1",
     {.ca_file = "ca.pem"},
     NULL,
     NULL},
    {"chain", "chained.pem", TLS_CLIENTS_NONE, "localhost", {.ca_file = "ca.pem"}, NULL, NULL},
    {"other CA",
     "server.pem",
     TLS_CLIENTS_NONE,
     "localhost",
     {.ca_file = "other_ca.pem"},
     "certificate verify failed: unable to get local issuer certificate",
     "the peer refused: unknown ca"},
    {"other CA, allowed",
     "server.pem",
     TLS_CLIENTS_NONE,
     "localhost",
     {.ca_file = "other_ca.pem", .allow_invalid_certificates = true},
     NULL,
     NULL},
    {"wrong host",
     "elsewhere.pem",
     TLS_CLIENTS_NONE,
     "localhost",
     {.ca_file = "ca.pem"},
     "certificate is not for host localhost",
     "the peer refused: bad certificate"},
    {"wrong address",
     "elsewhere.pem",
     TLS_CLIENTS_NONE,
     "127.0.0.1",
     {.ca_file = "ca.pem"},
     "certificate is not for host 127.0.0.1",
     "the peer refused: bad certificate"},
    {"wrong host, allowed",
     "elsewhere.pem",
     TLS_CLIENTS_NONE,
     "localhost",
     {.ca_file = "ca.pem", .allow_invalid_hostnames = true},
     NULL,
     NULL},
    {"wrong host, allowed, other CA",
     "elsewhere.pem",
     TLS_CLIENTS_NONE,
     "localhost",
     {.ca_file = "other_ca.pem", .allow_invalid_hostnames = true},
     "certificate verify failed: unable to get local issuer certificate",
     "the peer refused: unknown ca"},
    {"expired",
     "expired.pem",
     TLS_CLIENTS_NONE,
     "localhost",
     {.ca_file = "ca.pem"},
     "certificate verify failed: certificate has expired",
     "the peer refused: certificate expired"},
    {"client required, there",
     "server.pem",
     TLS_CLIENTS_REQUIRED,
     "localhost",
     {.ca_file = "ca.pem", .certificate_key_file = "client.pem"},
     NULL,
     NULL},
    {"client required, missing",
     "server.pem",
     TLS_CLIENTS_REQUIRED,
     "localhost",
     {.ca_file = "ca.pem"},
     "the peer refused: certificate required",
     "the peer sent no certificate"},
    {"client required, a stranger",
     "server.pem",
     TLS_CLIENTS_REQUIRED,
     "localhost",
     {.ca_file = "ca.pem", .certificate_key_file = "stranger.pem"},
     "the peer refused: unknown ca",
     "certificate verify failed: unable to get local issuer certificate"},
    {"client optional, there",
     "server.pem",
     TLS_CLIENTS_OPTIONAL,
     "localhost",
     {.ca_file = "ca.pem", .certificate_key_file = "client.pem"},
     NULL,
     NULL},
    {"client optional, missing",
     "server.pem",
     TLS_CLIENTS_OPTIONAL,
     "localhost",
     {.ca_file = "ca.pem"},
     NULL,
     NULL},
    {"client optional, a stranger",
     "server.pem",
     TLS_CLIENTS_OPTIONAL,
     "localhost",
     {.ca_file = "ca.pem", .certificate_key_file = "stranger.pem"},
     "the peer refused: unknown ca",
     "certificate verify failed: unable to get local issuer certificate"},
};

static const char *file_path(const char *name)
{
    return name != NULL ? certificates_path(name) : NULL;
}

static void meeting_use(struct meeting *meeting, const struct trust *trust)
{
    char error[256] = "";
    struct tls_client_options options = trust->options;
    options.ca_file = file_path(options.ca_file);
    options.certificate_key_file = file_path(options.certificate_key_file);
    tls_server_free(meeting->server_tls);
    tls_client_free(meeting->client_tls);
    meeting->server_tls =
        tls_server_new(certificates_path(trust->server_file), certificates_path("ca.pem"),
                       trust->clients, error, sizeof error);
    meeting->client_tls = tls_client_new(&options, error, sizeof error);
    assert_string_equal(error, "");
}

static void trust_is_kept(void **state)
{
    const struct trust *trust = *state;
    struct meeting meeting;
    meeting_init(&meeting, MEETING_TLS);
    meeting_use(&meeting, trust);
    end_expect(&meeting.server, 4);
    end_expect(&meeting.client, 4);
    end_send(&meeting.client, "ping", 4);
    end_send(&meeting.server, "pong", 4);
    meeting_connect(&meeting, trust->host);
    if (trust->client_error == NULL) {
        meeting_run(&meeting, meeting_has_all);
        assert_memory_equal(meeting.client.in, "pong", 4);
    } else {
        meeting_run(&meeting, meeting_is_over_twice);
        assert_string_equal(meeting.client.error, trust->client_error);
        assert_string_equal(meeting.server.error, trust->server_error);
        assert_int_equal(meeting.server.received, 0);
        assert_int_equal(meeting.client.received, 0);
        uint8_t byte;
        size_t n;
        assert_int_equal(stream_read(meeting.server.stream, &byte, 1, &n), STREAM_FAILED);
        assert_int_equal(stream_write(meeting.server.stream, &byte, 1, &n), STREAM_FAILED);
    }
    meeting_fini(&meeting);
}

static bool server_is_over(const struct meeting *meeting)
{
    return meeting->server.status != STREAM_OK;
}

static bool client_is_over(const struct meeting *meeting)
{
    return meeting->client.status != STREAM_OK;
}

static void plain_words_on_a_tls_port(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00", 16},
        {"\x16\x03\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00", 16},
        {"\x16\x03\x01GET / HTTP/1.1", 17},
        {"", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct meeting meeting;
        meeting_init(&meeting, MEETING_TLS);
        int fd = meeting_connect_raw(&meeting);
        assert_int_equal(send(fd, cases[i].bytes, cases[i].len, 0), cases[i].len);
        meeting_run(&meeting, server_is_over);
        assert_int_equal(meeting.server.status, STREAM_FAILED);
        assert_string_equal(meeting.server.error, "the peer does not speak TLS");
        close(fd);
        meeting_fini(&meeting);
    }
}

// The server is a bare socket that answers the client's hello as a plain one would.
static void tls_at_a_plain_server(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\x29\x01\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00\xdd\x07\x00\x00 and so on",
        "",
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct meeting meeting;
        struct address address;
        const char *words;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(address_resolve("127.0.0.1", 0, &address, 1, &words), 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&address.storage, address.len), 0);
        assert_int_equal(listen(fd, 1), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address.storage, &address.len), 0);
        meeting_init(&meeting, MEETING_TLS);
        meeting_connect_to(&meeting, &address);
        meeting_rest(&meeting, 5000);
        int peer = accept(fd, NULL, NULL);
        char hello[4096];
        assert_true(recv(peer, hello, sizeof hello, 0) > 0);
        size_t len = i == 1 ? 26 : strlen(answers[i]);
        if (len > 0) {
            assert_int_equal(send(peer, answers[i], len, 0), len);
        } else {
            close(peer);
        }
        meeting_run(&meeting, client_is_over);
        assert_int_equal(meeting.client.status, STREAM_FAILED);
        assert_string_equal(meeting.client.error,
                            len > 0 ? "the peer does not speak TLS"
                                    : "the peer closed the connection during the TLS handshake");
        if (len > 0) {
            close(peer);
        }
        close(fd);
        meeting_fini(&meeting);
    }
}

static bool server_was_called(const struct meeting *meeting)
{
    return meeting->server.calls > 0;
}

static void peer_leaves_in_the_handshake(void **state)
{
    (void)state;
    for (int resets = 0; resets < 2; resets++) {
        struct meeting meeting;
        meeting_init(&meeting, MEETING_TLS);
        int fd = meeting_connect_raw(&meeting);
        assert_int_equal(send(fd, "\x16\x03\x01\x02\x00\x01\x00", 7, 0), 7);
        meeting_run(&meeting, server_was_called);
        assert_int_equal(meeting.server.status, STREAM_OK);
        struct linger linger = {.l_onoff = resets, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        close(fd);
        meeting_run(&meeting, server_is_over);
        assert_int_equal(meeting.server.status, STREAM_FAILED);
        assert_string_equal(meeting.server.error,
                            resets ? "connection reset by peer"
                                   : "the peer closed the connection during the TLS handshake");
        meeting_fini(&meeting);
    }
}

// OpenSSL's own client, in a thread.
struct guest {
    struct address address;
    void (*visit)(struct guest *guest, SSL *ssl);
    int min_version;
    int max_version;
    const char *certificate_key_file;
    SSL_SESSION *session; // to resume; the new one afterwards
    bool connected;
    bool resumed;
    int result;
    char answer[64];
    int answer_len;
    sem_t said; // posted when the visitor has said what it has to say
    pthread_t thread;
};

static int guest_keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct guest *guest = SSL_get_app_data(ssl);
    SSL_SESSION_free(guest->session);
    guest->session = session;
    return 1;
}

static SSL_CTX *guest_context(const struct guest *guest)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, guest->min_version);
    SSL_CTX_set_max_proto_version(context, guest->max_version);
    SSL_CTX_set_security_level(context, 0);
    if (guest->certificate_key_file != NULL) {
        SSL_CTX_use_certificate_file(context, guest->certificate_key_file, SSL_FILETYPE_PEM);
        SSL_CTX_use_PrivateKey_file(context, guest->certificate_key_file, SSL_FILETYPE_PEM);
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, guest_keep_session);
    return context;
}

static void *guest_run(void *arg)
{
    struct guest *guest = arg;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SSL_CTX *context = guest_context(guest);
    SSL *ssl = SSL_new(context);
    SSL_set_app_data(ssl, (void *)guest);
    if (guest->session != NULL) {
        SSL_set_session(ssl, guest->session);
    }
    if (connect(fd, (struct sockaddr *)&guest->address.storage, guest->address.len) == 0 &&
        SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1) {
        guest->connected = true;
        guest->resumed = SSL_session_reused(ssl);
        guest->visit(guest, ssl);
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    return NULL;
}

static void guest_begin(struct guest *guest, const struct meeting *meeting)
{
    listener_address(meeting->listener, &guest->address);
    sem_init(&guest->said, 0, 0);
    assert_int_equal(pthread_create(&guest->thread, NULL, guest_run, guest), 0);
}

static void guest_end(struct guest *guest)
{
    pthread_join(guest->thread, NULL);
}

// A guest comes to a new meeting, until done.
static void guest_visits(struct guest *guest, struct meeting *meeting, size_t question_len,
                         bool (*done)(const struct meeting *meeting))
{
    meeting_init(meeting, MEETING_TLS);
    end_expect(&meeting->server, question_len);
    guest_begin(guest, meeting);
    meeting_run(meeting, done);
    guest_end(guest);
}

static void guest_read_answer(struct guest *guest, SSL *ssl)
{
    guest->answer_len = SSL_read(ssl, guest->answer, sizeof guest->answer - 1);
}

// Says goodbye and waits for an answer: the server's other half is still open.
static void visit_half_close(struct guest *guest, SSL *ssl)
{
    SSL_write(ssl, "question", 8);
    guest->result = SSL_shutdown(ssl);
    sem_post(&guest->said);
    guest_read_answer(guest, ssl);
}

static bool server_is_open(const struct meeting *meeting)
{
    return meeting->server.open;
}

// The question and the goodbye are read in one piece, and the socket stays quiet from then on.
static void goodbye_leaves_the_other_half(void **state)
{
    (void)state;
    struct meeting meeting;
    struct guest guest = {.visit = visit_half_close};
    meeting_init(&meeting, MEETING_TLS);
    meeting.server.late_reader = true;
    end_expect(&meeting.server, 8);
    guest_begin(&guest, &meeting);
    meeting_run(&meeting, server_is_open);
    sem_wait(&guest.said);
    meeting_run(&meeting, meeting_is_over);
    assert_int_equal(meeting.server.status, STREAM_CLOSED);
    assert_int_equal(meeting.server.received, 8);
    size_t n;
    assert_int_equal(stream_write(meeting.server.stream, (const uint8_t *)"answer", 6, &n),
                     STREAM_OK);
    guest_end(&guest);
    assert_int_equal(guest.result, 0);
    assert_string_equal(guest.answer, "answer");
    SSL_SESSION_free(guest.session);
    meeting_fini(&meeting);
}

static void visit_and_vanish(struct guest *guest, SSL *ssl)
{
    (void)guest;
    SSL_write(ssl, "question", 8);
    SSL_set_quiet_shutdown(ssl, 1);
}

static void end_without_goodbye_is_an_end(void **state)
{
    (void)state;
    struct meeting meeting;
    struct guest guest = {.visit = visit_and_vanish, .max_version = TLS1_2_VERSION};
    guest_visits(&guest, &meeting, 8, meeting_is_over);
    assert_true(guest.connected);
    assert_int_equal(meeting.server.status, STREAM_CLOSED);
    assert_int_equal(meeting.server.received, 8);
    SSL_SESSION_free(guest.session);
    meeting_fini(&meeting);
}

static void old_versions_are_refused(void **state)
{
    (void)state;
    struct meeting meeting;
    struct guest guest = {.min_version = TLS1_1_VERSION, .max_version = TLS1_1_VERSION};
    guest_visits(&guest, &meeting, 0, server_is_over);
    assert_false(guest.connected);
    assert_string_equal(meeting.server.error, "TLS: unsupported protocol");
    meeting_fini(&meeting);
}

static void visit_renegotiate(struct guest *guest, SSL *ssl)
{
    SSL_write(ssl, "before", 6);
    SSL_renegotiate(ssl);
    guest->result = SSL_do_handshake(ssl);
}

static void renegotiation_is_refused(void **state)
{
    (void)state;
    struct meeting meeting;
    struct guest guest = {.visit = visit_renegotiate, .max_version = TLS1_2_VERSION};
    guest_visits(&guest, &meeting, 6, meeting_is_over);
    assert_true(guest.connected);
    assert_true(guest.result <= 0);
    assert_int_equal(meeting.server.received, 6);
    SSL_SESSION_free(guest.session);
    meeting_fini(&meeting);
}

static void visit_update_keys(struct guest *guest, SSL *ssl)
{
    SSL_write(ssl, "old", 3);
    SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
    guest->result = SSL_write(ssl, "new", 3);
    guest_read_answer(guest, ssl);
}

static void keys_are_updated_in_passing(void **state)
{
    (void)state;
    struct meeting meeting;
    struct guest guest = {.visit = visit_update_keys, .min_version = TLS1_3_VERSION};
    meeting_init(&meeting, MEETING_TLS);
    end_expect(&meeting.server, 6);
    meeting.client.out_len = 6; // what the server is to receive
    guest_begin(&guest, &meeting);
    meeting_run(&meeting, meeting_has_all);
    size_t n;
    assert_memory_equal(meeting.server.in, "oldnew", 6);
    assert_int_equal(stream_write(meeting.server.stream, (const uint8_t *)"answer", 6, &n),
                     STREAM_OK);
    guest_end(&guest);
    assert_string_equal(guest.answer, "answer");
    SSL_SESSION_free(guest.session);
    meeting_fini(&meeting);
}

static void visit_ask(struct guest *guest, SSL *ssl)
{
    SSL_write(ssl, "question", 8);
    guest_read_answer(guest, ssl);
    SSL_shutdown(ssl);
}

// The server forgets, the ticket remembers.
static void sessions_are_resumed_by_ticket(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < 2; i++) {
        struct guest guest = {.visit = visit_ask,
                              .certificate_key_file = certificates_path("client.pem"),
                              .min_version = versions[i],
                              .max_version = versions[i]};
        struct meeting meeting;
        meeting_init(&meeting, MEETING_TLS);
        meeting_use(&meeting, *state);
        for (int visit = 0; visit < 2; visit++) {
            meeting.server = (struct end){.in = meeting.server.in};
            end_expect(&meeting.server, 8);
            end_send(&meeting.server, "answer", 6);
            guest_begin(&guest, &meeting);
            meeting_run(&meeting, meeting_is_over);
            guest_end(&guest);
            assert_true(guest.connected);
            assert_int_equal(guest.resumed, visit == 1);
            assert_int_equal(guest.answer_len, 6);
            end_free_stream(&meeting.server);
        }
        SSL_SESSION_free(guest.session);
        meeting_fini(&meeting);
    }
}

// As when the configuration is read anew.
static void streams_outlive_their_settings(void **state)
{
    (void)state;
    struct meeting meeting;
    meeting_init(&meeting, MEETING_TLS);
    meeting_connect(&meeting, "localhost");
    tls_client_free(meeting.client_tls);
    meeting.client_tls = NULL;
    meeting_rest(&meeting, 1000);
    tls_server_free(meeting.server_tls);
    meeting.server_tls = NULL;
    meeting_run(&meeting, meeting_is_open);
    meeting_fini(&meeting);
}

enum { TRUSTS = sizeof trusts / sizeof trusts[0], REQUIRED_AND_THERE = 10 };

int main(void)
{
    alarm(300);
    static char names[TRUSTS][64];
    struct CMUnitTest tests[TRUSTS + 16] = {
        cmocka_unit_test(files_that_will_not_do_are_said),
        cmocka_unit_test(ca_files_that_will_not_do_are_said),
        cmocka_unit_test(password_opens_the_key),
        cmocka_unit_test(system_authorities_are_the_default),
        cmocka_unit_test(plain_words_on_a_tls_port),
        cmocka_unit_test(tls_at_a_plain_server),
        cmocka_unit_test(peer_leaves_in_the_handshake),
        cmocka_unit_test(goodbye_leaves_the_other_half),
        cmocka_unit_test(end_without_goodbye_is_an_end),
        cmocka_unit_test(old_versions_are_refused),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(keys_are_updated_in_passing),
        cmocka_unit_test(streams_outlive_their_settings),
        cmocka_unit_test_prestate(sessions_are_resumed_by_ticket, (void *)&trusts[0]),
        cmocka_unit_test_prestate(sessions_are_resumed_by_ticket,
                                  (void *)&trusts[REQUIRED_AND_THERE]),
    };
    size_t count = 15;
    for (size_t i = 0; i < TRUSTS; i++) {
        snprintf(names[i], sizeof names[i], "trust: %s", trusts[i].name);
        tests[count++] =
            (struct CMUnitTest){names[i], trust_is_kept, NULL, NULL, (void *)&trusts[i]};
    }
    return _cmocka_run_group_tests("tls", tests, count, certificates_make, certificates_remove);
}
