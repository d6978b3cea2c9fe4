// SPDX-License-Identifier: Apache-2.0
//
// proxy/net/loop.h on simulated time. Each loop runs on a fiber; between two handlers, and where a
// lock is let go, it pauses for as long as the dice say while the rest of the world goes on.
//
//      turn:  what is ready is noted -> mail -> timers -> streams -> turn end -> sleep until woken

#include "tests/sim/sim_loop.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "proxy/mem.h"
#include "tests/sim/sim_fiber.h"

#define LOOPS_MAX 16
#define READY_MAX 512

struct loop {
    struct fiber *fiber;
    struct event wake;
    struct loop_watch *watches;
    struct timer *timers;
    struct mailbox *mailbox;
    void (*turn_end)(void *arg);
    void *turn_end_arg;
    uint64_t turn;
    uint64_t handshake_in; // the last turn with one
    bool stopped;
    bool asleep;
    bool in_handler;
    struct ready {
        struct loop_watch *watch; // NULL: gone meanwhile
        unsigned directions;
    } ready[READY_MAX];
    int ready_count;
};

struct timer {
    struct timer *next;
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    int64_t at_us;
    uint64_t set_in; // the turn
};

struct mailbox {
    struct loop *loop;
    struct mail *first;
    struct mail **end;
    struct mail *batch; // being delivered
    void (*deliver)(void *arg, struct mail *mail);
    void *arg;
};

static const struct loop_profile *profile;
static struct loop *loops[LOOPS_MAX];
static int loop_count;

void loops_use(const struct loop_profile *used)
{
    profile = used;
}

bool loops_are_between_handlers(void)
{
    for (int i = 0; i < loop_count; i++) {
        if (loops[i]->in_handler) {
            return false;
        }
    }
    return true;
}

static int64_t pace_us(void)
{
    if (dice_chance(profile->hiccup)) {
        return dice_between(0, profile->hiccup_us);
    }
    return dice_between(0, profile->pace_us);
}

// --- running ------------------------------------------------------------------------------------

static void pause_here(struct loop *loop)
{
    event_set(&loop->wake, sim_now_us() + pace_us());
    fiber_pause();
}

// Another thread may come in between wherever a lock was let go.
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    int result = __real_pthread_mutex_unlock(mutex);
    struct loop *loop = fiber_current();
    if (loop && dice_chance(profile->interrupt)) {
        pause_here(loop);
    }
    return result;
}

static void note_ready(struct loop *loop)
{
    loop->ready_count = 0;
    for (struct loop_watch *watch = loop->watches; watch; watch = watch->next) {
        unsigned directions = watch->ready(watch);
        if (directions == 0 && dice_chance(profile->spurious)) {
            directions = STREAM_READ;
        }
        if (directions != 0 && loop->ready_count < READY_MAX) {
            loop->ready[loop->ready_count++] = (struct ready){watch, directions};
        }
    }
}

static void deliver_mail(struct loop *loop)
{
    struct mailbox *mailbox = loop->mailbox;
    if (!mailbox || !mailbox->first || dice_chance(profile->mail_lag)) {
        return;
    }
    mailbox->batch = mailbox->first;
    mailbox->first = NULL;
    mailbox->end = &mailbox->first;
    while (mailbox->batch) {
        struct mail *mail = mailbox->batch;
        mailbox->batch = mail->next;
        loop->in_handler = true;
        mailbox->deliver(mailbox->arg, mail);
        loop->in_handler = false;
        pause_here(loop);
    }
}

// One that is due and was not set in this very turn; among several the dice decide.
static struct timer *due_timer(struct loop *loop)
{
    struct timer *due = NULL;
    int seen = 0;
    for (struct timer *timer = loop->timers; timer; timer = timer->next) {
        if (timer->at_us <= sim_now_us() && timer->set_in < loop->turn &&
            dice_between(0, seen++) == 0) {
            due = timer;
        }
    }
    return due;
}

static void fire_timers(struct loop *loop)
{
    struct timer *timer;
    while ((timer = due_timer(loop))) {
        timer->at_us = INT64_MAX;
        loop->in_handler = true;
        timer->fn(timer->arg);
        loop->in_handler = false;
        pause_here(loop);
    }
}

static void serve_streams(struct loop *loop)
{
    while (loop->ready_count > 0) {
        int i = (int)dice_between(0, loop->ready_count - 1);
        struct ready ready = loop->ready[i];
        loop->ready[i] = loop->ready[--loop->ready_count];
        if (ready.watch) {
            loop->in_handler = true;
            ready.watch->call(ready.watch, ready.directions);
            loop->in_handler = false;
            pause_here(loop);
        }
    }
}

static void end_turn(struct loop *loop)
{
    loop->in_handler = true;
    if (loop->turn_end) {
        loop->turn_end(loop->turn_end_arg);
    }
    loop->in_handler = false;
}

// When there is something to do again.
static int64_t next_due_us(struct loop *loop)
{
    if (loop->mailbox && loop->mailbox->first) {
        return sim_now_us();
    }
    for (struct loop_watch *watch = loop->watches; watch; watch = watch->next) {
        if (watch->ready(watch) != 0) {
            return sim_now_us();
        }
    }
    int64_t due_us = INT64_MAX;
    for (struct timer *timer = loop->timers; timer; timer = timer->next) {
        due_us = timer->at_us < due_us ? timer->at_us : due_us;
    }
    return due_us > sim_now_us() ? due_us : sim_now_us();
}

