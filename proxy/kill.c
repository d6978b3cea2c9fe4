// SPDX-License-Identifier: Apache-2.0

#include "proxy/kill.h"

#include "proxy/log.h"

void kill_log(const struct kill *kill, const char *how, const char *failure, int64_t now_us)
{
    static struct log_limit limit = {.per_second = 10};
    struct log_line line;
    const char *event = how ? "killed" : "kill_failed";
    if (!log_begin_limited(&line, LOG_WARN, event, &limit, now_us)) {
        return;
    }
    log_str(&line, "how", how);
    log_str(&line, "reason", failure);
    log_str(&line, "why", kill->why);
    log_str(&line, "server", kill->server);
    log_int(&line, "client", kill->client);
    log_str(&line, "app", kill->app_name);
    log_str(&line, "ns", kill->namespace);
    log_str(&line, "shape", kill->shape);
    log_int(&line, "age_us", kill->age_us);
    log_end(&line);
}
