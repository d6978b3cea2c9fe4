// SPDX-License-Identifier: Apache-2.0
//
// Apps' authentication at weir: auth.h, weir's own towards a server, plays the app, and messages
// made by hand whoever is none.

#include "proxy/login.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/auth.h"

// Of the password "pencil"; RFC 7677's example for SHA-256 has the same salt and iterations.
#define KEYS_256                                                                                   \
    "4096:W22ZaJ0SNY7soEsUEjb6gQ==:WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                  \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static struct config_field app_fields[] = {
    {"name", "user", 1},
    {"scramSha256", KEYS_256, 2},
    {"may", "read", 3},
    {"databases", "shop", 4},
};
static struct config_field certified_fields[] = {
    {"name", "CN=app,O=shop", 5},
    {"db", "$external", 6},
};
static struct config_entry entries[] = {{app_fields, 4, 1}, {certified_fields, 2, 5}};

static struct users *users;
static struct users *later; // from the second message on; NULL: the same
static struct logins *logins;
static struct key_cache *keys;

static struct logins *make_logins(uint8_t secret)
{
    uint8_t bytes[LOGIN_SECRET_BYTES] = {secret};
    return logins_new(users, bytes);
}

static struct users *make_users(struct config_entry *of, size_t count)
{
    char error[256];
    const struct config config = {.users = {of, count}, .file = "test.yaml"};
    struct users *made = users_new(&config, users, error, sizeof error);
    assert_non_null(made);
    return made;
}

static int set_up(void **state)
{
    (void)state;
    users = make_users(entries, 2);
    logins = make_logins(7);
    keys = key_cache_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    key_cache_free(keys);
    logins_free(logins);
    users_drop(users);
    return 0;
}

