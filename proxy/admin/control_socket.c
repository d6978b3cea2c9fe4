// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/control_socket.h"

#include <assert.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/admin/state.h"
#include "proxy/log.h"
#include "proxy/mem.h"
#include "proxy/net/listener.h"
#include "proxy/net/stream.h"
#include "proxy/users.h"
#include "wire/buffer.h"
#include "wire/reply.h"

#define LINE_BYTES 16384
#define PIECE_BYTES 4096
#define CONVERSATIONS_MAX 16
#define CONVERSATION_US 5000000
#define SWEEP_US 1000000

enum socket_mail {
    SOCKET_STOP,
    SOCKET_STATE,
    SOCKET_ORDER,
    SOCKET_CALL,
};

// A question to the observer. It comes back by mail, with the answer.
struct state_asked {
    struct question question;
    struct mail back;
    struct control_socket *socket;
    struct conversation *talk; // NULL: it has ended
    struct buffer json;        // empty: weir is ending
};

struct conversation {
    struct conversation *next;
    struct conversation *prev;
    struct control_socket *socket;
    struct stream *stream;
    struct buffer order;
    struct buffer answer;
    struct state_asked *asked; // NULL: nothing is waited for
    int64_t begun_us;
    bool shaken;
    bool upgrades; // the answer will come
    char by[RULEBOOK_NOTE_BYTES];
};

struct control_socket {
    struct control_desk desk;
    struct observer *observer;
    struct loop *loop;
    struct listener *listener;
    struct mailbox *mailbox;
    struct mail stop;
    struct timer *sweep;
    struct timer *tick; // of the rulebook
    struct conversation *conversations;
    int conversation_count;
    int asked_count; // of the observer, and not back yet
    pthread_t thread;
    bool started;
    bool stopping;
    bool is_passed;
};

// --- a conversation -----------------------------------------------------------------------------

static void end(struct conversation *talk)
{
    struct control_socket *socket = talk->socket;
    if (talk->prev) {
        talk->prev->next = talk->next;
    } else {
        socket->conversations = talk->next;
    }
    if (talk->next) {
        talk->next->prev = talk->prev;
    }
    socket->conversation_count--;
    if (talk->asked) {
        talk->asked->talk = NULL;
    }
    stream_free(talk->stream);
    buffer_fini(&talk->order);
    buffer_fini(&talk->answer);
    free(talk);
}

static void put_answer(struct conversation *talk, const bson_t *reply)
{
    char *json = bson_as_relaxed_extended_json(reply, NULL);
    buffer_append(&talk->answer, json, strlen(json));
    buffer_append(&talk->answer, "\n", 1);
    bson_free(json);
}

static void refuse(struct conversation *talk, const char *error)
{
    bson_t reply = BSON_INITIALIZER;
    BSON_APPEND_BOOL(&reply, "ok", false);
    BSON_APPEND_UTF8(&reply, "error", error);
    put_answer(talk, &reply);
    bson_destroy(&reply);
}

// --- the state ----------------------------------------------------------------------------------

// On the observer's thread.
static void take_picture(struct question *question, const struct picture *picture)
{
    struct state_asked *asked = (struct state_asked *)question;
    if (picture) {
        picture_print_json(picture, &asked->json);
    }
    mailbox_post(asked->socket->mailbox, &asked->back);
}

static void ask_observer(struct conversation *talk, unsigned collections)
{
    struct state_asked *asked = xcalloc(1, sizeof *asked);
    asked->socket = talk->socket;
    asked->talk = talk;
    asked->question.collections = collections;
    asked->question.answer = take_picture;
    asked->back.kind = SOCKET_STATE;
    talk->asked = asked;
    talk->socket->asked_count++;
    stream_watch(talk->stream, 0);
    observer_ask(talk->socket->observer, &asked->question);
}

// An answer is one line: between documents there are newlines, in texts there are none.
static void put_state(struct conversation *talk, struct buffer *json)
{
    static const char begin[] = "{ \"ok\" : true, \"state\" : ";
    uint8_t *at = buffer_at(json);
    for (size_t i = 0; i < buffer_held(json); i++) {
        at[i] = at[i] == '\n' ? ' ' : at[i];
    }
    buffer_append(&talk->answer, begin, strlen(begin));
    buffer_append(&talk->answer, at, buffer_held(json));
    buffer_append(&talk->answer, "}\n", 2);
}

