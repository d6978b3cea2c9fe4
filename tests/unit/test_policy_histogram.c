// SPDX-License-Identifier: Apache-2.0
//
// A bucket's edges are not public: they are found by recording one value in an empty histogram,
// with a larger one beside it so that max does not cut the answer.

#include "test_policy.h"

#include <stdlib.h>
#include <string.h>

#include "policy/histogram.h"

#define TOP ((INT64_C(1) << HISTOGRAM_MAX_BITS) - 1)

// What the histogram makes of a value: the upper edge of its bucket.
static int64_t read_back(int64_t value)
{
    static struct histogram histogram;
    memset(&histogram, 0, sizeof(histogram));
    histogram_record(&histogram, value);
    histogram_record(&histogram, TOP);
    return histogram_quantile(&histogram, 0.5);
}

static void is_empty_at_first(void **state)
{
    (void)state;
    static struct histogram histogram;
    assert_int_equal(histogram_quantile(&histogram, 0), 0);
    assert_int_equal(histogram_quantile(&histogram, 1), 0);
}

// Walks all buckets from edge to edge: each ends where the next begins, there are as many as there
// is room for, and at its worst value, the lowest, the answer is at most 1/32 too high.
static void no_answer_is_too_low_or_more_than_a_32nd_too_high(void **state)
{
    (void)state;
    int buckets = 0;
    for (int64_t lowest = 0; lowest <= TOP; buckets++) {
        int64_t edge = read_back(lowest);
        assert_true(edge >= lowest);
        assert_true(lowest < 64 ? edge == lowest : (edge - lowest) * 32 <= lowest);
        assert_int_equal(read_back(edge), edge);
        assert_int_equal(read_back(lowest + (edge - lowest) / 2), edge);
        lowest = edge + 1;
    }
    assert_int_equal(buckets, HISTOGRAM_BUCKETS);
}

static void cuts_what_is_out_of_range(void **state)
{
    (void)state;
    static const struct {
        int64_t value;
        int64_t counts_as;
    } table[] = {
        {-1, 0},    {INT64_MIN, 0}, {0, 0},           {TOP - 1, TOP - 1},
        {TOP, TOP}, {TOP + 1, TOP}, {INT64_MAX, TOP},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct histogram histogram = {0};
        histogram_record(&histogram, table[i].value);
        assert_int_equal(histogram.count, 1);
        assert_int_equal(histogram.max, table[i].counts_as);
        assert_int_equal(histogram.sum, table[i].counts_as);
        assert_int_equal(histogram_quantile(&histogram, 0.5), table[i].counts_as);
    }
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

#define VALUES 5000

// Of all magnitudes alike.
static int64_t random_value(struct chance *chance)
{
    return (int64_t)(chance_next(chance) >> (24 + chance_below(chance, 40)));
}

// Against the sorted values themselves, for every per mille. 1000 divides the number of values, so
// the rank is a whole number and no rounding can excuse a miss; 0 asks for the least.
static void quantiles_are_those_of_the_sorted_values(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct chance chance = {.state = seed};
        struct histogram histogram = {0};
        int64_t values[VALUES];
        uint64_t sum = 0;
        for (int i = 0; i < VALUES; i++) {
            values[i] = random_value(&chance);
            sum += (uint64_t)values[i];
            histogram_record(&histogram, values[i]);
        }
        qsort(values, VALUES, sizeof(values[0]), compare);
        assert_int_equal(histogram.count, VALUES);
        assert_int_equal(histogram.sum, sum);
        assert_int_equal(histogram.max, values[VALUES - 1]);
        for (int mille = 0; mille <= 1000; mille++) {
            int rank = mille == 0 ? 1 : mille * (VALUES / 1000);
            int64_t exact = values[rank - 1];
            int64_t next = values[rank < VALUES ? rank : VALUES - 1];
            int64_t read = histogram_quantile(&histogram, mille / 1000.0);
            int64_t edge = read_back(exact);
            int64_t edge_of_next = read_back(next); // mille / 1000.0 may be a hair too high
            assert_true(read == edge || read == edge_of_next || read == histogram.max);
            assert_true(read >= exact && read <= histogram.max);
            assert_true(read * 32 <= exact * 33 || read == edge_of_next);
        }
        assert_int_equal(histogram_quantile(&histogram, 1), values[VALUES - 1]);
    }
}

static void a_quantile_is_the_least_value_with_enough_below_it(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    for (int64_t value = 1; value <= 4; value++) {
        histogram_record(&histogram, value);
    }
    static const struct {
        double quantile;
        int64_t value;
    } table[] = {
        {0, 1}, {0.25, 1}, {0.26, 2}, {0.5, 2}, {0.51, 3}, {0.75, 3}, {0.76, 4}, {1, 4},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(histogram_quantile(&histogram, table[i].quantile), table[i].value);
    }
}

// Recorded in parts and merged, it is the same as recorded in one.
static void merges(void **state)
{
    (void)state;
    struct chance chance = {.state = 9};
    struct histogram whole = {0};
    struct histogram parts[4] = {0};
    for (int i = 0; i < VALUES; i++) {
        int64_t value = random_value(&chance);
        histogram_record(&whole, value);
        histogram_record(&parts[chance_below(&chance, 3)], value); // the last one stays empty
    }
    struct histogram merged = {0};
    for (int i = 0; i < 4; i++) {
        histogram_merge(&merged, &parts[i]);
    }
    assert_memory_equal(&merged, &whole, sizeof(whole));
}

// More in one bucket than 32 bits can count: a day of a busy server.
static void counts_beyond_32_bits(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    histogram_record(&histogram, 5);
    for (int i = 0; i < 34; i++) {
        struct histogram same = histogram;
        histogram_merge(&histogram, &same);
    }
    histogram_record(&histogram, 7);
    assert_int_equal(histogram.count, (UINT64_C(1) << 34) + 1);
    assert_int_equal(histogram_quantile(&histogram, 0.999), 5);
    assert_int_equal(histogram_quantile(&histogram, 1), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_empty_at_first),
        cmocka_unit_test(no_answer_is_too_low_or_more_than_a_32nd_too_high),
        cmocka_unit_test(cuts_what_is_out_of_range),
        cmocka_unit_test(quantiles_are_those_of_the_sorted_values),
        cmocka_unit_test(a_quantile_is_the_least_value_with_enough_below_it),
        cmocka_unit_test(merges),
        cmocka_unit_test(counts_beyond_32_bits),
    };
    return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
