// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/net/loop.h"
#include "proxy/net/stream.h"

// What happened, one letter each.
struct diary {
    struct loop *loop;
    char text[64];
    size_t len;
    size_t ends; // stops the loop when it is that long
    int64_t at_us[64];
};

struct entry {
    struct diary *diary;
    char letter;
    struct timer *timer;
};

static void diary_note(struct diary *diary, char letter)
{
    assert_true(diary->len + 1 < sizeof diary->text);
    diary->at_us[diary->len] = loop_now_us(diary->loop);
    diary->text[diary->len++] = letter;
    if (diary->len == diary->ends) {
        loop_stop(diary->loop);
    }
}

static void entry_note(void *arg)
{
    struct entry *entry = arg;
    diary_note(entry->diary, entry->letter);
}

static void entries_init(struct entry *entries, size_t count, struct diary *diary)
{
    for (size_t i = 0; i < count; i++) {
        entries[i] = (struct entry){.diary = diary, .letter = (char)('a' + i)};
        entries[i].timer = timer_new(diary->loop, entry_note, &entries[i]);
    }
}

static void entries_fini(struct entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        timer_free(entries[i].timer);
    }
}

static void timers_fire_in_order(void **state)
{
    (void)state;
    static const int64_t after_us[] = {30000, 10000, 20000, 40000};
    struct diary diary = {.loop = loop_new(), .ends = 4};
    struct entry entries[4];
    entries_init(entries, 4, &diary);
    int64_t now_us = loop_now_us(diary.loop);
    for (size_t i = 0; i < 4; i++) {
        timer_set(entries[i].timer, now_us + after_us[i]);
    }
    loop_run(diary.loop);
    assert_string_equal(diary.text, "bcad");
    for (size_t i = 0; i < 4; i++) {
        assert_true(diary.at_us[i] >= now_us + after_us[diary.text[i] - 'a']);
    }
    entries_fini(entries, 4);
    loop_free(diary.loop);
}

// a: earlier, b: later, c: never, d: never and then again, e: stays, f: by the past. A machine that
// stalls may see several due at once, so what counts is that each fires once, and not too early.
static void timers_are_replaced(void **state)
{
    (void)state;
    static const int64_t after_us[] = {10000, 60000, INT64_MAX, 45000, 30000, -1000000};
    struct diary diary = {.loop = loop_new(), .ends = 5};
    struct entry entries[6];
    entries_init(entries, 6, &diary);
    int64_t now_us = loop_now_us(diary.loop);
    for (size_t i = 0; i < 6; i++) {
        timer_set(entries[i].timer, now_us + 30000);
    }
    timer_set(entries[0].timer, now_us + 10000);
    timer_set(entries[1].timer, now_us + 60000);
    timer_set(entries[2].timer, INT64_MAX);
    timer_set(entries[3].timer, INT64_MAX);
    timer_set(entries[3].timer, now_us + 45000);
    timer_set(entries[5].timer, now_us - 1000000);
    loop_run(diary.loop);
    assert_int_equal(diary.text[0], 'f');
    for (size_t i = 0; i < 5; i++) {
        assert_null(strchr(diary.text + i + 1, diary.text[i]));
        assert_int_not_equal(diary.text[i], 'c');
        assert_true(diary.at_us[i] >= now_us + after_us[diary.text[i] - 'a']);
    }
    entries_fini(entries, 6);
    loop_free(diary.loop);
}

struct postponed {
    struct diary *diary;
    struct timer *victim;
    struct timer *self;
    int left;
    int64_t last_us;
};

static void postponed_tick(void *arg)
{
    struct postponed *postponed = arg;
    int64_t now_us = loop_now_us(postponed->diary->loop);
    assert_int_equal(postponed->diary->len, 0);
    bool last = --postponed->left == 0;
    timer_set(postponed->victim, now_us + (last ? 20000 : 10000000));
    if (last) {
        postponed->last_us = now_us;
    } else {
        timer_set(postponed->self, now_us + 2000);
    }
}