// ------------------------------------------------------------------------------------------------

static void tick(void *arg)
{
    struct control_socket *socket = arg;
    timer_set(socket->tick, rulebook_tick(socket->desk.book, loop_now_us(socket->loop)));
}

static void answer(struct conversation *talk, size_t len)
{
    struct control_socket *socket = talk->socket;
    bson_t reply = BSON_INITIALIZER;
    if (socket->is_passed) {
        refuse(talk, "another process has just taken over: ask again");
        return;
    }
    unsigned state = control_order_answer(&socket->desk, (const char *)buffer_at(&talk->order), len,
                                          talk->by, loop_now_us(socket->loop), &reply);
    if (state && socket->stopping) {
        refuse(talk, "weir is ending");
    } else if (state) {
        ask_observer(talk, state);
    } else if (bson_empty(&reply)) {
        talk->upgrades = true;
        stream_watch(talk->stream, 0);
    } else {
        put_answer(talk, &reply);
    }
    bson_destroy(&reply);
    tick(socket);
}

// Reads until there is an answer. False: there is none to come, or not yet.
static bool listen_to(struct conversation *talk, bool *ret_over)
{
    for (;;) {
        size_t len;
        uint8_t *room = buffer_reserve(&talk->order, PIECE_BYTES);
        enum stream_status status = stream_read(talk->stream, room, PIECE_BYTES, &len);
        if (status != STREAM_OK) {
            *ret_over = status != STREAM_WAIT;
            return false;
        }
        buffer_commit(&talk->order, len);
        const uint8_t *line = buffer_at(&talk->order);
        const uint8_t *newline = memchr(line, '\n', buffer_held(&talk->order));
        if (newline) {
            answer(talk, (size_t)(newline - line));
            return true;
        }
        if (buffer_held(&talk->order) > LINE_BYTES) {
            refuse(talk, "what was asked is too long");
            return true;
        }
    }
}

// Returns whether it is over.
static bool speak(struct conversation *talk)
{
    if (talk->asked || talk->upgrades) {
        return false; // the answer will come
    }
    while (buffer_held(&talk->answer) > 0) {
        size_t len;
        enum stream_status status =
            stream_write(talk->stream, buffer_at(&talk->answer), buffer_held(&talk->answer), &len);
        if (status != STREAM_OK) {
            stream_watch(talk->stream, STREAM_WRITE);
            return status != STREAM_WAIT;
        }
        buffer_consume(&talk->answer, len);
    }
    return true;
}

static void on_ready(void *arg, unsigned directions)
{
    struct conversation *talk = arg;
    (void)directions;
    bool over = false;
    if (!talk->shaken) {
        enum stream_status status = stream_handshake(talk->stream);
        if (status != STREAM_OK) {
            if (status != STREAM_WAIT) {
                end(talk);
            }
            return;
        }
        talk->shaken = true;
        stream_watch(talk->stream, STREAM_READ);
    }
    if (buffer_held(&talk->answer) > 0 || listen_to(talk, &over)) {
        over = speak(talk);
    }
    if (over) {
        end(talk);
    }
}

static void take_state(struct state_asked *asked)
{
    struct control_socket *socket = asked->socket;
    struct conversation *talk = asked->talk;
    if (talk) {
        talk->asked = NULL;
        if (buffer_held(&asked->json) > 0) {
            put_state(talk, &asked->json);
        } else {
            refuse(talk, "weir is ending");
        }
        if (speak(talk)) {
            end(talk);
        }
    }
    buffer_fini(&asked->json);
    free(asked);
    socket->asked_count--;
}

// To whoever has ordered it.
static void tell_upgrade(struct control_socket *socket)
{
    struct conversation *next;
    for (struct conversation *talk = socket->conversations; talk; talk = next) {
        bson_t reply = BSON_INITIALIZER;
        next = talk->next;
        if (talk->upgrades && control_order_tell_upgrade(&socket->desk, &reply)) {
            talk->upgrades = false;
            put_answer(talk, &reply);
            if (speak(talk)) {
                end(talk);
            }
        }
        bson_destroy(&reply);
    }
}

