// SPDX-License-Identifier: Apache-2.0
//
// The loop on libev's epoll backend.
//
// Timers: libev keeps them in a heap, which a deadline per request would stir at each request. So a
// timer that is moved later, or to never, stays where it is in the heap, fires early, and is then
// set to what was asked last. Invariant: armed_us <= at_us.
//
// Descriptors: libev leaves one that it no longer watches in the epoll set until it hears of it
// again. For a socket that another loop has taken over this would be a wake-up for nothing, and an
// epoll_ctl for a number that may mean another socket by then. So such a one is taken out at once.
//
// Mailbox: a stack that any thread pushes on and the loop takes as a whole and turns around. Only
// who pushes on an empty one wakes the loop.
//
//      post: newest -> c -> b -> a          deliver: a, b, c

#include "proxy/net/loop.h"

#include <assert.h>
#include <ev.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proxy/mem.h"
#include "proxy/net/loop_ev.h"

enum { DESCRIPTORS_MAX = 1 << 20 };

struct loop {
    struct ev_loop *ev;
    int epoll_fd; // owned by libev
    ev_prepare prepare;
    void (*turn_end)(void *arg);
    void *turn_end_arg;
    bool stopped;
};

static void loop_turn_ended(const struct loop *loop)
{
    if (loop->turn_end != NULL) {
        loop->turn_end(loop->turn_end_arg);
    }
}

static void loop_prepared(struct ev_loop *ev, ev_prepare *prepare, int events)
{
    (void)ev;
    (void)events;
    loop_turn_ended(prepare->data);
}

static void probe_ready(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev;
    (void)io;
    (void)events;
}

static bool epoll_holds(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0;
}

// libev does not tell its epoll descriptor: it is the one that holds what libev watches. Likely it
// is next to one that was opened just after it.
static int epoll_find(struct ev_loop *ev)
{
    int probe = eventfd(0, EFD_CLOEXEC);
    if (probe < 0) {
        abort();
    }
    ev_io io;
    ev_io_init(&io, probe_ready, probe, EV_READ);
    ev_io_start(ev, &io);
    ev_run(ev, EVRUN_NOWAIT);
    int found = -1;
    for (int i = 1; i < DESCRIPTORS_MAX && found < 0; i++) {
        if (epoll_holds(probe - i, probe)) {
            found = probe - i;
        } else if (epoll_holds(probe + i, probe)) {
            found = probe + i;
        }
    }
    assert(found >= 0);
    ev_io_stop(ev, &io);
    close(probe);
    return found;
}

struct loop *loop_new(void)
{
    struct loop *loop = xcalloc(1, sizeof *loop);
    loop->ev = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
    if (loop->ev == NULL) {
        abort();
    }
    loop->epoll_fd = epoll_find(loop->ev);
    ev_prepare_init(&loop->prepare, loop_prepared);
    loop->prepare.data = loop;
    ev_prepare_start(loop->ev, &loop->prepare);
    return loop;
}

void loop_free(struct loop *loop)
{
    ev_prepare_stop(loop->ev, &loop->prepare);
    ev_loop_destroy(loop->ev);
    free(loop);
}

void loop_run(struct loop *loop)
{
    if (!loop->stopped) {
        ev_run(loop->ev, 0);
    }
    loop->stopped = false;
    loop_turn_ended(loop);
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
    ev_break(loop->ev, EVBREAK_ONE);
}

