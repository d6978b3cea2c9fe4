// SPDX-License-Identifier: Apache-2.0
//
// The command: what it was asked for, with which configuration. Everything after that is weir_run.

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/admin/ctl.h"
#include "proxy/admin/doctor.h"
#include "proxy/admin/explain_event.h"
#include "proxy/admin/plan.h"
#include "proxy/admin/state.h"
#include "proxy/config_loader.h"
#include "proxy/log.h"
#include "proxy/admin/user_command.h"
#include "proxy/net/inherited.h"
#include "proxy/succession.h"
#include "proxy/top/top.h"
#include "proxy/weir.h"

enum { EXIT_BAD_CONFIGURATION = 2 };

static bool asks_for(int argc, char *const argv[], const char *flag)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], flag) == 0) {
            return true;
        }
    }
    return false;
}

// A socket that got the number of a closed standard error would receive the log.
static void open_standard_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
}

static int refuse(const char *error)
{
    succession_refuse(error);
    fprintf(stderr, "weir: %s\n", error);
    return EXIT_BAD_CONFIGURATION;
}

static void print_version(FILE *out)
{
    fputs("weir " WEIR_VERSION "\n", out);
}

static int print(void (*what)(FILE *out))
{
    what(stdout);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int check(const struct config *config)
{
    char error[CONFIG_ERROR_BYTES];
    if (!weir_check(config, error, sizeof error)) {
        return refuse(error);
    }
    printf("%s: ok\n", config->file);
    return EXIT_SUCCESS;
}

static int run(struct weir_source source, struct app *app)
{
    signal(SIGPIPE, SIG_IGN);
    log_init((enum log_format)source.config->log_format, STDERR_FILENO);
    return weir_run(source, app);
}

// Takes --variable NAME out of the flags, of which there are `*count`.
static bool take_variable(int *count, char **flags, const char **ret_name)
{
    for (int i = 1; i < *count; i++) {
        if (strcmp(flags[i], "--variable") == 0) {
            if (i + 1 == *count || flags[i + 1][0] == '\0' || strchr(flags[i + 1], '=')) {
                return false;
            }
            *ret_name = flags[i + 1];
            memmove(&flags[i], &flags[i + 2], (size_t)(*count - i - 2) * sizeof *flags);
            *count -= 2;
            return true;
        }
    }
    return true;
}

// weir exec [--variable NAME] [FLAGS] -- CMD...: the deployment is where the app would look for it.
static int exec_main(int argc, char **argv)
{
    struct app app = {.variable = APP_URI_VARIABLE};
    int count = 1;
    while (count < argc && strcmp(argv[count], "--") != 0) {
        count++;
    }
    if (asks_for(count, argv, "--help") || asks_for(count, argv, "-h")) {
        return print(config_print_help);
    }
    if (count + 1 >= argc) {
        return refuse("exec: say what is to be run: weir exec [--variable NAME] [FLAGS] -- CMD...");
    }
    app.argv = argv + count + 1;
    if (!take_variable(&count, argv, &app.variable)) {
        return refuse("exec: --variable: needs the NAME of a variable");
    }
    config_look_at(app.variable);
    char error[CONFIG_ERROR_BYTES];
    struct config *config = config_load(count, argv, environ, error);
    if (config == NULL) {
        return refuse(error);
    }
    int status = run((struct weir_source){config, count, argv}, &app);
    config_free(config);
    return status;
}

static int help_main(int argc, char **argv);

static const struct command {
    const char *name;
    int (*main)(int argc, char **argv); // argv[0] is the name; NULL: it is weir's own
} commands[] = {
    {"check", NULL},     {"exec", exec_main}, {"top", top_main},
    {"ctl", ctl_main},   {"plan", plan_main}, {"doctor", doctor_main},
    {"user", user_main}, {"help", help_main}, {"explain-event", explain_event_main},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

// Empty if it is near none. What is no word may be a URI, with a password in it.
static void guess_command(const char *typed, struct guess *ret_guess)
{
    bool word = typed[strspn(typed, "abcdefghijklmnopqrstuvwxyz-")] == '\0';
    guess_init(ret_guess, typed);
    for (size_t i = 0; i < COMMANDS && word; i++) {
        guess_try(ret_guess, commands[i].name);
    }
}

static int refuse_command(const char *typed, const struct guess *guess)
{
    char error[CONFIG_ERROR_BYTES];
    if (guess->match[0] == '\0') {
        snprintf(error, sizeof error, "%.40s: unknown command, see weir --help", typed);
    } else {
        snprintf(error, sizeof error, "%.40s: unknown command, did you mean weir %s?", typed,
                 guess->match);
    }
    return refuse(error);
}

// weir help NAME is weir NAME --help.
static int help_main(int argc, char **argv)
{
    static char flag[] = "--help";
    const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;
    if (argc > 1 && !command) {
        struct guess guess;
        guess_command(argv[1], &guess);
        return refuse_command(argv[1], &guess);
    }
    if (!command || !command->main || command->main == help_main) {
        return print(config_print_help);
    }
    char *line[] = {argv[1], flag, NULL};
    return command->main(2, line);
}

static int weir_main(int argc, char **argv)
{
    if (asks_for(argc, argv, "--help") || asks_for(argc, argv, "-h")) {
        return print(config_print_help);
    }
    if (asks_for(argc, argv, "--print-reference")) {
        return print(config_print_reference);
    }
    if (asks_for(argc, argv, "--print-state")) {
        return print(state_print_reference);
    }
    if (asks_for(argc, argv, "--version")) {
        return print(print_version);
    }

    // weir check FILE ... is weir --config FILE ... that stops short of running.
    static char config_flag[] = "--config";
    bool only_check = argc > 1 && strcmp(argv[1], "check") == 0;
    if (only_check && argc == 2) {
        return refuse("check: needs a FILE");
    }
    if (only_check) {
        argv[1] = config_flag;
    }

    struct app none = {0};
    char error[CONFIG_ERROR_BYTES];
    struct config *config = config_load(argc, argv, environ, error);
    if (config == NULL) {
        return refuse(error);
    }
    int status = only_check ? check(config) : run((struct weir_source){config, argc, argv}, &none);
    config_free(config);
    return status;
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    inherited_init();
    const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;
    if (command && command->main) {
        return command->main(argc - 1, argv + 1);
    }
    struct guess guess;
    guess_command(argc > 1 && !command && argv[1][0] != '-' ? argv[1] : "", &guess);
    return guess.match[0] != '\0' ? refuse_command(argv[1], &guess) : weir_main(argc, argv);
}