// --- the other door -----------------------------------------------------------------------------

// As the database weir answers.
static void translate(const bson_t *answer, bson_t *reply)
{
    bson_iter_t iter;
    const struct reply_error error = {
        .code = 2, // BadValue
        .message = bson_iter_init_find(&iter, answer, "error") ? bson_iter_utf8(&iter, NULL) : "",
    };
    bson_reinit(reply);
    if (error.message[0] != '\0') {
        reply_error_document(&error, reply);
        return;
    }
    bson_copy_to_excluding_noinit(answer, reply, "ok", NULL);
    BSON_APPEND_DOUBLE(reply, "ok", 1.0);
}

static void obey(struct control_socket *socket, struct inquiry *inquiry)
{
    bson_t answer = BSON_INITIALIZER;
    control_order_obey(&socket->desk, inquiry->order, inquiry->by, loop_now_us(socket->loop),
                       &answer);
    translate(&answer, inquiry->reply);
    bson_destroy(&answer);
}

static void take_order(struct control_socket *socket, struct inquiry *inquiry)
{
    obey(socket, inquiry);
    worker_post(inquiry->worker, &inquiry->question.mail, MAIL_ANSWERED);
    tick(socket);
}

void control_socket_send(struct control_socket *socket, struct inquiry *inquiry)
{
    inquiry->question.mail.kind = SOCKET_ORDER;
    mailbox_post(socket->mailbox, &inquiry->question.mail);
}

void control_socket_call(struct control_socket *socket)
{
    struct mail *mail = xcalloc(1, sizeof *mail);
    mail->kind = SOCKET_CALL;
    mailbox_post(socket->mailbox, mail);
}

int control_socket_fd(const struct control_socket *socket)
{
    return socket->listener ? listener_fd(socket->listener) : -1;
}

void control_socket_pass(struct control_socket *socket, bool passed)
{
    socket->is_passed = passed;
    if (socket->listener && passed) {
        listener_pause(socket->listener);
    } else if (socket->listener) {
        listener_resume(socket->listener);
    }
    if (socket->listener) {
        listener_share(socket->listener, passed);
    }
}

// --- who it is ----------------------------------------------------------------------------------

static void log_refused(struct control_socket *socket, const char *reason, uid_t uid)
{
    static struct log_limit limit = {.per_second = 1};
    struct log_line line;
    if (log_begin_limited(&line, LOG_WARN, "control_refused", &limit, loop_now_us(socket->loop))) {
        log_str(&line, "reason", reason);
        log_int(&line, "uid", (int64_t)uid);
        log_end(&line);
    }
}

static void name_user(uid_t uid, char ret_name[RULEBOOK_NOTE_BYTES])
{
    char buffer[2048];
    struct passwd entry, *found = NULL;
    (void)getpwuid_r(uid, &entry, buffer, sizeof buffer, &found);
    if (found) {
        snprintf(ret_name, RULEBOOK_NOTE_BYTES, "%s", found->pw_name);
    } else {
        snprintf(ret_name, RULEBOOK_NOTE_BYTES, "uid %u", (unsigned)uid);
    }
}

static void begin(struct control_socket *socket, int fd, uid_t uid)
{
    struct conversation *talk = xcalloc(1, sizeof *talk);
    struct stream_handler handler = {.ready = on_ready, .arg = talk};
    talk->socket = socket;
    talk->begun_us = loop_now_us(socket->loop);
    talk->stream = stream_accept(socket->loop, fd, NULL, true, handler);
    talk->next = socket->conversations;
    if (talk->next) {
        talk->next->prev = talk;
    }
    socket->conversations = talk;
    socket->conversation_count++;
    name_user(uid, talk->by);
}

static void accepted(void *arg, int fd)
{
    struct control_socket *control = arg;
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t len = sizeof peer;
    if (fd < 0) {
        return;
    }
    bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0;
    if (!known || (peer.uid != geteuid() && peer.uid != 0)) {
        log_refused(control, "another user", peer.uid);
        close(fd);
    } else if (control->conversation_count >= CONVERSATIONS_MAX) {
        log_refused(control, "too many at once", peer.uid);
        close(fd);
    } else {
        begin(control, fd, peer.uid);
    }
}