int64_t loop_now_us(const struct loop *loop)
{
    (void)loop;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void loop_on_turn_end(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    loop->turn_end = fn;
    loop->turn_end_arg = arg;
}

struct ev_loop *loop_ev(const struct loop *loop)
{
    return loop->ev;
}

void loop_forget_fd(const struct loop *loop, int fd)
{
    // Fails when it had not come to the set yet.
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

struct timer {
    ev_timer watcher;
    struct loop *loop;
    void (*fn)(void *arg);
    void *arg;
    int64_t at_us;
    int64_t armed_us;
};

static void timer_arm(struct timer *timer)
{
    struct ev_loop *ev = timer->loop->ev;
    // libev counts from the time it knows, which is that of the turn's begin.
    ev_now_update(ev);
    int64_t now_us = loop_now_us(timer->loop);
    double after_s = timer->at_us > now_us ? (double)(timer->at_us - now_us) / 1e6 : 0;
    ev_timer_stop(ev, &timer->watcher);
    ev_timer_set(&timer->watcher, after_s, 0.);
    ev_timer_start(ev, &timer->watcher);
    timer->armed_us = timer->at_us;
}

static void timer_fired(struct ev_loop *ev, ev_timer *watcher, int events)
{
    (void)ev;
    (void)events;
    struct timer *timer = watcher->data;
    timer->armed_us = INT64_MAX;
    if (timer->at_us == INT64_MAX) {
        return;
    }
    if (timer->at_us > loop_now_us(timer->loop)) {
        timer_arm(timer);
        return;
    }
    timer->at_us = INT64_MAX;
    timer->fn(timer->arg); // may free the timer
}

struct timer *timer_new(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct timer *timer = xcalloc(1, sizeof *timer);
    timer->loop = loop;
    timer->fn = fn;
    timer->arg = arg;
    timer->at_us = INT64_MAX;
    timer->armed_us = INT64_MAX;
    ev_timer_init(&timer->watcher, timer_fired, 0., 0.);
    ev_set_priority(&timer->watcher, TURN_TIMERS);
    timer->watcher.data = timer;
    return timer;
}

void timer_free(struct timer *timer)
{
    if (timer == NULL) {
        return;
    }
    ev_timer_stop(timer->loop->ev, &timer->watcher);
    free(timer);
}

void timer_set(struct timer *timer, int64_t at_us)
{
    timer->at_us = at_us;
    if (at_us < timer->armed_us) {
        timer_arm(timer);
    }
}

struct mailbox {
    ev_async wake;
    struct loop *loop;
    _Atomic(struct mail *) newest;
    void (*deliver)(void *arg, struct mail *mail);
    void *arg;
};

static struct mail *mail_reverse(struct mail *newest)
{
    struct mail *oldest = NULL;
    while (newest != NULL) {
        struct mail *older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    return oldest;
}

static void mailbox_woken(struct ev_loop *ev, ev_async *wake, int events)
{
    (void)ev;
    (void)events;
    struct mailbox *mailbox = wake->data;
    struct mail *mail = atomic_exchange_explicit(&mailbox->newest, NULL, memory_order_acquire);
    mail = mail_reverse(mail);
    while (mail != NULL) {
        struct mail *next = mail->next;
        mailbox->deliver(mailbox->arg, mail);
        mail = next;
    }
}

struct mailbox *mailbox_new(struct loop *loop, void (*deliver)(void *arg, struct mail *mail),
                            void *arg)
{
    struct mailbox *mailbox = xcalloc(1, sizeof *mailbox);
    mailbox->loop = loop;
    mailbox->deliver = deliver;
    mailbox->arg = arg;
    atomic_init(&mailbox->newest, NULL);
    ev_async_init(&mailbox->wake, mailbox_woken);
    ev_set_priority(&mailbox->wake, TURN_MAIL);
    mailbox->wake.data = mailbox;
    ev_async_start(loop->ev, &mailbox->wake);
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (mailbox == NULL) {
        return;
    }
    assert(atomic_load(&mailbox->newest) == NULL);
    ev_async_stop(mailbox->loop->ev, &mailbox->wake);
    free(mailbox);
}

void mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
    struct mail *newest = atomic_load_explicit(&mailbox->newest, memory_order_relaxed);
    do {
        mail->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->newest, &newest, mail,
                                                    memory_order_release, memory_order_relaxed));
    // The loop empties the box before it delivers, so whoever found mail in it found a loop that
    // has yet to look.
    if (newest == NULL) {
        ev_async_send(mailbox->loop->ev, &mailbox->wake);
    }
}
