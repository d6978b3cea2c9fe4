// SPDX-License-Identifier: Apache-2.0

#include "proxy/inquiry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/local.h"
#include "proxy/mem.h"
#include "proxy/request.h"
#include "proxy/worker.h"

static void post(struct worker *worker, struct mail *mail, enum observer_mail kind)
{
    mail->kind = (int)kind;
    mailbox_post(worker->shared->observer, mail);
}

// Whoever reads the log must be able to tell who it was.
static void name_asker(const struct client *client, char *by, size_t size)
{
    const char *user = client->user ? client->user->spec.name : "";
    snprintf(by, size, "%.48s%s%s", user, user[0] ? "@" : "", stream_peer(client->stream));
    if (!bson_utf8_validate(by, strlen(by), false)) { // cut within a letter
        snprintf(by, size, "%s", stream_peer(client->stream));
    }
}

void inquiry_send(struct worker *worker, struct request *request)
{
    struct inquiry *inquiry = xcalloc(1, sizeof *inquiry);
    struct bytes body = request->command.body;
    inquiry->request = request;
    inquiry->worker = worker;
    inquiry->client_id = request->client_id;
    inquiry->may_look = local_may_look(request->client);
    inquiry->may_act = local_may_act(request->client);
    name_asker(request->client, inquiry->by, sizeof inquiry->by);
    if (!local_is_about_weir(request)) {
        inquiry->user = user_keep(request->user);
    }
    buffer_append(&inquiry->command, body.at, body.len);
    post(worker, &inquiry->question.mail, OBSERVER_INQUIRY);
}

void inquiry_free(struct inquiry *inquiry)
{
    bson_destroy(inquiry->reply);
    bson_destroy(inquiry->order);
    buffer_fini(&inquiry->command);
    user_drop(inquiry->user);
    free(inquiry);
}

void inquiry_tell_gone(struct worker *worker, uint64_t client_id)
{
    struct client_gone *gone = xcalloc(1, sizeof *gone);
    gone->client_id = client_id;
    post(worker, &gone->mail, OBSERVER_GONE);
}
