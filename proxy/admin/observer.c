// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/observer.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "proxy/admin/archive.h"
#include "proxy/admin/chronicle.h"
#include "proxy/admin/control_socket.h"
#include "proxy/admin/database.h"
#include "proxy/admin/gather.h"
#include "proxy/admin/log_metrics.h"
#include "proxy/admin/own_operations.h"
#include "proxy/admin/webhook.h"
#include "proxy/exhaustion_log.h"
#include "proxy/mem.h"

#define SECOND_US 1000000

struct observer {
    struct gathering gathering;
    struct loop *loop;
    struct mailbox *mailbox;
    pthread_t thread;
    bool started;
    struct question *waiting; // for the next picture, in order
    struct question **waiting_end;
    struct question *served; // by the picture that is being made
    struct picture picture;
    unsigned collections; // that it is to have
    uint64_t pictures;
    int shows_out;
    bool ending; // nothing more is looked at
    struct archive *archive;
    struct webhook *webhook;
    struct database *database;
    struct control_socket *desk; // takes orders
    struct timer *metrics_timer;
    struct log_metrics *metrics;
    int64_t metrics_every_us; // as it was last looked at; 0: never
    struct timer *second_timer;
    int64_t second_us; // when the next one begins
    void (*on_second)(void *arg);
    void *second_arg;
    struct mail rest_mail;
    struct mail end_mail;
    pthread_mutex_t lock; // guards the rest
    pthread_cond_t came_to_rest;
    bool at_rest;
};

#define CONTAINER(pointer, type) ((type *)((char *)(pointer)-offsetof(type, mail)))

static void ask_workers(struct observer *observer)
{
    struct gathering *gathering = &observer->gathering;
    observer->shows_out = gathering->worker_count;
    for (int i = 0; i < gathering->worker_count; i++) {
        struct show *show = xcalloc(1, sizeof *show);
        show->back = observer->mailbox;
        show->back_kind = OBSERVER_SHOWN;
        show->worker = gathering->workers[i];
        show->clients = observer->collections & STATE_BIT(STATE_clients);
        show->requests = observer->collections & STATE_BIT(STATE_requests);
        show->upstreams = observer->collections & STATE_BIT(STATE_upstreams);
        worker_post(show->worker, &show->mail, MAIL_SHOW);
    }
}

// Answers all who wait for this picture. Who asks another question while it is answered waits.
static void answer(struct question *questions, const struct picture *picture)
{
    while (questions) {
        struct question *question = questions;
        questions = question->next;
        question->answer(question, picture);
    }
}

static void finish_picture(struct observer *observer)
{
    struct question *served = observer->served;
    observer->picture.serial = ++observer->pictures;
    gather(&observer->gathering, observer->collections, &observer->picture);
    observer->served = NULL;
    answer(served, &observer->picture);
    picture_fini(&observer->picture);
}

// Begins to make the next picture if one is wanted and none is being made.
static void look(struct observer *observer)
{
    while (observer->waiting && !observer->served) {
        observer->served = observer->waiting;
        observer->waiting = NULL;
        observer->waiting_end = &observer->waiting;
        observer->collections = 0;
        for (struct question *at = observer->served; at; at = at->next) {
            observer->collections |= at->collections;
        }
        observer->gathering.now_us = loop_now_us(observer->loop);
        if (gather_needs_workers(observer->collections)) {
            ask_workers(observer);
            return;
        }
        finish_picture(observer);
    }
}

static void take_question(struct observer *observer, struct question *question)
{
    question->next = NULL;
    if (observer->ending) {
        answer(question, NULL);
        return;
    }
    *observer->waiting_end = question;
    observer->waiting_end = &question->next;
    look(observer);
}

static void send_back(struct inquiry *inquiry)
{
    worker_post(inquiry->worker, &inquiry->question.mail, MAIL_ANSWERED);
}

static void answer_inquiry(struct question *question, const struct picture *picture)
{
    struct inquiry *inquiry = (struct inquiry *)question;
    database_answer(question->context, inquiry, picture);
    send_back(inquiry);
}

static void take_inquiry(struct observer *observer, struct inquiry *inquiry)
{
    struct question *question = &inquiry->question;
    if (database_take(observer->database, inquiry, loop_now_us(observer->loop))) {
        send_back(inquiry);
        return;
    }
    if (inquiry->kills && !observer->ending) {
        own_operations_kill(inquiry, observer->gathering.workers, observer->gathering.worker_count);
        return;
    }
    if (inquiry->order && !observer->ending) {
        control_socket_send(observer->desk, inquiry);
        return;
    }
    question->answer = answer_inquiry;
    question->context = observer->database;
    take_question(observer, question);
}

