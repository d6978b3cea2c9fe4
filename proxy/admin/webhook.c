// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/webhook.h"

#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/admin/outbox.h"
#include "proxy/control/clock.h"
#include "proxy/mem.h"

#define FIRST_PAUSE_US INT64_C(1000000)
#define END_US INT64_C(2000000)
enum { TRIES = 6, TIMEOUT_MS = 5000, REASON_BYTES = CURL_ERROR_SIZE + 32 };

struct webhook {
    struct outbox *outbox;
    CURL *easy; // the thread's own; NULL: nothing was sent yet
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
};

// --- the URL ------------------------------------------------------------------------------------

static bool is_here(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "127.0.0.1") == 0 ||
           strcmp(host, "[::1]") == 0;
}

// A part of it, to be freed by curl_free; NULL: there is none.
static char *part_of(CURLU *url, CURLUPart which)
{
    char *part = NULL;
    return curl_url_get(url, which, &part, 0) == CURLUE_OK ? part : NULL;
}

bool webhook_check(const char *url, char *ret_error, size_t capacity)
{
    CURLU *parsed = curl_url();
    CURLUcode code = curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
    char *scheme = part_of(parsed, CURLUPART_SCHEME);
    char *host = part_of(parsed, CURLUPART_HOST);
    bool good = code == CURLUE_OK && scheme && host;
    if (!good) {
        snprintf(ret_error, capacity, "must be a URL: %s", curl_url_strerror(code));
    } else if (strcmp(scheme, "https") != 0 && !(strcmp(scheme, "http") == 0 && is_here(host))) {
        snprintf(ret_error, capacity, "must be https://, or http:// on this machine");
        good = false;
    }
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(parsed);
    return good;
}

// --- sending ------------------------------------------------------------------------------------

static size_t drop(char *at, size_t size, size_t count, void *arg)
{
    (void)at;
    (void)arg;
    return size * count;
}

static bool is_over(const struct webhook *webhook)
{
    int64_t ending_us = outbox_ending_us(webhook->outbox);
    return ending_us > 0 && now_us() - ending_us > END_US;
}

// Not 0: it is to be given up.
static int look_up(void *arg, curl_off_t down, curl_off_t downed, curl_off_t up, curl_off_t upped)
{
    (void)down;
    (void)downed;
    (void)up;
    (void)upped;
    return is_over(arg);
}

enum sent { SENT, SENT_IN_VAIN, SENT_FOR_GOOD };

// What comes of an answer; SENT_FOR_GOOD: it is no use to try again.
static enum sent judge(long status, char ret_reason[REASON_BYTES])
{
    bool again = status == 408 || status == 429 || status >= 500;
    if (status >= 200 && status < 300) {
        return SENT;
    }
    snprintf(ret_reason, REASON_BYTES, "answered with %ld", status);
    return again ? SENT_IN_VAIN : SENT_FOR_GOOD;
}

static enum sent post(struct webhook *webhook, const char *json, char ret_reason[REASON_BYTES])
{
    long status = 0;
    webhook->error[0] = '\0';
    curl_easy_setopt(webhook->easy, CURLOPT_POSTFIELDS, json);
    CURLcode code = curl_easy_perform(webhook->easy);
    if (code == CURLE_OK) {
        curl_easy_getinfo(webhook->easy, CURLINFO_RESPONSE_CODE, &status);
        return judge(status, ret_reason);
    }
    snprintf(ret_reason, REASON_BYTES, "%s",
             webhook->error[0] ? webhook->error : curl_easy_strerror(code));
    bool untrusted = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
    return untrusted ? SENT_FOR_GOOD : SENT_IN_VAIN;
}

static void set_up(struct webhook *webhook, const struct outgoing *outgoing)
{
    webhook->easy = webhook->easy ? webhook->easy : curl_easy_init();
    CURL *easy = webhook->easy;
    curl_easy_reset(easy); // but for its connections
    curl_easy_setopt(easy, CURLOPT_URL, outgoing->to);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); // a name lookup that hangs is left behind
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, webhook->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "weir/" WEIR_VERSION);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, webhook->error);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, look_up);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, webhook);
    if (outgoing->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, outgoing->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
}

static void tell(void *arg, const struct outgoing *outgoing)
{
    struct webhook *webhook = arg;
    char reason[REASON_BYTES] = "weir is ending";
    enum sent sent = SENT_IN_VAIN;
    bool last = false;
    set_up(webhook, outgoing);
    for (int i = 0; !last && sent == SENT_IN_VAIN && !is_over(webhook); i++) {
        last = i + 1 == TRIES || outbox_ending_us(webhook->outbox) > 0;
        sent = post(webhook, outgoing->json, reason);
        if (!last && sent == SENT_IN_VAIN) {
            outbox_log("webhook_tries_again", outgoing->id, reason);
            outbox_pause(webhook->outbox, FIRST_PAUSE_US << i);
        }
    }
    bool good = sent == SENT;
    outbox_log(good ? "webhook_told" : "webhook_not_told", outgoing->id, good ? NULL : reason);
}

// --- life ---------------------------------------------------------------------------------------

struct webhook *webhook_new(void)
{
    struct webhook *webhook = xcalloc(1, sizeof *webhook);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    webhook->headers = curl_slist_append(NULL, "Content-Type: application/json");
    webhook->outbox = outbox_new("weir-webhook", tell, webhook);
    return webhook;
}

void webhook_tell(struct webhook *webhook, const char *url, const char *ca_file, const char *id,
                  const char *json)
{
    if (!outbox_add(webhook->outbox, url, ca_file, id, json)) {
        outbox_log("webhook_not_told", id, "too many wait");
    }
}

void webhook_free(struct webhook *webhook)
{
    if (webhook) {
        outbox_free(webhook->outbox);
        curl_easy_cleanup(webhook->easy);
        curl_slist_free_all(webhook->headers);
        free(webhook);
        curl_global_cleanup();
    }
}