static struct bytes text(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

static struct bytes view(const bson_t *document)
{
    return (struct bytes){bson_get_data(document), document->len};
}

// What became of it, and what was said on the way.
struct talk {
    enum login_status status;
    int replies;
    struct user *user;
    char first[512]; // the server's first message
    char why[128];
};

static void keep_first(const bson_t *reply, struct talk *talk)
{
    bson_iter_t iter;
    uint32_t len;
    const uint8_t *at;
    if (talk->replies == 0 && bson_iter_init_find(&iter, reply, "payload")) {
        bson_iter_binary(&iter, NULL, &len, &at);
        snprintf(talk->first, sizeof talk->first, "%.*s", (int)len, (const char *)at);
    }
    talk->replies++;
}

static enum auth_status answer(struct auth *auth, const bson_t *reply, bson_t *command)
{
    enum auth_status status = auth_continue(auth, reply, command);
    if (status == AUTH_DERIVE) {
        auth_derive(auth);
        status = auth_continue(auth, NULL, command);
    }
    return status;
}

static struct talk talk_with(struct logins *with, struct credential *credential)
{
    struct talk talk = {0};
    bson_t hello = BSON_INITIALIZER, command;
    struct auth *auth = auth_new(credential, keys);
    struct login *login = NULL;
    enum auth_status asked = auth_begin(auth, &hello, &command);
    while (asked == AUTH_SEND) {
        bson_t reply = BSON_INITIALIZER;
        bool starts = bson_has_field(&command, "saslStart");
        if (later && !starts) {
            login_follow(login, later);
        }
        talk.status =
            starts ? login_start(with, view(&command), text(credential->source), &login, &reply)
                   : login_continue(login, view(&command), &reply);
        bson_destroy(&command);
        bool goes_on = talk.status == LOGIN_GOES_ON || talk.status == LOGIN_DONE;
        if (goes_on) {
            keep_first(&reply, &talk);
        }
        asked = goes_on ? answer(auth, &reply, &command) : AUTH_FAILED;
        assert_false(talk.status == LOGIN_DONE && asked != AUTH_DONE);
        bson_destroy(&reply);
    }
    if (login) {
        talk.user = talk.status == LOGIN_DONE ? login_user(login) : NULL;
        snprintf(talk.why, sizeof talk.why, "%s", login_why(login));
    }
    login_free(login);
    auth_free(auth);
    bson_destroy(&hello);
    return talk;
}

static struct talk try_password(const char *name, const char *password, const char *mechanism)
{
    struct credential credential = {
        .mechanism = (char *)mechanism,
        .username = (char *)name,
        .password = (char *)password,
        .source = "admin",
    };
    // The client caches its keys by salt and iterations, as one user's.
    key_cache_free(keys);
    keys = key_cache_new();
    return talk_with(logins, &credential);
}

static void the_right_password_is_let_in(void **state)
{
    (void)state;
    struct talk talk = try_password("user", "pencil", "SCRAM-SHA-256");
    assert_int_equal(talk.status, LOGIN_DONE);
    assert_string_equal(talk.user->spec.name, "user");
}

static void a_wrong_one_is_not(void **state)
{
    (void)state;
    struct talk talk = try_password("user", "pencils", "SCRAM-SHA-256");
    assert_int_equal(talk.status, LOGIN_REFUSED);
    assert_null(talk.user);
    assert_string_equal(talk.why, "wrong password, or replayed proof");
}

static void users_may_change_meanwhile(void **state)
{
    (void)state;
    later = make_users(entries, 2);
    struct talk talk = try_password("user", "pencil", "SCRAM-SHA-256");
    assert_int_equal(talk.status, LOGIN_DONE);
    assert_ptr_equal(talk.user, users_find(later, text("admin"), text("user")));
    assert_int_equal(try_password("user", "pencils", "SCRAM-SHA-256").status, LOGIN_REFUSED);
    users_drop(later);
    later = make_users(entries + 1, 1);
    assert_int_equal(try_password("user", "pencil", "SCRAM-SHA-256").status, LOGIN_REFUSED);
    users_drop(later);
    later = NULL;
}

// The server's first message without what is different each time.
static const char *salt_and_iterations(const struct talk *talk)
{
    const char *at = strstr(talk->first, ",s=");
    assert_non_null(at);
    return at;
}

static void who_does_not_exist_is_told_the_same(void **state)
{
    (void)state;
    struct talk right = try_password("user", "pencils", "SCRAM-SHA-256");
    struct talk nobody = try_password("nobody", "pencil", "SCRAM-SHA-256");
    struct talk again = try_password("nobody", "other", "SCRAM-SHA-256");
    struct talk other = try_password("somebody", "pencil", "SCRAM-SHA-256");
    assert_int_equal(nobody.status, LOGIN_REFUSED);
    assert_int_equal(nobody.replies, right.replies);
    assert_int_equal(strlen(nobody.first) - strlen("nobody"),
                     strlen(right.first) - strlen("nobody"));
    assert_string_equal(salt_and_iterations(&nobody), salt_and_iterations(&again));
    assert_string_not_equal(salt_and_iterations(&nobody), salt_and_iterations(&other));
    assert_string_equal(strstr(salt_and_iterations(&nobody), ",i="), ",i=4096");
}

static void the_salt_of_nobody_comes_from_the_secret(void **state)
{
    (void)state;
    struct talk here = try_password("nobody", "pencil", "SCRAM-SHA-256");
    struct logins *former = logins;
    logins = make_logins(8);
    struct talk elsewhere = try_password("nobody", "pencil", "SCRAM-SHA-256");
    logins_free(logins);
    logins = former;
    assert_string_not_equal(salt_and_iterations(&here), salt_and_iterations(&elsewhere));
}

static void a_mechanism_the_user_has_no_keys_for_ends_alike(void **state)
{
    (void)state;
    struct talk talk = try_password("user", "pencil", "SCRAM-SHA-1");
    assert_int_equal(talk.status, LOGIN_REFUSED);
    assert_int_equal(talk.replies, 1);
}

// --- by hand ------------------------------------------------------------------------------------

static bson_t *sasl_start(const char *mechanism, const char *payload, size_t len)
{
    bson_t *command = bson_new();
    BSON_APPEND_INT32(command, "saslStart", 1);
    BSON_APPEND_UTF8(command, "mechanism", mechanism);
    BSON_APPEND_BINARY(command, "payload", BSON_SUBTYPE_BINARY, (const uint8_t *)payload,
                       (uint32_t)len);
    return command;
}

static bson_t *sasl_continue(int id, const char *payload)
{
    bson_t *command = bson_new();
    BSON_APPEND_INT32(command, "saslContinue", 1);
    BSON_APPEND_INT32(command, "conversationId", id);
    BSON_APPEND_BINARY(command, "payload", BSON_SUBTYPE_BINARY, (const uint8_t *)payload,
                       (uint32_t)strlen(payload));
    return command;
}

static enum login_status start_with(const char *mechanism, const char *payload, size_t len,
                                    struct login **login)
{
    bson_t reply = BSON_INITIALIZER;
    bson_t *command = sasl_start(mechanism, payload, len);
    enum login_status status = login_start(logins, view(command), text("admin"), login, &reply);
    assert_true(status == LOGIN_GOES_ON || bson_empty(&reply));
    bson_destroy(command);
    bson_destroy(&reply);
    return status;
}

static enum login_status continue_with(struct login *login, int id, const char *payload)
{
    bson_t reply = BSON_INITIALIZER;
    bson_t *command = sasl_continue(id, payload);
    enum login_status status = login_continue(login, view(command), &reply);
    bson_destroy(command);
    bson_destroy(&reply);
    return status;
}

static void what_is_no_first_message_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        size_t len;
    } firsts[] = {
        {"", 0},
        {"n,,", 3},
        {"n,,n=,r=abc", 11},
        {"n,,r=abc,n=user", 15},
        {"p=tls-unique,,n=user,r=abc", 26},
        {"n,a=other,n=user,r=abc", 22},
        {"n,,m=x,n=user,r=abc", 19},
        {"n,,n=us\0er,r=abc", 16},
    };
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        struct login *login;
        enum login_status status =
            start_with("SCRAM-SHA-256", firsts[i].payload, firsts[i].len, &login);
        login_free(login);
        if (status != LOGIN_REFUSED) {
            fail_msg("%s is taken for one", firsts[i].payload);
        }
    }
}

