// SPDX-License-Identifier: Apache-2.0

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/guard.h"
#include "wire/crc32c.h"

// RFC 3720, appendix B.4, and the check value that catalogues of CRCs give for "123456789".
static void the_vectors_of_the_rfc(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0};
    uint8_t ones[32];
    uint8_t up[32];
    uint8_t down[32];
    for (size_t i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    static const uint8_t read_pdu[48] = {
        0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2,    0, 0, 0, 0, 0, 0, 0,
    };
    static const uint8_t digits[] = "123456789";
    const struct {
        struct bytes bytes;
        uint32_t crc;
    } cases[] = {
        {{zeros, 32}, 0x8a9136aa},
        {{ones, 32}, 0x62a8ab43},
        {{up, 32}, 0x46dd794e},
        {{down, 32}, 0x113fdb5c},
        {{read_pdu, 48}, 0xd9963a56},
        {{digits, 9}, 0xe3069283},
        {{NULL, 0}, 0},
    };
    struct guard guard = guard_new(64);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = cases[i].bytes.len;
        const uint8_t *at = guard_lay(&guard, cases[i].bytes.at, len);
        assert_int_equal(crc32c((struct bytes){at, len}), cases[i].crc);
    }
    guard_free(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_vectors_of_the_rfc)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
