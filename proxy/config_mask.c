// SPDX-License-Identifier: Apache-2.0
//
// A URI without its secrets:
//
//     mongodb://app:s3cret@a:1,b:2/shop?authMechanismProperties=AWS_SESSION_TOKEN:x&tls=true
//     mongodb://app:***@a:1,b:2/shop?authMechanismProperties=***&tls=true
//
// It is shown to find mistakes, so it may be a URI that is wrong: a password with a / or an @ that
// was not escaped, an @ that should not have been. In doubt all of it is hidden.

#include "proxy/config.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const char hidden[] = "***";

struct output {
    char *text;
    size_t used;
    size_t size;
};

static void put(struct output *out, const char *text, size_t length)
{
    size_t room = out->size - out->used - 1;
    size_t n = length < room ? length : room;
    memcpy(out->text + out->used, text, n);
    out->used += n;
    out->text[out->used] = '\0';
}

// Looks at the value too: what stands there may be a second option that was not set apart.
static bool is_secret(const char *option, size_t length)
{
    static const char *const words[] = {"password", "authmechanismproperties", "token", "secret"};
    for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
        for (size_t i = 0; i + strlen(words[w]) <= length; i++) {
            if (strncasecmp(option + i, words[w], strlen(words[w])) == 0) {
                return true;
            }
        }
    }
    return memchr(option, '=', length) == NULL;
}

static void put_options(struct output *out, const char *options)
{
    while (*options != '\0') {
        put(out, options, 1);
        options++;
        size_t length = strcspn(options, "&");
        bool secret = length > 0 && is_secret(options, length);
        const char *equals = (const char *)memchr(options, '=', length);
        size_t name = equals != NULL ? (size_t)(equals + 1 - options) : 0;
        put(out, options, secret ? name : length);
        if (secret) {
            put(out, hidden, strlen(hidden));
        }
        options += length;
    }
}

// True for host, host:port, [::1]:port, and more of them after commas. What follows a colon and is
// no port may be a password.
static bool is_hosts(const char *text, const char *end)
{
    bool bracket = false;
    for (; text < end; text++) {
        if (*text == '[' || *text == ']') {
            bracket = *text == '[';
        }
        if (*text != ':' || bracket) {
            continue;
        }
        while (text + 1 < end && isdigit((unsigned char)text[1])) {
            text++;
        }
        if (text + 1 < end && text[1] != ',') {
            return false;
        }
    }
    return true;
}

void config_mask_uri(const char *uri, char *ret_masked, size_t size)
{
    struct output out = {.text = ret_masked, .size = size};
    const char *scheme = strstr(uri, "://");
    const char *authority = scheme != NULL ? scheme + 3 : uri;
    const char *path = authority + strcspn(authority, "/?");
    const char *options = path + strcspn(path, "?");
    const char *at = (const char *)memrchr(authority, '@', (size_t)(path - authority));
    const char *hosts = at != NULL ? at : authority;

    put(&out, uri, (size_t)(authority - uri));
    if (scheme == NULL || strchr(path, '@') != NULL || !is_hosts(hosts, path)) {
        put(&out, hidden, strlen(hidden));
        return;
    }
    size_t user = at != NULL ? strcspn(authority, ":@") : 0;
    put(&out, authority, user);
    if (at != NULL && authority[user] == ':') {
        put(&out, ":", 1);
        put(&out, hidden, strlen(hidden));
    }
    put(&out, hosts, (size_t)(options - hosts));
    put_options(&out, options);
}

void config_mask_url(const char *url, char *ret_masked, size_t size)
{
    struct output out = {.text = ret_masked, .size = size};
    const char *scheme = strstr(url, "://");
    const char *authority = scheme != NULL ? scheme + 3 : url;
    const char *path = authority + strcspn(authority, "/?#\\");
    bool plain = scheme != NULL && memchr(authority, '@', (size_t)(path - authority)) == NULL;
    put(&out, url, plain ? (size_t)(path - url) : 0);
    put(&out, plain ? "/" : "", plain);
    put(&out, hidden, strlen(hidden));
}