static void end_those_begun_by(struct control_socket *socket, int64_t at_us)
{
    struct conversation *next;
    for (struct conversation *talk = socket->conversations; talk; talk = next) {
        next = talk->next;
        if (talk->begun_us <= at_us && (!talk->upgrades || at_us == INT64_MAX)) {
            end(talk);
        }
    }
}

static void sweep(void *arg)
{
    struct control_socket *socket = arg;
    int64_t now_us = loop_now_us(socket->loop);
    end_those_begun_by(socket, now_us - CONVERSATION_US);
    timer_set(socket->sweep, now_us + SWEEP_US);
}

// --- life ---------------------------------------------------------------------------------------

static struct listener *listen_on(struct control_socket *socket, const char *path, char *ret_error)
{
    struct address address;
    const char *error;
    char full[CONTROL_PATH_BYTES + 2];
    // A name without a slash is a file of the working directory, not a host.
    snprintf(full, sizeof full, "%s%s", strchr(path, '/') ? "" : "./", path);
    if (address_resolve(full, 0, &address, 1, &error) == 0) {
        snprintf(ret_error, CONTROL_ERROR_BYTES, "%s", error);
        return NULL;
    }
    if (!control_path_is_safe(full, ret_error)) {
        return NULL;
    }
    mode_t former = umask(0177); // so that it is never for others, not even for a moment
    struct listener *listener =
        listener_open(socket->loop, &address, accepted, socket, ret_error, CONTROL_ERROR_BYTES);
    umask(former);
    if (listener) {
        listener_take_file(listener); // a predecessor's, which leaves it to us
    }
    return listener;
}

static void deliver(void *arg, struct mail *mail)
{
    struct control_socket *socket = arg;
    if (mail->kind == SOCKET_STOP) {
        socket->stopping = true;
    } else if (mail->kind == SOCKET_CALL) {
        free(mail);
        socket->desk.take_turn(socket->desk.arg);
        tell_upgrade(socket);
    } else if (mail->kind == SOCKET_ORDER) {
        take_order(socket, (struct inquiry *)((char *)mail - offsetof(struct question, mail)));
    } else {
        take_state((struct state_asked *)((char *)mail - offsetof(struct state_asked, back)));
    }
    if (socket->stopping && socket->asked_count == 0) {
        loop_stop(socket->loop);
    }
}

struct control_socket *control_socket_open(const char *path, char ret_error[CONTROL_ERROR_BYTES])
{
    struct control_socket *socket = xcalloc(1, sizeof *socket);
    socket->loop = loop_new();
    socket->mailbox = mailbox_new(socket->loop, deliver, socket);
    socket->sweep = timer_new(socket->loop, sweep, socket);
    socket->tick = timer_new(socket->loop, tick, socket);
    if (!path) {
        return socket;
    }
    socket->listener = listen_on(socket, path, ret_error);
    if (!socket->listener) {
        control_socket_free(socket);
        return NULL;
    }
    struct log_line line;
    log_begin(&line, LOG_INFO, "control_socket");
    log_str(&line, "path", path);
    log_end(&line);
    return socket;
}

static void *run(void *arg)
{
    struct control_socket *socket = arg;
    sweep(socket);
    tick(socket); // there may be rules that end, a predecessor's
    loop_run(socket->loop);
    return NULL;
}

void control_socket_start(struct control_socket *socket, const struct control_desk *desk,
                          struct observer *observer)
{
    socket->desk = *desk;
    socket->observer = observer;
    int error = pthread_create(&socket->thread, NULL, run, socket);
    assert(error == 0);
    (void)error;
    socket->started = true;
}

void control_socket_free(struct control_socket *socket)
{
    if (!socket) {
        return;
    }
    if (socket->started) {
        socket->stop.kind = SOCKET_STOP;
        mailbox_post(socket->mailbox, &socket->stop);
        pthread_join(socket->thread, NULL);
    }
    end_those_begun_by(socket, INT64_MAX);
    listener_free(socket->listener);
    timer_free(socket->sweep);
    timer_free(socket->tick);
    mailbox_free(socket->mailbox);
    loop_free(socket->loop);
    free(socket);
}