// As a deadline is with each request that comes in time: the first time set is long past when it
// fires.
static void timer_moved_later_again_and_again(void **state)
{
    (void)state;
    struct diary diary = {.loop = loop_new(), .ends = 1};
    struct entry victim;
    entries_init(&victim, 1, &diary);
    struct postponed postponed = {.diary = &diary, .victim = victim.timer, .left = 20};
    postponed.self = timer_new(diary.loop, postponed_tick, &postponed);
    int64_t now_us = loop_now_us(diary.loop);
    timer_set(postponed.self, now_us);
    timer_set(victim.timer, now_us + 10000);
    loop_run(diary.loop);
    assert_int_equal(postponed.left, 0);
    assert_true(diary.at_us[0] >= postponed.last_us + 20000);
    timer_free(postponed.self);
    entries_fini(&victim, 1);
    loop_free(diary.loop);
}

static void entry_free_itself(void *arg)
{
    struct entry *entry = arg;
    timer_free(entry->timer);
    diary_note(entry->diary, entry->letter);
}

static void timer_freed_by_its_own_call(void **state)
{
    (void)state;
    struct diary diary = {.loop = loop_new(), .ends = 1};
    struct entry entry = {.diary = &diary, .letter = 'x'};
    entry.timer = timer_new(diary.loop, entry_free_itself, &entry);
    timer_set(entry.timer, 0);
    loop_run(diary.loop);
    assert_string_equal(diary.text, "x");
    loop_free(diary.loop);
}

static void note_turn_end(void *arg)
{
    diary_note(arg, '.');
}

static void stop_before_run_runs_no_turn(void **state)
{
    (void)state;
    struct diary diary = {.loop = loop_new()};
    loop_on_turn_end(diary.loop, note_turn_end, &diary);
    loop_stop(diary.loop);
    loop_run(diary.loop);
    assert_string_equal(diary.text, ".");
    loop_free(diary.loop);
}

struct turn {
    struct diary diary;
    struct mailbox *mailbox;
    struct mail mail[3];
    struct entry late;
    struct entry now;
    struct stream *stream;
};

static void turn_mail(void *arg, struct mail *mail)
{
    struct turn *turn = arg;
    diary_note(&turn->diary, (char)mail->kind);
}

static void turn_stream(void *arg, unsigned directions)
{
    struct turn *turn = arg;
    (void)directions;
    diary_note(&turn->diary, 's');
    stream_watch(turn->stream, 0);
}

// Makes everything ready at once, in the order that is not that of a turn.
static void turn_begin(void *arg)
{
    struct turn *turn = arg;
    diary_note(&turn->diary, 'b');
    stream_watch(turn->stream, STREAM_READ);
    timer_set(turn->now.timer, 0);
    for (int i = 0; i < 3; i++) {
        turn->mail[i].kind = '1' + i;
        mailbox_post(turn->mailbox, &turn->mail[i]);
    }
}