static void sleep_until_due(struct loop *loop)
{
    int64_t due_us = next_due_us(loop);
    event_set(&loop->wake, due_us == INT64_MAX ? INT64_MAX : due_us + pace_us());
    loop->asleep = true;
    fiber_pause();
    loop->asleep = false;
}

void loop_wake(struct loop *loop)
{
    if (!loop->asleep) {
        return; // it looks before it sleeps
    }
    int64_t at_us = sim_now_us() + pace_us();
    if (!event_is_set(&loop->wake) || loop->wake.at_us > at_us) {
        event_set(&loop->wake, at_us);
    }
}

void loop_run(struct loop *loop)
{
    while (!loop->stopped) {
        loop->turn++;
        note_ready(loop);
        deliver_mail(loop);
        fire_timers(loop);
        serve_streams(loop);
        end_turn(loop);
        if (!loop->stopped) {
            sleep_until_due(loop);
        }
    }
    end_turn(loop);
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

static void run_fiber(void *arg)
{
    loop_run(arg);
}

static void resume(void *arg)
{
    struct loop *loop = arg;
    fiber_resume(loop->fiber);
}

void loop_start(struct loop *loop)
{
    loop->fiber = fiber_new(run_fiber, loop);
    event_set(&loop->wake, sim_now_us() + pace_us());
}

bool loop_has_ended(const struct loop *loop)
{
    return fiber_has_ended(loop->fiber);
}

// --- life ---------------------------------------------------------------------------------------

struct loop *loop_new(void)
{
    struct loop *loop = xcalloc(1, sizeof *loop);
    event_init(&loop->wake, resume, loop);
    assert(loop_count < LOOPS_MAX);
    loops[loop_count++] = loop;
    return loop;
}

void loop_free(struct loop *loop)
{
    assert(!loop->watches && !loop->timers && !loop->mailbox);
    int i = 0;
    while (loops[i] != loop) {
        i++;
    }
    loops[i] = loops[--loop_count];
    event_cancel(&loop->wake);
    if (loop->fiber) {
        fiber_free(loop->fiber);
    }
    free(loop);
}

int64_t loop_now_us(const struct loop *loop)
{
    (void)loop;
    return sim_now_us();
}

void loop_on_turn_end(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    loop->turn_end = fn;
    loop->turn_end_arg = arg;
}

// --- streams' part ------------------------------------------------------------------------------

void loop_add_watch(struct loop *loop, struct loop_watch *watch)
{
    watch->loop = loop;
    watch->prev = NULL;
    watch->next = loop->watches;
    if (watch->next) {
        watch->next->prev = watch;
    }
    loop->watches = watch;
    loop_wake(loop);
}

void loop_remove_watch(struct loop_watch *watch)
{
    struct loop *loop = watch->loop;
    if (watch->prev) {
        watch->prev->next = watch->next;
    } else {
        loop->watches = watch->next;
    }
    if (watch->next) {
        watch->next->prev = watch->prev;
    }
    for (int i = 0; i < loop->ready_count; i++) {
        if (loop->ready[i].watch == watch) {
            loop->ready[i].watch = NULL;
        }
    }
    watch->loop = NULL;
}

// --- timers -------------------------------------------------------------------------------------

struct timer *timer_new(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct timer *timer = xcalloc(1, sizeof *timer);
    timer->loop = loop;
    timer->fn = fn;
    timer->arg = arg;
    timer->at_us = INT64_MAX;
    timer->next = loop->timers;
    loop->timers = timer;
    return timer;
}

void timer_free(struct timer *timer)
{
    if (!timer) {
        return;
    }
    struct timer **at = &timer->loop->timers;
    while (*at != timer) {
        at = &(*at)->next;
    }
    *at = timer->next;
    free(timer);
}

void timer_set(struct timer *timer, int64_t at_us)
{
    timer->at_us = at_us;
    timer->set_in = timer->loop->turn;
    assert(!fiber_current() || fiber_current() == timer->loop); // its own thread's only
}

// --- mail ---------------------------------------------------------------------------------------

struct mailbox *mailbox_new(struct loop *loop, void (*deliver)(void *arg, struct mail *mail),
                            void *arg)
{
    struct mailbox *mailbox = xcalloc(1, sizeof *mailbox);
    mailbox->loop = loop;
    mailbox->deliver = deliver;
    mailbox->arg = arg;
    mailbox->end = &mailbox->first;
    loop->mailbox = mailbox;
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (!mailbox) {
        return;
    }
    HOLDS(!mailbox->first, "a mailbox is freed with mail in it");
    mailbox->loop->mailbox = NULL;
    free(mailbox);
}

static bool is_among(const struct mail *mail, const struct mail *first)
{
    while (first && first != mail) {
        first = first->next;
    }
    return first != NULL;
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    HOLDS(!is_among(mail, mailbox->first), "mail of kind %d is posted a second time", mail->kind);
    mail->next = NULL;
    *mailbox->end = mail;
    mailbox->end = &mail->next;
    loop_wake(mailbox->loop);
}

bool loop_has_mail(const struct loop *loop, const struct mail *mail)
{
    const struct mailbox *mailbox = loop->mailbox;
    return mailbox && (is_among(mail, mailbox->first) || is_among(mail, mailbox->batch));
}

bool loop_first_handshake(struct loop *loop)
{
    bool first = loop->handshake_in != loop->turn;
    loop->handshake_in = loop->turn;
    return first;
}

bool loop_mailbox_is_empty(const struct loop *loop)
{
    return !loop->mailbox || (!loop->mailbox->first && !loop->mailbox->batch);
}
