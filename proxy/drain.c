// SPDX-License-Identifier: Apache-2.0

#include "proxy/drain.h"

#include "policy/defect.h"
#include "proxy/client.h"
#include "proxy/local.h"
#include "proxy/request.h"
#include "proxy/worker.h"

#define QUIET_SWEEPS (1000000 / WORKER_SWEEP_US)

static bool is_idle(const struct client *client)
{
    const struct request *request = client->request;
    bool reads = request && request->step == STEP_READ && !request->came_in_part;
    reads = reads || DEFECT(DRAIN_BUSY);
    return client->shaken && buffer_held(&client->out) == 0 && buffer_held(&client->ahead) == 0 &&
           (!request || reads);
}

static bool is_late(const struct drain *drain, int64_t now_us)
{
    return now_us >= drain->ends_us - (drain->ends_us - drain->begun_us) / 5;
}

// By whose end it is to go.
static const struct drain *drain_of(const struct client *client)
{
    const struct worker *worker = client->worker;
    return worker->drain.begun_us > 0 || !client->leaves ? &worker->drain : &worker->closing;
}

static bool may_go(const struct client *client, int64_t now_us)
{
    const struct drain *drain = drain_of(client);
    bool monitor = client->greeted && !client->has_asked;
    if (drain->begun_us == 0 || client->quiet_sweeps == 0 ||
        (drain->whom == DRAIN_REMOTE && local_is_near(client))) {
        return false;
    }
    if (affinity_owns_some(&client->worker->shared->affinity, &client->pins)) {
        return now_us >= drain->ends_us; // weir itself may go on after that
    }
    return is_late(drain, now_us) || (!monitor && client->quiet_sweeps >= QUIET_SWEEPS);
}

bool drain_ends_monitor(const struct client *client)
{
    const struct drain *drain = &client->worker->drain;
    return drain->begun_us > 0 && drain->whom == DRAIN_REPLACED && client->monitors;
}

static int count_who_may_go(struct worker *worker, int64_t now_us)
{
    int count = 0;
    for (struct client *client = worker->clients; client; client = client->next) {
        if (!is_idle(client)) {
            client->quiet_sweeps = 0;
        } else if (client->quiet_sweeps < QUIET_SWEEPS) {
            client->quiet_sweeps++;
        }
        count += may_go(client, now_us);
    }
    return count;
}

// So many of them now that the last one goes half-way between here and the end.
static int share_of(int count, const struct drain *drain, int64_t now_us)
{
    int64_t sweeps = (drain->ends_us - now_us) / 2 / WORKER_SWEEP_US;
    return sweeps < 1 ? count : (int)((count + sweeps - 1) / sweeps);
}

void drain_step(struct worker *worker, int64_t now_us)
{
    const struct drain *drain = worker->drain.begun_us > 0 ? &worker->drain : &worker->closing;
    if (drain->begun_us == 0) {
        return;
    }
    int left = share_of(count_who_may_go(worker, now_us), drain, now_us);
    struct client *next;
    for (struct client *client = worker->clients; client && left > 0; client = next) {
        next = client->next;
        if (may_go(client, now_us)) {
            client_close(client, CLOSE_DRAINED);
            left--;
        }
    }
}
