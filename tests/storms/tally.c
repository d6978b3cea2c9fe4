// SPDX-License-Identifier: Apache-2.0

#include "tally.h"

#include <math.h>

#include "policy/memory.h"

#define RECOVERED 0.95
#define RECOVERY_WINDOW_US S

void tally_fini(struct tally *tally)
{
    free(tally->waits_us);
}

void tally_wait(struct tally *tally, int64_t waited_us)
{
    if (tally->waits == tally->waits_room) {
        tally->waits_room = tally->waits_room ? tally->waits_room * 2 : 4096;
        tally->waits_us = memory_resize(tally->waits_us, tally->waits_room, sizeof(int64_t));
    }
    tally->waits_us[tally->waits++] = waited_us;
}

// FNV-1a, a step a fact.
void tally_digest(struct tally *tally, int64_t now_us, int what)
{
    tally->digest = (tally->digest ^ (uint64_t)now_us) * UINT64_C(0x100000001b3);
    tally->digest = (tally->digest ^ (uint64_t)what) * UINT64_C(0x100000001b3);
}

static int sum(const int *of_kind, int kind)
{
    int total = 0;
    for (int i = 0; i < KINDS; i++) {
        total += kind == -1 || kind == i ? of_kind[i] : 0;
    }
    return total;
}

#define SUM_OVER(what)                                                                             \
    int tally_##what(const struct tally *tally, int kind, int64_t from_us, int64_t until_us)       \
    {                                                                                              \
        int total = 0;                                                                             \
        for (int64_t i = from_us / BUCKET_US; i < until_us / BUCKET_US; i++) {                     \
            total += sum(tally->buckets[i].what, kind);                                            \
        }                                                                                          \
        return total;                                                                              \
    }

SUM_OVER(offered)
SUM_OVER(good)
SUM_OVER(lost)

double tally_goodput(const struct tally *tally, double cores, int64_t from_us, int64_t until_us)
{
    double work_us = 0;
    for (int64_t i = from_us / BUCKET_US; i < until_us / BUCKET_US; i++) {
        work_us += tally->buckets[i].good_work_us;
    }
    return work_us / (cores * (double)(until_us - from_us));
}

static int by_value(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

double tally_wait_ms(struct tally *tally, double quantile)
{
    if (tally->waits == 0) {
        return NAN;
    }
    qsort(tally->waits_us, tally->waits, sizeof(int64_t), by_value);
    size_t rank = (size_t)ceil(quantile * (double)tally->waits) - 1;
    return (double)tally->waits_us[rank] / 1000;
}

double tally_recovery_s(const struct tally *tally, int64_t at_us, int64_t ends_us)
{
    for (int64_t from_us = at_us; from_us + RECOVERY_WINDOW_US <= ends_us; from_us += BUCKET_US) {
        int64_t until_us = from_us + RECOVERY_WINDOW_US;
        if (tally_good(tally, -1, from_us, until_us) >=
            RECOVERED * tally_offered(tally, -1, from_us, until_us)) {
            return (double)(from_us - at_us) / S;
        }
    }
    return -1;
}

double tally_share(const struct tally *tally, int first, int count)
{
    double offered = 0;
    double good = 0;
    for (int i = first; i < first + count; i++) {
        offered += tally->tenant_offered[i];
        good += tally->tenant_good[i];
    }
    return good / offered;
}

double tally_least_share(const struct tally *tally, int first, int count)
{
    double least = 1;
    for (int i = first; i < first + count; i++) {
        if (tally->tenant_offered[i] > 0) {
            least = fmin(least, (double)tally->tenant_good[i] / tally->tenant_offered[i]);
        }
    }
    return least;
}

double tally_limit(const struct tally *tally, int64_t from_us, int64_t until_us)
{
    double total = 0;
    for (int64_t i = from_us / BUCKET_US; i < until_us / BUCKET_US; i++) {
        total += tally->buckets[i].limit;
    }
    return total / (double)((until_us - from_us) / BUCKET_US);
}