static void mechanisms_that_weir_does_not_have(void **state)
{
    (void)state;
    static const char *const names[] = {"PLAIN", "", "SCRAM-SHA-256-PLUS", "MONGODB-CR", "GSSAPI"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct login *login;
        assert_int_equal(start_with(names[i], "n,,n=user,r=abc", 15, &login), LOGIN_NO_MECHANISM);
        login_free(login);
    }
}

static void nothing_goes_on_out_of_place(void **state)
{
    (void)state;
    struct login *login;
    assert_int_equal(continue_with(NULL, 1, "c=biws"), LOGIN_OUT_OF_PLACE);
    assert_int_equal(start_with("SCRAM-SHA-256", "n,,n=user,r=abc", 15, &login), LOGIN_GOES_ON);
    assert_int_equal(continue_with(login, 2, "c=biws"), LOGIN_OUT_OF_PLACE);
    assert_int_equal(continue_with(login, 1, "c=biws,r=abc,p=AAAA"), LOGIN_REFUSED);
    // It is over, whatever comes.
    assert_int_equal(continue_with(login, 1, ""), LOGIN_REFUSED);
    login_free(login);
}

static void certificates_are_users_by_their_subject(void **state)
{
    (void)state;
    static const struct {
        const char *subject;
        const char *named; // NULL: no name is sent
        enum login_status status;
    } cases[] = {
        {"CN=app,O=shop", NULL, LOGIN_DONE},
        {"CN=app,O=shop", "CN=app,O=shop", LOGIN_DONE},
        {"CN=app,O=shop", "CN=other", LOGIN_REFUSED},
        {"CN=other", NULL, LOGIN_REFUSED},
        {"CN=other", "CN=app,O=shop", LOGIN_REFUSED},
        {NULL, "CN=app,O=shop", LOGIN_REFUSED},
        {NULL, NULL, LOGIN_REFUSED},
        {"user", NULL, LOGIN_REFUSED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bson_t command = BSON_INITIALIZER, reply = BSON_INITIALIZER;
        struct login *login;
        BSON_APPEND_INT32(&command, "authenticate", 1);
        BSON_APPEND_UTF8(&command, "mechanism", "MONGODB-X509");
        if (cases[i].named) {
            BSON_APPEND_UTF8(&command, "user", cases[i].named);
        }
        enum login_status status =
            login_by_certificate(logins, view(&command), cases[i].subject, &login, &reply);
        assert_int_equal(status, cases[i].status);
        login_free(login);
        bson_destroy(&command);
        bson_destroy(&reply);
    }
}

static void mechanisms_are_listed_for_everybody(void **state)
{
    (void)state;
    static const char *const names[] = {"admin.user", "admin.nobody", "other.user", "x."};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bson_t hello = BSON_INITIALIZER;
        logins_append_mechanisms(logins, text(names[i]), &hello);
        char *json = bson_as_relaxed_extended_json(&hello, NULL);
        assert_string_equal(json, "{ \"saslSupportedMechs\" : [ \"SCRAM-SHA-256\" ] }");
        bson_free(json);
        bson_destroy(&hello);
    }
}

