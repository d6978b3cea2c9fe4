// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/sim_fiber.h"

#include <assert.h>
#include <stdlib.h>
#include <ucontext.h>

#include "proxy/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES (1024 * 1024)
#else
#define STACK_BYTES (192 * 1024)
#endif

struct fiber {
    ucontext_t context;
    void (*run)(void *arg);
    void *arg;
    bool ended;
    void *fake_stack;
    struct fiber *next; // spare
    _Alignas(64) char stack[STACK_BYTES];
};

static struct fiber *current;
static struct fiber *spare;
static ucontext_t outside;

#ifdef WITH_ASAN
static void *outside_fake;
static const void *outside_stack;
static size_t outside_bytes;
#endif

static void enter(struct fiber *fiber)
{
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &outside_stack, &outside_bytes);
#else
    (void)fiber;
#endif
}

static void leave(struct fiber *fiber)
{
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(fiber->ended ? NULL : &fiber->fake_stack, outside_stack,
                                   outside_bytes);
#endif
    swapcontext(&fiber->context, &outside);
}

static void fiber_main(void)
{
    enter(current);
    current->run(current->arg);
    current->ended = true;
    leave(current);
}

static void prepare(struct fiber *fiber)
{
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = sizeof fiber->stack;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, fiber_main, 0);
}

// Stacks are kept for the next seed: they are large, and no part of what weir takes.
static struct fiber *take_spare(void)
{
    struct fiber *fiber = spare;
    if (fiber) {
        spare = fiber->next;
    } else {
        fiber = aligned_alloc(64, (sizeof *fiber + 63) / 64 * 64);
        assert(fiber);
    }
    return fiber;
}

struct fiber *fiber_new(void (*run)(void *arg), void *arg)
{
    struct fiber *const fiber = take_spare();
    fiber->run = run;
    fiber->arg = arg;
    fiber->ended = false;
    fiber->fake_stack = NULL;
    prepare(fiber);
    return fiber;
}

void fiber_free(struct fiber *fiber)
{
    fiber->next = spare;
    spare = fiber;
}

void fiber_resume(struct fiber *fiber)
{
    assert(!current && !fiber->ended);
    current = fiber;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&outside_fake, fiber->stack, sizeof fiber->stack);
#endif
    swapcontext(&outside, &fiber->context);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(outside_fake, NULL, NULL);
#endif
    current = NULL;
}

bool fiber_has_ended(const struct fiber *fiber)
{
    return fiber->ended;
}

void fiber_pause(void)
{
    leave(current);
    enter(current); // which is this fiber again
}

void *fiber_current(void)
{
    return current ? current->arg : NULL;
}
