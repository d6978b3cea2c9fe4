// SPDX-License-Identifier: Apache-2.0
//
// Control: one thread that may block. It follows the deployment (discovery is libmongoc's, by the
// SDAM specification) and publishes what it finds as snapshots; it computes what takes long.

#ifndef PROXY_CONTROL_CONTROL_H
#define PROXY_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/auth.h"
#include "proxy/net/tls.h"
#include "proxy/topology.h"
#include "wire/compression.h"

// What the URI says of connections. Strings are NULL where it says nothing.
struct deployment {
    char *uri; // as it was given: holds secrets
    char *app_name;
    bool tls;
    char *tls_ca_file;
    char *tls_certificate_key_file;
    char *tls_certificate_key_password;
    struct tls_client_options tls_options; // borrows from the strings of the same deployment
    struct credential credential;          // mechanism NULL and username NULL: none
    bool load_balanced;
    bool direct;                // directConnection: the one server that it names, whatever that is
    int64_t local_threshold_us; // the latency window of server selection
    struct compressor_list compressors; // to be offered
    int zlib_level;                     // -1: zlib's default
};

// Parses a mongodb:// or mongodb+srv:// URI (the SRV lookup itself happens later, by the control
// thread). NULL on failure with one line in ret_error that never holds a secret. Mechanisms that
// weir does not have (MONGODB-AWS, GSSAPI, MONGODB-OIDC) are refused here. Options that nobody
// knows are said in the log and left out of account, as drivers do.
struct deployment *deployment_parse(const char *uri, char *ret_error, size_t error_capacity);
void deployment_free(struct deployment *deployment);

struct discovery;

// Takes over what the TXT record behind a mongodb+srv URI has named.
void deployment_adopt(struct deployment *deployment, const struct discovery *discovery);

struct control;
struct errand;
struct kill;

struct control_listener {
    // Called on control's thread with each new snapshot, whose one reference it owns.
    void (*topology_changed)(void *arg, struct topology *topology);
    // Likewise when it has begun to follow what control_follow gave it: before the first snapshot
    // of that.
    void (*followed)(void *arg);
    void *arg;
};

// Starts the thread. It borrows the deployment until control_stop, or until it follows another one.
// With mongodb+srv the TXT record
// has a say in credential.source and load_balanced: these two may be set until the first snapshot,
// never after it; all else stays as it is.
struct control *control_start(struct deployment *deployment, struct control_listener listener);

// From now on follows the deployment by that discovery, which it takes over: one that
// discovery_try found good, so that nothing that is there goes away with it. Any thread.
void control_follow(struct control *control, struct discovery *discovery, bool direct);

// Stops and joins; no listener and no job is called after. Takes 600 ms at most, and as long as the
// job that is running. Jobs that have not begun are never run: they are their owner's again. (What
// blocks longer inside a name lookup or libmongoc is left behind and ends by itself; it holds
// nothing of the caller's.)
void control_stop(struct control *control);

// A piece of work that takes long: `run` is called on control's thread, then `job` is its owner's
// again (run itself tells the owner, by mail). It comes after whatever the thread is blocked in: at
// worst the SRV lookup of a mongodb+srv URI, at the start. Any thread.
struct control_job {
    struct control_job *next;
    void (*run)(struct control_job *job);
};
void control_post(struct control *control, struct control_job *job);

// Takes the order (from malloc). It is carried out after those that came before, by killOp, or by
// killSessions where that cannot be; it is dropped when it is late, or when too many wait.
// The log says what came of it. Any thread.
void control_kill(struct control *control, struct kill *kill);

// Has a server asked something (errands.h), on a thread that is there for this alone. Any thread.
void control_ask(struct control *control, struct errand *errand);

// Somebody found that a server is not what the snapshot says: asks for a prompt check. Many
// requests are one check, and there are at most two checks a second. (Servers of a known kind that
// push nothing are checked sooner than their heartbeat, 2 s unless the URI says otherwise, only if
// they are of a replica set. Those that push are known to be gone at once.) Any thread.
void control_request_scan(struct control *control);

#endif
