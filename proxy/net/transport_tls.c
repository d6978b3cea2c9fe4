// SPDX-License-Identifier: Apache-2.0
//
// TLS by OpenSSL over a socket.
//
//      stream_read <- SSL <- [ read-ahead: up to one record ] <- bio_read <- recv
//      stream_write -> SSL -> one record -> bio_write -> send
//
// The BIO is ours for three reasons: send without SIGPIPE, errno kept per connection, and no recv
// that can only say EAGAIN: after a read that got less than it asked for, the socket is taken to be
// drained until the stream is asked anew.

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/mem.h"
#include "proxy/net/errno_words.h"
#include "proxy/net/tls_context.h"
#include "proxy/net/transport.h"

static BIO_METHOD *bio_method;

static int bio_read(BIO *bio, char *at, int capacity)
{
    struct transport *transport = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (transport->sniffed_len > 0) {
        return (int)transport_take_sniffed(transport, at, (size_t)capacity);
    }
    ssize_t n = -1;
    errno = EAGAIN;
    if (!transport->drained) {
        do {
            n = recv(transport->fd, at, (size_t)capacity, 0);
        } while (n < 0 && errno == EINTR);
        transport->drained = n < capacity;
    }
    transport->io_errno = n >= 0 ? 0 : errno;
    if (n < 0 && errno == EAGAIN) {
        BIO_set_retry_read(bio);
    }
    return (int)n;
}