static void tell_of_rest(struct observer *observer)
{
    pthread_mutex_lock(&observer->lock);
    observer->at_rest = true;
    pthread_cond_signal(&observer->came_to_rest);
    pthread_mutex_unlock(&observer->lock);
}

// The picture that is being made is still waited for.
static void rest(struct observer *observer)
{
    struct question *waiting = observer->waiting;
    observer->waiting = NULL;
    observer->waiting_end = &observer->waiting;
    observer->ending = true;
    timer_set(observer->metrics_timer, INT64_MAX);
    timer_set(observer->second_timer, INT64_MAX);
    chronicle_close(&observer->gathering, loop_now_us(observer->loop));
    answer(waiting, NULL);
    if (!observer->served) {
        tell_of_rest(observer);
    }
}

static void take_shown(struct observer *observer, struct show *show)
{
    gather_shown(show, &observer->picture);
    buffer_fini(&show->seen_clients);
    buffer_fini(&show->seen_requests);
    buffer_fini(&show->seen_upstreams);
    free(show);
    observer->shows_out--;
    if (observer->shows_out == 0) {
        finish_picture(observer);
        look(observer);
        if (observer->ending) {
            tell_of_rest(observer);
        }
    }
}

static void take_gone(struct observer *observer, struct client_gone *gone)
{
    database_forget_client(observer->database, gone->client_id);
    free(gone);
}

struct observer_rules {
    struct mail mail;
    struct rules *rules;
    struct emergency emergency;
};

static void take_rules(struct gathering *gathering, struct observer_rules *news)
{
    rules_drop(gathering->rules);
    gathering->rules = news->rules;
    gathering->emergency = news->emergency;
    free(news);
}

struct observer_reloaded {
    struct mail mail;
    atomic_uint *taken;
};

static void take_reloaded(struct observer_reloaded *news)
{
    atomic_fetch_add(news->taken, 1);
    free(news);
}

static void take_exhaustion(struct observer *observer, struct exhaustion_report *report)
{
    chronicle_note(observer->gathering.chronicle, report, loop_now_us(observer->loop));
    free(report);
}

static void deliver(void *arg, struct mail *mail)
{
    struct observer *observer = arg;
    switch ((enum observer_mail)mail->kind) {
    case OBSERVER_QUESTION:
        take_question(observer, CONTAINER(mail, struct question));
        break;
    case OBSERVER_INQUIRY:
        take_inquiry(observer, (struct inquiry *)CONTAINER(mail, struct question));
        break;
    case OBSERVER_SHOWN:
        take_shown(observer, CONTAINER(mail, struct show));
        break;
    case OBSERVER_GONE:
        take_gone(observer, CONTAINER(mail, struct client_gone));
        break;
    case OBSERVER_RULES:
        take_rules(&observer->gathering, CONTAINER(mail, struct observer_rules));
        break;
    case OBSERVER_EXHAUSTION:
        take_exhaustion(observer, CONTAINER(mail, struct exhaustion_report));
        break;
    case OBSERVER_EVIDENCE:
        chronicle_hear(observer->gathering.chronicle, CONTAINER(mail, struct inquest),
                       loop_now_us(observer->loop));
        break;
    case OBSERVER_RELOADED:
        take_reloaded(CONTAINER(mail, struct observer_reloaded));
        break;
    case OBSERVER_REST:
        rest(observer);
        break;
    case OBSERVER_END:
        loop_stop(observer->loop);
        break;
    }
}

static void on_metrics_timer(void *arg)
{
    struct observer *observer = arg;
    const struct gathering *gathering = &observer->gathering;
    int64_t now_us = loop_now_us(observer->loop);
    log_metrics(observer->metrics, gathering, now_us);
    timer_set(observer->metrics_timer, now_us + observer->metrics_every_us);
}

static void plan_metrics(struct observer *observer, int64_t now_us)
{
    int64_t every_us = observer->gathering.shared->config->log_metrics_us;
    if (every_us != observer->metrics_every_us) {
        timer_set(observer->metrics_timer, every_us > 0 ? now_us + every_us : INT64_MAX);
    }
    observer->metrics_every_us = every_us;
}

