// SPDX-License-Identifier: Apache-2.0
//
// Records of exhaustions as files: whole, so many at most, and nobody else's touched.

#include "proxy/admin/archive.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define NEWEST "20261124T091500Z-1"

struct place {
    char path[64];
};

static int enter(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    snprintf(place->path, sizeof place->path, "/tmp/weir-archive-XXXXXX");
    *state = place;
    return mkdtemp(place->path) ? 0 : -1;
}

static int count_files(const char *path, bool remove)
{
    int count = 0;
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            count++;
            if (remove) {
                assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
            }
        }
    }
    if (dir) {
        closedir(dir);
    }
    return count;
}

static int leave(void **state)
{
    struct place *place = *state;
    count_files(place->path, true);
    rmdir(place->path);
    free(place);
    return 0;
}

static void name_file(const struct place *place, const char *file, char ret_name[128])
{
    snprintf(ret_name, 128, "%s/%s", place->path, file);
}

static void make(const struct place *place, const char *file)
{
    char name[128];
    name_file(place, file, name);
    FILE *out = fopen(name, "w");
    assert_non_null(out);
    fclose(out);
}

static bool is_there(const struct place *place, const char *file)
{
    char name[128];
    name_file(place, file, name);
    return access(name, F_OK) == 0;
}

static void test_the_oldest_go(void **state)
{
    const struct place *place = *state;
    char file[64];
    char text[32] = "";
    for (int i = 1; i <= ARCHIVE_FILES + 9; i++) { // of one second: by number, not by letter
        snprintf(file, sizeof file, "20250101T000000Z-%d.json", i);
        make(place, file);
    }
    make(place, "20240101T000000Z-1.2.json");
    make(place, "20240101T000000Z-1.json.bak");
    make(place, "0.json");
    struct archive *archive = archive_new();
    archive_keep(archive, place->path, NEWEST, "{\"a\": 1}");
    archive_free(archive);
    assert_int_equal(count_files(place->path, false), ARCHIVE_FILES + 2);
    assert_true(is_there(place, "0.json"));
    assert_true(is_there(place, "20240101T000000Z-1.json.bak"));
    assert_false(is_there(place, "20240101T000000Z-1.2.json"));
    assert_false(is_there(place, "20250101T000000Z-10.json"));
    assert_true(is_there(place, "20250101T000000Z-11.json"));
    char name[128];
    name_file(place, NEWEST ".json", name);
    FILE *in = fopen(name, "r");
    assert_non_null(in);
    assert_true(fread(text, 1, sizeof text - 1, in) > 0);
    fclose(in);
    assert_string_equal(text, "{\"a\": 1}\n");
}

// Two weirs that write there may choose one ID in the same second.
static void test_none_takes_anothers_place(void **state)
{
    const struct place *place = *state;
    for (int i = 0; i < 2; i++) {
        struct archive *archive = archive_new();
        archive_keep(archive, place->path, NEWEST, i == 0 ? "{}" : "{\"a\": 1}");
        archive_free(archive);
    }
    assert_int_equal(count_files(place->path, false), 2);
    assert_true(is_there(place, NEWEST ".json"));
    assert_true(is_there(place, NEWEST ".2.json"));
}

static void test_what_cannot_be_written_leaves_nothing(void **state)
{
    const struct place *place = *state;
    assert_int_equal(rmdir(place->path), 0);
    struct archive *archive = archive_new();
    archive_keep(archive, place->path, NEWEST, "{}");
    archive_free(archive);
    assert_int_not_equal(access(place->path, F_OK), 0);
}

static void test_a_directory_is_tried(void **state)
{
    const struct place *place = *state;
    char name[128];
    char error[256] = "";
    assert_true(archive_check(place->path, error, sizeof error));
    assert_int_equal(count_files(place->path, false), 0);
    name_file(place, "none", name);
    assert_false(archive_check(name, error, sizeof error));
    assert_non_null(strstr(error, "none: cannot be written to: No such file or directory"));
    make(place, "file");
    name_file(place, "file", name);
    assert_false(archive_check(name, error, sizeof error));
    assert_non_null(strstr(error, "Not a directory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_oldest_go, enter, leave),
        cmocka_unit_test_setup_teardown(test_none_takes_anothers_place, enter, leave),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_written_leaves_nothing, enter, leave),
        cmocka_unit_test_setup_teardown(test_a_directory_is_tried, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