static int bio_write(BIO *bio, const char *at, int len)
{
    struct transport *transport = BIO_get_data(bio);
    ssize_t n;
    BIO_clear_retry_flags(bio);
    do {
        n = send(transport->fd, at, (size_t)len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    transport->io_errno = n >= 0 ? 0 : errno;
    if (n < 0 && errno == EAGAIN) {
        BIO_set_retry_write(bio);
    }
    return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static void bio_method_make(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weir socket");
    if (bio_method == NULL) {
        abort();
    }
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

static BIO *bio_new(struct transport *transport)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, bio_method_make);
    BIO *bio = mem_or_abort(BIO_new(bio_method), 1);
    BIO_set_data(bio, transport);
    BIO_set_init(bio, 1);
    return bio;
}

static void transport_tls_begin(struct transport *transport, SSL_CTX *context)
{
    BIO *bio = bio_new(transport);
    transport->ssl = mem_or_abort(SSL_new(context), 1);
    SSL_set_bio(transport->ssl, bio, bio);
    transport->kind = &transport_tls;
}

void transport_tls_accept(struct transport *transport, SSL_CTX *context)
{
    transport_tls_begin(transport, context);
    SSL_set_accept_state(transport->ssl);
}

static bool host_is_literal(const char *host)
{
    struct in6_addr ignored;
    return inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1;
}

static void transport_tls_verify_host(struct transport *transport, const char *host)
{
    transport->host = xstrdup(host);
    X509_VERIFY_PARAM *param = SSL_get0_param(transport->ssl);
    int ok = host_is_literal(host) ? X509_VERIFY_PARAM_set1_ip_asc(param, host)
                                   : X509_VERIFY_PARAM_set1_host(param, host, 0);
    // Without the check any certificate would do.
    if (ok != 1) {
        abort();
    }
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
}

void transport_tls_connect(struct transport *transport, struct tls_client *tls, const char *host)
{
    transport_tls_begin(transport, tls_client_context(tls));
    SSL_set_connect_state(transport->ssl);
    if (!host_is_literal(host)) {
        (void)SSL_set_tlsext_host_name(transport->ssl, host);
    }
    if (tls_client_checks_host(tls)) {
        transport_tls_verify_host(transport, host);
    }
}

static enum transport_status tls_fail_verify(struct transport *transport)
{
    long result = SSL_get_verify_result(transport->ssl);
    if (result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        return transport_fail(transport, "certificate is not for host %s", transport->host);
    }
    return transport_fail(transport, "certificate verify failed: %s",
                          X509_verify_cert_error_string(result));
}

// OpenSSL's words for an alert that came are "tlsv1 alert unknown ca".
static enum transport_status tls_fail_alert(struct transport *transport, int number,
                                            const char *words)
{
    static const char before[] = "alert ";
    const char *alert = words != NULL ? strstr(words, before) : NULL;
    if (alert == NULL) {
        return transport_fail(transport, "the peer refused: TLS alert %d", number);
    }
    return transport_fail(transport, "the peer refused: %s", alert + strlen(before));
}

// What OpenSSL's queue of errors says, in words for people where it has a better one.
static enum transport_status tls_fail_ssl(struct transport *transport)
{
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    const char *words = ERR_reason_error_string(error);
    if (ERR_GET_LIB(error) != ERR_LIB_SSL) {
        return transport_fail(transport, "TLS: %s", words != NULL ? words : "unknown error");
    }
    switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return tls_fail_verify(transport);
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_PACKET_LENGTH:
    case SSL_R_RECORD_LENGTH_MISMATCH:
        return transport_fail(transport, "the peer does not speak TLS");
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return transport_fail(transport, "the peer sent no certificate");
    default:
        if (reason > SSL_AD_REASON_OFFSET) {
            return tls_fail_alert(transport, reason - SSL_AD_REASON_OFFSET, words);
        }
        return transport_fail(transport, "TLS: %s", words != NULL ? words : "unknown error");
    }
}

static enum transport_status tls_end(struct transport *transport, enum transport_status how)
{
    transport->ended = how;
    return how;
}

// Why an SSL call returned `ret` <= 0.
static enum transport_status tls_stopped(struct transport *transport, int ret)
{
    switch (SSL_get_error(transport->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        return TRANSPORT_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TRANSPORT_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return tls_end(transport, TRANSPORT_CLOSED);
    case SSL_ERROR_SYSCALL:
        if (transport->io_errno == 0) {
            return tls_end(transport, TRANSPORT_CLOSED);
        }
        return tls_end(transport, transport_fail_errno(transport, transport->io_errno));
    default:
        tls_end(transport, tls_fail_ssl(transport));
        ERR_clear_error();
        return TRANSPORT_FAILED;
    }
}

// To be called before each SSL call: SSL_get_error looks at the whole queue. Looking is cheaper
// than clearing.
static void errors_forget(void)
{
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
}

enum transport_status transport_tls_handshake(struct transport *transport)
{
    if (transport->ended == TRANSPORT_FAILED) {
        return TRANSPORT_FAILED;
    }
    errors_forget();
    transport->drained = false;
    int ret = SSL_do_handshake(transport->ssl);
    if (ret == 1) {
        return TRANSPORT_DONE;
    }
    enum transport_status status = tls_stopped(transport, ret);
    if (status == TRANSPORT_CLOSED) {
        transport_fail(transport, "the peer closed the connection during the TLS handshake");
        return tls_end(transport, TRANSPORT_FAILED);
    }
    return status;
}

char *transport_tls_subject(const struct transport *transport)
{
    X509 *certificate = SSL_get1_peer_certificate(transport->ssl);
    BIO *text = BIO_new(BIO_s_mem());
    char *subject = NULL;
    char *at;
    if (certificate != NULL && text != NULL &&
        SSL_get_verify_mode(transport->ssl) != SSL_VERIFY_NONE &&
        SSL_get_verify_result(transport->ssl) == X509_V_OK &&
        X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0) {
        size_t len = (size_t)BIO_get_mem_data(text, &at);
        subject = xcalloc(len + 1, 1);
        memcpy(subject, at, len);
    }
    BIO_free(text);
    X509_free(certificate);
    ERR_clear_error();
    return subject;
}

static enum transport_status tls_read(struct transport *transport, uint8_t *at, size_t capacity,
                                      size_t *ret_len)
{
    if (transport->ended != TRANSPORT_DONE) {
        return transport->ended;
    }
    enum transport_status status = TRANSPORT_DONE;
    size_t len = 0;
    transport->drained = false;
    do {
        size_t n;
        errors_forget();
        int ret = SSL_read_ex(transport->ssl, at + len, capacity - len, &n);
        if (ret == 1) {
            len += n;
        } else {
            status = tls_stopped(transport, ret);
        }
    } while (status == TRANSPORT_DONE && len < capacity &&
             (!transport->drained || SSL_has_pending(transport->ssl)));
    if (len == 0) {
        return status;
    }
    *ret_len = len;
    return TRANSPORT_DONE;
}

static enum transport_status tls_write(struct transport *transport, const uint8_t *at, size_t len,
                                       size_t *ret_len)
{
    if (transport->ended == TRANSPORT_FAILED) {
        return TRANSPORT_FAILED;
    }
    assert(len >= transport->retry_len);
    enum transport_status status = TRANSPORT_DONE;
    size_t done = 0;
    transport->retry_len = 0;
    while (status == TRANSPORT_DONE && done < len) {
        size_t n;
        errors_forget();
        int ret = SSL_write_ex(transport->ssl, at + done, len - done, &n);
        if (ret == 1) {
            done += n;
        } else {
            status = tls_stopped(transport, ret);
        }
    }
    if (done < len) {
        size_t left = len - done;
        transport->retry_len = left < SSL3_RT_MAX_PLAIN_LENGTH ? left : SSL3_RT_MAX_PLAIN_LENGTH;
    }
    if (done == 0) {
        return status;
    }
    *ret_len = done;
    return TRANSPORT_DONE;
}

static bool tls_has_pending(const struct transport *transport)
{
    return transport->ended != TRANSPORT_DONE || SSL_has_pending(transport->ssl);
}

// What comes on an idle connection may be TLS's own (a session ticket, a key update), so only
// SSL_peek can tell.
static bool tls_is_quiet(struct transport *transport)
{
    if (transport->ended != TRANSPORT_DONE) {
        return false;
    }
    char byte;
    errors_forget();
    transport->drained = false;
    int ret = SSL_peek(transport->ssl, &byte, 1);
    return ret <= 0 && tls_stopped(transport, ret) == TRANSPORT_WANT_READ;
}

static void tls_close(struct transport *transport)
{
    errors_forget();
    if (transport->ended != TRANSPORT_FAILED && transport->retry_len == 0 &&
        SSL_is_init_finished(transport->ssl)) {
        (void)SSL_shutdown(transport->ssl);
    }
    ERR_clear_error();
    SSL_free(transport->ssl);
    free(transport->host);
}

const struct transport_kind transport_tls = {
    .read = tls_read,
    .write = tls_write,
    .has_pending = tls_has_pending,
    .is_quiet = tls_is_quiet,
    .close = tls_close,
};
