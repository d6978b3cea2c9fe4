// SPDX-License-Identifier: Apache-2.0

#include "proxy/admin/control_client.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ERROR_BYTES CONTROL_CLIENT_ERROR_BYTES

enum {
    PATIENCE_S = 10,
    UPGRADE_S = 90,
    PIECE_BYTES = 65536,
    ANSWER_BYTES = 1 << 28,
    WEIRS_MAX = 64
};

// Another process may take a minute until it is ready: then weir itself gives it up.
static int patience_for(const bson_t *order)
{
    bson_iter_t iter;
    bool upgrades = bson_iter_init_find(&iter, order, "order") && BSON_ITER_HOLDS_UTF8(&iter) &&
                    strcmp(bson_iter_utf8(&iter, NULL), "upgrade") == 0;
    return upgrades ? UPGRADE_S : PATIENCE_S;
}

// -1 with errno.
static int connect_to(const char *path, int patience_s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = patience_s};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
        return fd;
    }
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

// What listens there may be somebody else's, who only waits to be asked.
static bool is_trusted(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return geteuid() == 0 || (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
                              (peer.uid == geteuid() || peer.uid == 0));
}

// --- which one ----------------------------------------------------------------------------------

// The number that a text is, but for what follows it. -1: it is not like that.
static int read_port(const char *text, const char *rest)
{
    size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 5 || strcmp(text + digits, rest) != 0) {
        return -1;
    }
    int port = (int)strtol(text, NULL, 10);
    return port <= UINT16_MAX ? port : -1;
}

// The sockets of our directory that somebody listens on, as a list of ports. Returns how many.
static int find_weirs(const char *directory, char ret_path[CONTROL_PATH_BYTES], char *ret_ports,
                      size_t size)
{
    int count = 0;
    DIR *dir = opendir(directory);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir)) && count < WEIRS_MAX) {
        char path[CONTROL_PATH_BYTES];
        int port = read_port(entry->d_name, ".sock");
        if (port < 0 || !control_path_of_port(port, path)) {
            continue;
        }
        int fd = connect_to(path, PATIENCE_S);
        if (fd >= 0) {
            size_t used = strlen(ret_ports);
            snprintf(ret_ports + used, size - used, "%s%d", count > 0 ? ", " : "", port);
            memcpy(ret_path, path, sizeof path);
            count++;
            close(fd);
        }
    }
    if (dir) {
        closedir(dir);
    }
    return count;
}

static int choose_only(char ret_path[CONTROL_PATH_BYTES], char *error)
{
    char directory[CONTROL_PATH_BYTES] = "";
    char ports[512] = "";
    if (!control_directory(directory)) {
        snprintf(error, ERROR_BYTES, "say which weir: --socket PATH");
        return EXIT_FAILURE;
    }
    int count = find_weirs(directory, ret_path, ports, sizeof ports);
    if (count == 0) {
        snprintf(error, ERROR_BYTES,
                 "no weir of yours runs (looked in %s); --socket PATH says where another one is",
                 directory);
    } else if (count > 1) {
        snprintf(error, ERROR_BYTES, "several run, on ports %s: say which by --port", ports);
    }
    return count == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int control_client_choose(const struct control_choice *choice, char ret_path[CONTROL_PATH_BYTES],
                          char ret_error[ERROR_BYTES])
{
    const char *variable = getenv("WEIR_CONTROL_SOCKET");
    variable = variable && variable[0] ? variable : NULL; // as for settings, empty is not set
    const char *given = choice->socket ? choice->socket : choice->port ? NULL : variable;
    if (given && !given[0]) {
        snprintf(ret_error, ERROR_BYTES, "--socket: must not be empty");
        return EXIT_USAGE;
    }
    if (!given && !choice->port) {
        return choose_only(ret_path, ret_error);
    }
    if (given) {
        int length = snprintf(ret_path, CONTROL_PATH_BYTES, "%s", given);
        if (length < CONTROL_PATH_BYTES) {
            return EXIT_SUCCESS;
        }
        snprintf(ret_error, ERROR_BYTES, "%.600s: too long a path", given);
        return EXIT_USAGE;
    }
    int port = read_port(choice->port, "");
    if (port >= 0 && control_path_of_port(port, ret_path)) {
        return EXIT_SUCCESS;
    }
    snprintf(ret_error, ERROR_BYTES, "--port %.60s: must be a port", choice->port);
    return EXIT_USAGE;
}

// --- asking -------------------------------------------------------------------------------------

static bool send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t sent;
        do {
            sent = send(fd, text, len, MSG_NOSIGNAL);
        } while (sent < 0 && errno == EINTR); // a terminal got another size
        if (sent <= 0) {
            return false;
        }
        text += sent;
        len -= (size_t)sent;
    }
    return true;
}