static void turn_goes_mail_timers_streams_end(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct turn turn = {.diary = {.loop = loop_new(), .ends = 9}};
    struct loop *loop = turn.diary.loop;
    turn.mailbox = mailbox_new(loop, turn_mail, &turn);
    turn.now = (struct entry){.diary = &turn.diary, .letter = 't'};
    turn.now.timer = timer_new(loop, entry_note, &turn.now);
    struct timer *begin = timer_new(loop, turn_begin, &turn);
    turn.stream =
        stream_accept(loop, fds[0], NULL, true, (struct stream_handler){turn_stream, &turn});
    stream_watch(turn.stream, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_on_turn_end(loop, note_turn_end, &turn.diary);
    timer_set(begin, 0);
    loop_run(loop);
    // The first end is that of a turn in which nothing happened; the last one is that of loop_run.
    assert_string_equal(turn.diary.text, ".b.123ts..");
    timer_free(begin);
    timer_free(turn.now.timer);
    stream_free(turn.stream);
    mailbox_free(turn.mailbox);
    loop_free(loop);
    close(fds[1]);
}

enum { POSTERS = 4, MAILS = 100000 };

struct numbered {
    struct mail mail;
    int number;
};

struct office {
    struct loop *loop;
    struct mailbox *mailbox;
    pthread_t thread;
    int next[POSTERS];
    int total;
};

struct poster {
    pthread_t thread;
    struct office *office;
    int number;
    struct numbered *mails;
};

static void office_deliver(void *arg, struct mail *mail)
{
    struct office *office = arg;
    struct numbered *numbered = (struct numbered *)mail;
    assert_true(pthread_equal(pthread_self(), office->thread));
    assert_int_equal(numbered->number, office->next[mail->kind]);
    office->next[mail->kind]++;
    if (++office->total == POSTERS * MAILS) {
        loop_stop(office->loop);
    }
}

static void *poster_run(void *arg)
{
    struct poster *poster = arg;
    for (int i = 0; i < MAILS; i++) {
        struct numbered *mail = &poster->mails[i];
        *mail = (struct numbered){.mail.kind = poster->number, .number = i};
        mailbox_post(poster->office->mailbox, &mail->mail);
    }
    return NULL;
}

static void mail_of_four_threads_comes_in_order(void **state)
{
    (void)state;
    struct office office = {.loop = loop_new(), .thread = pthread_self()};
    struct poster posters[POSTERS];
    office.mailbox = mailbox_new(office.loop, office_deliver, &office);
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.office = &office, .number = i};
        posters[i].mails = test_malloc(MAILS * sizeof *posters[i].mails);
        pthread_create(&posters[i].thread, NULL, poster_run, &posters[i]);
    }
    loop_run(office.loop);
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(office.next[i], MAILS);
        test_free(posters[i].mails);
    }
    mailbox_free(office.mailbox);
    loop_free(office.loop);
}

// Two loops that send one mail to and fro: each post finds the other one asleep.
struct player {
    struct loop *loop;
    struct mailbox *mailbox;
    struct player *other;
    int left;
};

static void player_deliver(void *arg, struct mail *mail)
{
    struct player *player = arg;
    if (player->left-- == 0 || mail->kind == 1) {
        loop_stop(player->loop);
        if (mail->kind == 1) {
            return;
        }
        mail->kind = 1;
    }
    mailbox_post(player->other->mailbox, mail);
}

static void *player_run(void *arg)
{
    struct player *player = arg;
    loop_run(player->loop);
    return NULL;
}

static void mail_wakes_a_sleeping_loop(void **state)
{
    (void)state;
    struct player players[2];
    struct mail ball = {.kind = 0};
    for (int i = 0; i < 2; i++) {
        players[i] = (struct player){.loop = loop_new(), .other = &players[1 - i], .left = 20000};
        players[i].mailbox = mailbox_new(players[i].loop, player_deliver, &players[i]);
    }
    pthread_t thread;
    pthread_create(&thread, NULL, player_run, &players[1]);
    mailbox_post(players[0].mailbox, &ball);
    loop_run(players[0].loop);
    pthread_join(thread, NULL);
    for (int i = 0; i < 2; i++) {
        mailbox_free(players[i].mailbox);
        loop_free(players[i].loop);
    }
}

int main(void)
{
    alarm(300);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(timers_are_replaced),
        cmocka_unit_test(timer_moved_later_again_and_again),
        cmocka_unit_test(timer_freed_by_its_own_call),
        cmocka_unit_test(stop_before_run_runs_no_turn),
        cmocka_unit_test(turn_goes_mail_timers_streams_end),
        cmocka_unit_test(mail_of_four_threads_comes_in_order),
        cmocka_unit_test(mail_wakes_a_sleeping_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
