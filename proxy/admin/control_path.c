// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/control_path.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool control_directory(char ret_path[CONTROL_PATH_BYTES])
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    uid_t uid = geteuid();
    int length;
    if (uid == 0) {
        length = snprintf(ret_path, CONTROL_PATH_BYTES, "/run/weir");
    } else if (runtime && runtime[0] == '/') {
        length = snprintf(ret_path, CONTROL_PATH_BYTES, "%s/weir", runtime);
    } else {
        length = snprintf(ret_path, CONTROL_PATH_BYTES, "/tmp/weir-%u", (unsigned)uid);
    }
    return length < CONTROL_PATH_BYTES;
}

bool control_path_of_port(int port, char ret_path[CONTROL_PATH_BYTES])
{
    char directory[CONTROL_PATH_BYTES];
    return control_directory(directory) && snprintf(ret_path, CONTROL_PATH_BYTES, "%s/%d.sock",
                                                    directory, port) < CONTROL_PATH_BYTES;
}

void control_make_directory(void)
{
    char directory[CONTROL_PATH_BYTES];
    if (control_directory(directory)) {
        (void)mkdir(directory, 0700); // what is there instead is judged by control_path_is_safe
    }
}

static bool is_ours(const struct stat *file)
{
    return file->st_uid == geteuid() || file->st_uid == 0;
}

static bool refuse(char *ret_error, const char *path, const char *what)
{
    snprintf(ret_error, CONTROL_ERROR_BYTES, "%.160s: %s", path, what);
    return false;
}

static bool directory_is_safe(const char *path, bool is_last, char *error)
{
    struct stat file;
    if (lstat(path, &file) != 0) {
        return refuse(error, path, strerror(errno));
    }
    if (!S_ISDIR(file.st_mode)) {
        return refuse(error, path, "is no directory");
    }
    if (!is_ours(&file)) {
        return refuse(error, path, "belongs to somebody else");
    }
    bool sticky = (file.st_mode & S_ISVTX) && !is_last;
    if ((file.st_mode & (S_IWGRP | S_IWOTH)) && !sticky) {
        return refuse(error, path, "others may write to it");
    }
    return true;
}

// The directory of the socket, without links. False: there is none.
static bool find_directory(const char *path, char ret_directory[PATH_MAX])
{
    char given[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    snprintf(given, sizeof given, "%.*s", (int)length, path);
    return realpath(length > 0 ? given : slash ? "/" : ".", ret_directory) != NULL;
}

bool control_path_is_safe(const char *path, char ret_error[CONTROL_ERROR_BYTES])
{
    char directory[PATH_MAX];
    if (!find_directory(path, directory)) {
        return refuse(ret_error, path, strerror(errno));
    }
    if (!directory_is_safe(directory, true, ret_error)) {
        return false;
    }
    for (char *slash = strrchr(directory, '/'); slash; slash = strrchr(directory, '/')) {
        *slash = '\0';
        if (!directory_is_safe(slash > directory ? directory : "/", false, ret_error)) {
            return false;
        }
    }
    struct stat file;
    if (lstat(path, &file) != 0) {
        return true; // not there yet
    }
    if (!S_ISSOCK(file.st_mode)) {
        return refuse(ret_error, path, "is there, and no socket");
    }
    return is_ours(&file) || refuse(ret_error, path, "belongs to somebody else");
}