// Of the directory where each has its own, it is the port that people know.
static void say_none_listens(const char *path, int error, char ret_error[ERROR_BYTES])
{
    char directory[CONTROL_PATH_BYTES] = "";
    (void)control_directory(directory);
    size_t length = strlen(directory);
    int port = length > 0 && strncmp(path, directory, length) == 0 && path[length] == '/'
                   ? read_port(path + length + 1, ".sock")
                   : -1;
    if (port >= 0 && (error == ENOENT || error == ECONNREFUSED)) {
        snprintf(ret_error, ERROR_BYTES, "no weir of yours runs on port %d (%s: %s)", port, path,
                 strerror(error));
    } else {
        snprintf(ret_error, ERROR_BYTES, "%s: no weir listens there: %s", path, strerror(error));
    }
}

int control_client_send(const char *path, const bson_t *order, char ret_error[ERROR_BYTES])
{
    int fd = connect_to(path, patience_for(order));
    if (fd < 0) {
        say_none_listens(path, errno, ret_error);
        return -1;
    }
    if (!is_trusted(fd)) {
        snprintf(ret_error, ERROR_BYTES, "%s: somebody else listens there", path);
        close(fd);
        return -1;
    }
    char *json = bson_as_relaxed_extended_json(order, NULL);
    bool sent = send_all(fd, json, strlen(json)) && send_all(fd, "\n", 1);
    bson_free(json);
    if (!sent) {
        snprintf(ret_error, ERROR_BYTES, "%s: weir took no order", path);
        close(fd);
        return -1;
    }
    return fd;
}

bool control_client_receive(int fd, struct buffer *answer, bool *ret_over)
{
    ssize_t got;
    do {
        got = recv(fd, buffer_reserve(answer, PIECE_BYTES), PIECE_BYTES, 0);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        buffer_commit(answer, (size_t)got);
    }
    *ret_over = got <= 0 || buffer_held(answer) > ANSWER_BYTES;
    return got > 0 && buffer_at(answer)[buffer_held(answer) - 1] == '\n';
}

bool control_client_ask(const char *path, const bson_t *order, struct buffer *answer,
                        char ret_error[ERROR_BYTES])
{
    bool whole = false;
    bool over = false;
    int fd = control_client_send(path, order, ret_error);
    if (fd < 0) {
        return false;
    }
    while (!whole && !over) {
        whole = control_client_receive(fd, answer, &over);
    }
    close(fd);
    if (!whole) {
        snprintf(ret_error, ERROR_BYTES, "%s: weir gave no answer; its log may say why", path);
    }
    return whole;
}

static const char *error_of(const bson_t *answer)
{
    bson_iter_t iter;
    return bson_iter_init_find(&iter, answer, "error") && BSON_ITER_HOLDS_UTF8(&iter)
               ? bson_iter_utf8(&iter, NULL)
               : "";
}

bson_t *control_client_read(const struct buffer *answer, char ret_error[ERROR_BYTES])
{
    bson_iter_t iter;
    bson_error_t error;
    bson_t *document =
        bson_new_from_json(buffer_at(answer), (ssize_t)buffer_held(answer) - 1, &error);
    if (!document) {
        snprintf(ret_error, ERROR_BYTES, "the answer cannot be read: %s", error.message);
        return NULL;
    }
    if (bson_iter_init_find(&iter, document, "ok") && bson_iter_as_bool(&iter)) {
        return document;
    }
    snprintf(ret_error, ERROR_BYTES, "%s", error_of(document));
    bson_destroy(document);
    return NULL;
}