static void on_second_timer(void *arg)
{
    struct observer *observer = arg;
    int64_t now_us = loop_now_us(observer->loop);
    observer->second_us += SECOND_US;
    if (observer->second_us <= now_us) {
        observer->second_us = now_us + SECOND_US; // the machine slept
    }
    timer_set(observer->second_timer, observer->second_us);
    plan_metrics(observer, now_us); // a reload may have changed it
    chronicle_look(observer->gathering.chronicle, &observer->gathering, now_us);
    if (observer->on_second) {
        observer->on_second(observer->second_arg);
    }
}

struct observer *observer_new(struct shared *shared, struct worker **workers, int worker_count)
{
    struct observer *observer = xcalloc(1, sizeof *observer);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    observer->gathering = (struct gathering){
        .shared = shared,
        .workers = workers,
        .worker_count = worker_count,
        .start_time = (double)now.tv_sec + (double)now.tv_nsec / 1e9,
    };
    observer->waiting_end = &observer->waiting;
    observer->loop = loop_new();
    observer->mailbox = mailbox_new(observer->loop, deliver, observer);
    observer->database = database_new();
    observer->metrics = log_metrics_new();
    observer->metrics_timer = timer_new(observer->loop, on_metrics_timer, observer);
    observer->second_timer = timer_new(observer->loop, on_second_timer, observer);
    observer->archive = archive_new();
    observer->webhook = webhook_new();
    observer->gathering.chronicle =
        chronicle_new(shared->servers, observer->archive, observer->webhook);
    pthread_mutex_init(&observer->lock, NULL);
    pthread_cond_init(&observer->came_to_rest, NULL);
    shared->observer = observer->mailbox;
    return observer;
}

static void *run(void *arg)
{
    struct observer *observer = arg;
    loop_run(observer->loop);
    return NULL;
}

void observer_start(struct observer *observer, struct control_socket *desk)
{
    observer->desk = desk;
    plan_metrics(observer, loop_now_us(observer->loop));
    observer->second_us = loop_now_us(observer->loop);
    timer_set(observer->second_timer, observer->second_us);
    observer->started = true;
    int error = pthread_create(&observer->thread, NULL, run, observer);
    assert(error == 0);
    (void)error;
}

void observer_each_second(struct observer *observer, void (*fn)(void *arg), void *arg)
{
    observer->on_second = fn;
    observer->second_arg = arg;
}

const struct chronicle *observer_chronicle(const struct observer *observer)
{
    return observer->gathering.chronicle;
}

void observer_ask(struct observer *observer, struct question *question)
{
    question->mail.kind = OBSERVER_QUESTION;
    mailbox_post(observer->mailbox, &question->mail);
}

void observer_tell_rules(struct observer *observer, struct rules *rules,
                         const struct emergency *emergency)
{
    struct observer_rules *news = xcalloc(1, sizeof *news);
    news->rules = rules_keep(rules);
    news->emergency = *emergency;
    news->mail.kind = OBSERVER_RULES;
    mailbox_post(observer->mailbox, &news->mail);
}

void observer_tell_reload(struct observer *observer, atomic_uint *taken)
{
    struct observer_reloaded *news = xcalloc(1, sizeof *news);
    news->taken = taken;
    news->mail.kind = OBSERVER_RELOADED;
    mailbox_post(observer->mailbox, &news->mail);
}

void observer_rest(struct observer *observer)
{
    observer->rest_mail.kind = OBSERVER_REST;
    mailbox_post(observer->mailbox, &observer->rest_mail);
    pthread_mutex_lock(&observer->lock);
    while (!observer->at_rest) {
        pthread_cond_wait(&observer->came_to_rest, &observer->lock);
    }
    pthread_mutex_unlock(&observer->lock);
}

void observer_free(struct observer *observer)
{
    if (observer->started) {
        observer->end_mail.kind = OBSERVER_END;
        mailbox_post(observer->mailbox, &observer->end_mail);
        pthread_join(observer->thread, NULL);
    }
    rules_drop(observer->gathering.rules);
    database_free(observer->database);
    log_metrics_free(observer->metrics);
    timer_free(observer->metrics_timer);
    timer_free(observer->second_timer);
    chronicle_free(observer->gathering.chronicle);
    archive_free(observer->archive);
    webhook_free(observer->webhook);
    mailbox_free(observer->mailbox);
    loop_free(observer->loop);
    pthread_cond_destroy(&observer->came_to_rest);
    pthread_mutex_destroy(&observer->lock);
    free(observer);
}