// --- users in the file --------------------------------------------------------------------------

static void what_is_wrong_with_a_user_is_said(void **state)
{
    (void)state;
    static const struct {
        struct config_field fields[4];
        size_t count;
        const char *error;
    } cases[] = {
        {{{"db", "admin", 3}}, 1, "test.yaml:9: users, the 1. one: name: missing"},
        {{{"nam", "x", 3}},
         1,
         "test.yaml:3: users, the 1. one: nam: unknown field, did you mean name?"},
        {{{"name", "x", 3}},
         1,
         "test.yaml:9: users, the 1. one: scramSha256: missing, or scramSha1, or db: $external"},
        {{{"name", "x", 3}, {"scramSha256", "1:2:3", 4}},
         2,
         "test.yaml:9: users, the 1. one: scramSha256: must be "
         "iterations:salt:storedKey:serverKey, as weir user add makes them"},
        {{{"name", "x", 3}, {"scramSha256", KEYS_256, 4}, {"may", "read", 5}},
         3,
         "test.yaml:9: users, the 1. one: may: needs databases"},
        {{{"name", "x", 3}, {"scramSha256", KEYS_256, 4}, {"may", "reed", 5}},
         3,
         "test.yaml:9: users, the 1. one: may reed: must be of read, write, admin"},
        {{{"name", "x", 3}, {"scramSha256", KEYS_256, 4}, {"identity", "boss", 5}},
         3,
         "test.yaml:9: users, the 1. one: identity: no entry of identities has that name"},
        {{{"name", "x", 3}, {"scramSha256", KEYS_256, 4}, {"databases", "a*b", 5}},
         3,
         "test.yaml:9: users, the 1. one: databases: a * may only be the end of a name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_entry entry = {(struct config_field *)cases[i].fields, cases[i].count, 9};
        const struct config config = {.users = {&entry, 1}, .file = "test.yaml"};
        char error[256];
        assert_null(users_new(&config, NULL, error, sizeof error));
        assert_string_equal(error, cases[i].error);
    }
}

static void a_user_is_there_once(void **state)
{
    (void)state;
    struct config_entry twice[] = {{app_fields, 4, 1}, {app_fields, 4, 8}};
    const struct config config = {.users = {twice, 2}, .file = "test.yaml"};
    char error[256];
    assert_null(users_new(&config, NULL, error, sizeof error));
    assert_string_equal(error,
                        "test.yaml:8: users, the 2. one: name: there is one of that name and db");
}

static void sessions_of_two_users_are_two(void **state)
{
    (void)state;
    uint8_t one[16] = {1}, same[16] = {1}, two[16] = {2}, others[16] = {1};
    struct user *user = users_find(users, text("admin"), text("user"));
    struct user *other = users_find(users, text("$external"), text("CN=app,O=shop"));
    user_session_id(user, one);
    user_session_id(user, same);
    user_session_id(user, two);
    user_session_id(other, others);
    assert_memory_equal(one, same, 16);
    assert_memory_not_equal(one, two, 16);
    assert_memory_not_equal(one, others, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_password_is_let_in),
        cmocka_unit_test(a_wrong_one_is_not),
        cmocka_unit_test(users_may_change_meanwhile),
        cmocka_unit_test(who_does_not_exist_is_told_the_same),
        cmocka_unit_test(the_salt_of_nobody_comes_from_the_secret),
        cmocka_unit_test(a_mechanism_the_user_has_no_keys_for_ends_alike),
        cmocka_unit_test(what_is_no_first_message_is_refused),
        cmocka_unit_test(mechanisms_that_weir_does_not_have),
        cmocka_unit_test(nothing_goes_on_out_of_place),
        cmocka_unit_test(certificates_are_users_by_their_subject),
        cmocka_unit_test(mechanisms_are_listed_for_everybody),
        cmocka_unit_test(what_is_wrong_with_a_user_is_said),
        cmocka_unit_test(a_user_is_there_once),
        cmocka_unit_test(sessions_of_two_users_are_two),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
