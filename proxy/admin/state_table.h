// SPDX-License-Identifier: Apache-2.0
//
// What can be seen of a running weir, once. From this table come the documents of the `weir`
// database, /state, the names and help of /metrics, and docs/state.md; a field is added here and
// where its row is made (gather.c), which asserts that it follows the table.
//
//   COLLECTION  name, what one document is
//   FIELD       collection, name, type, unit, metric, help
//
//   type    LABEL     a text; tells the metrics of a collection's documents apart
//           TEXT BOOL
//           INT REAL  of now: a gauge
//           COUNT     since the start: a counter; SUM likewise, not whole
//           COUNTS    a document of such counts; in metrics they are told apart by the label `unit`
//           SPREAD    a document: sum, p50, p99, buckets; a histogram
//           LIST      an array of documents, or one document
//           INFO      a text; in metrics a label of a gauge that is always 1
//   metric  NULL: none, as where there would be no end of them

#ifndef PROXY_ADMIN_STATE_TABLE_H
#define PROXY_ADMIN_STATE_TABLE_H

// clang-format off
#define STATE_COLLECTIONS(COLLECTION)                                                              \
    COLLECTION(totals, "weir as a whole; the only document")                                       \
    COLLECTION(servers, "a server of the deployment, and `(none)`, where requests wait that no "   \
        "server suits now")                                                                        \
    COLLECTION(times, "what one class of commands took at one server, since the start")            \
    COLLECTION(clients, "a connection of an app")                                                  \
    COLLECTION(requests, "a request under way, waiting or in flight")                              \
    COLLECTION(upstreams, "a connection to a server")                                              \
    COLLECTION(shapes, "a kind of request at one server: a command without its values; of late, "  \
        "at most 4096 of each server")                                                             \
    COLLECTION(tenants, "a tenant (its user's, else by `admission.tenantBy`) at one server; at most "  \
        "128 of each, and `other`: all the rest")                                                  \
    COLLECTION(cursors, "a cursor that is open in the deployment")                                 \
    COLLECTION(transactions, "a transaction that is open in the deployment")                       \
    COLLECTION(exhaustions, "a time in which a server's permits had run out, with what weir makes "\
        "of it; the latest 64")                                                                    \
    COLLECTION(fleet, "this weir's part in its fleet (docs/fleet.md); the only document, and none "  \
        "without `fleet.redis`")                                                                   \
    COLLECTION(rules, "a rule in force, in the order in which they are asked")                     \
    COLLECTION(config, "a setting, secrets left out")                                              \
    COLLECTION(log, "a line of the log; the latest 256 KiB of them, also those that could not be " \
        "written. Left out of `/state` and `weir ctl state`, unless it is named")

#define STATE_FIELDS(FIELD)                                                                        \
    FIELD(totals, _id, TEXT, "", NULL, "Always `weir`.")                                           \
    FIELD(totals, version, INFO, "", "weir_build_info", "The version that runs.")                  \
    FIELD(totals, pid, INT, "", NULL, "The process.")                                              \
    FIELD(totals, startTime, REAL, "seconds", "process_start_time_seconds",                        \
        "When it started, in seconds since 1970.")                                                 \
    FIELD(totals, cpuTime, SUM, "seconds", "process_cpu_seconds_total",                            \
        "Time on the processor, in the program and in the system.")                                \
    FIELD(totals, residentMemory, INT, "bytes", "process_resident_memory_bytes",                   \
        "Memory that it has in use.")                                                              \
    FIELD(totals, openFiles, INT, "", "process_open_fds", "Descriptors that it has open.")         \
    FIELD(totals, threads, INT, "", "weir_workers", "Worker threads.")                             \
    FIELD(totals, clients, INT, "", "weir_clients", "Connections of apps that are open.")          \
    FIELD(totals, accepted, COUNT, "", "weir_clients_accepted_total",                              \
        "Connections of apps that were accepted.")                                                 \
    FIELD(totals, closed, COUNTS, "reason", "weir_clients_closed_total",                           \
        "Connections of apps that were closed, by reason.")                                        \
    FIELD(totals, failed, COUNTS, "reason", "weir_requests_failed_total",                          \
        "Requests that weir answered with an error of its own, by reason.")                        \
    FIELD(totals, emergency, BOOL, "", "weir_emergency", "Whether there is an emergency "          \
        "(`weir ctl emergency`).")                                                                 \
    FIELD(totals, emergencyWhy, TEXT, "", NULL, "Why, as who began it said.")                      \
    FIELD(totals, emergencyEndsIn, REAL, "seconds", NULL, "When it ends by itself; 0: when it is " \
        "switched off.")                                                                           \
    FIELD(totals, draining, BOOL, "", "weir_draining", "Whether it drains, and takes nobody new.") \
    FIELD(totals, paused, BOOL, "", "weir_paused", "Whether what is new waits (`weir ctl pause`).")  \
    FIELD(totals, upstreams, INT, "", "weir_upstreams",                                            \
        "Connections to all servers, open or opening.")                                            \
    FIELD(totals, pins, INT, "", "weir_pins",                                                      \
        "Cursors and transactions that are open in the deployment.")                               \
    FIELD(totals, buffered, INT, "bytes", "weir_buffered_bytes", "Memory of messages on their "    \
        "way.")                                                                                    \
    FIELD(totals, bufferedMax, INT, "bytes", "weir_buffered_max_bytes",                            \
        "The most that it may be: net.maxBufferedBytes.")                                          \
    FIELD(totals, certificateExpiry, REAL, "seconds",                                              \
        "weir_tls_certificate_expiry_timestamp_seconds",                                           \
        "When the certificate that apps are shown expires, in seconds since 1970; 0: there is "    \
        "none.")                                                                                   \
                                                                                                   \
    FIELD(servers, _id, LABEL, "", "server", "host:port.")                                         \
    FIELD(servers, kind, TEXT, "", NULL, "`primary`, `secondary`, `mongos`, `standalone`, "        \
        "`loadBalancer`, `other` (an arbiter, hidden, starting up) or `unknown`.")                 \
    FIELD(servers, usable, BOOL, "", "weir_server_usable",                                         \
        "Whether requests can be sent to it, as far as is known.")                                 \
    FIELD(servers, failing, BOOL, "", "weir_server_failing",                                       \
        "Whether the last attempt to connect failed and no connection is open.")                   \
    FIELD(servers, trouble, TEXT, "", NULL, "What is wrong with it, in words: why it cannot be "    \
        "reached and since when, what of it is full; empty: nothing.")                             \
    FIELD(servers, tripped, BOOL, "", "weir_server_breaker_open",                                  \
        "Whether its breaker is open: what is sent there only fails, so nearly nothing is.")       \
    FIELD(servers, slowness, REAL, "", "weir_server_slowness_ratio",                               \
        "How slow it is, against itself with little to do: 1 or more.")                            \
    FIELD(servers, exhausted, BOOL, "", "weir_server_exhausted",                                   \
        "Whether requests wait or are refused because all permits are held.")                      \
    FIELD(servers, exhaustions, COUNT, "", "weir_server_exhaustions_total",                        \
        "How often that began.")                                                                   \
    FIELD(servers, cap, INT, "", "weir_server_connections_max",                                    \
        "The cap: the most connections to it, open and opening.")                                  \
    FIELD(servers, open, INT, "", "weir_server_connections_open", "Connections that are open.")    \
    FIELD(servers, opening, INT, "", "weir_server_connections_opening",                            \
        "Connections that are being opened.")                                                      \
    FIELD(servers, idle, INT, "", "weir_server_connections_idle",                                  \
        "Open connections that no request uses.")                                                  \
    FIELD(servers, opened, COUNT, "", "weir_server_connections_opened_total",                      \
        "Connections that were opened.")                                                           \
    FIELD(servers, openFailures, COUNT, "", "weir_server_connection_errors_total",                 \
        "Connections that could not be opened.")                                                   \
    FIELD(servers, lost, COUNT, "", "weir_server_connections_lost_total",                          \
        "Connections that were lost while a request used them.")                                   \
    FIELD(servers, limit, INT, "", "weir_server_permits_max",                                      \
        "The most requests that may be in flight now.")                                            \
    FIELD(servers, inFlight, INT, "", "weir_server_requests_in_flight",                            \
        "Requests that hold a permit.")                                                            \
    FIELD(servers, inFlightSlow, INT, "", "weir_server_requests_in_flight_slow",                   \
        "Of these, those in the slow lane.")                                                       \
    FIELD(servers, slowLimit, INT, "", "weir_server_permits_slow_max",                             \
        "The most requests that are let into the slow lane now.")                                  \
    FIELD(servers, inFlightStreams, INT, "", "weir_server_requests_in_flight_streams",             \
        "Of these, waiting change streams and tailable cursors.")                                  \
    FIELD(servers, waiting, INT, "", "weir_server_requests_waiting",                               \
        "Requests that wait for a permit.")                                                        \
    FIELD(servers, waitingForUpstream, INT, "", "weir_server_requests_waiting_for_upstream",       \
        "Requests that have a permit and wait for a connection.")                                  \
    FIELD(servers, longestWait, REAL, "seconds", "weir_server_longest_wait_seconds",               \
        "How long the one has waited that waits longest for a permit.")                            \
    FIELD(servers, granted, COUNT, "", "weir_server_requests_granted_total",                       \
        "Requests that were given a permit.")                                                      \
    FIELD(servers, queued, COUNT, "", "weir_server_requests_queued_total",                         \
        "Requests that had to wait for a permit.")                                                 \
    FIELD(servers, refused, COUNTS, "reason", "weir_server_requests_refused_total",                \
        "Requests that were refused, by reason.")                                                  \
    FIELD(servers, roundTrip, REAL, "seconds", "weir_server_round_trip_seconds",                   \
        "How long a hello to it takes; 0: not known.")                                             \
    FIELD(servers, lag, REAL, "seconds", "weir_server_replication_lag_seconds",                    \
        "How far a secondary is behind the primary.")                                              \
                                                                                                   \
    FIELD(times, _id, TEXT, "", NULL, "Class and server.")                                         \
    FIELD(times, server, LABEL, "", "server", "host:port.")                                        \
    FIELD(times, class, LABEL, "", "class", "`read`, `write`, `cursor` (getMore, killCursors), "   \
        "`stream` (getMore of a change stream or a tailable cursor), `transaction` (commit, "      \
        "abort) or `other`.")                                                                      \
    FIELD(times, bytes, COUNT, "bytes", "weir_request_bytes_total",                                \
        "Bytes of requests and replies.")                                                          \
    FIELD(times, wait, SPREAD, "seconds", "weir_request_wait_seconds",                             \
        "From a request's last byte to its permit.")                                               \
    FIELD(times, service, SPREAD, "seconds", "weir_request_service_seconds",                       \
        "From the permit to the last byte of the server's reply.")                                 \
    FIELD(times, total, SPREAD, "seconds", "weir_request_duration_seconds",                        \
        "From a request's last byte to when the app has taken the reply's.")                       \
                                                                                                   \
    FIELD(clients, _id, INT, "", NULL, "Its number, as in the log.")                               \
    FIELD(clients, peer, TEXT, "", NULL, "Where it comes from.")                                   \
    FIELD(clients, app, TEXT, "", NULL, "appName of the app's URI.")                               \
    FIELD(clients, state, TEXT, "", NULL, "`greeting` (no message yet), `idle`, `reading` (a "     \
        "message), or as in `requests`.")                                                          \
    FIELD(clients, age, REAL, "seconds", NULL, "Since it connected.")                              \
    FIELD(clients, tls, BOOL, "", NULL, "Whether it uses TLS.")                                    \
    FIELD(clients, unsent, INT, "bytes", NULL, "Replies that it has not taken yet.")               \
    FIELD(clients, worker, INT, "", NULL, "The thread that it belongs to.")                        \
                                                                                                   \
    FIELD(requests, _id, INT, "", NULL, "Its number, which no other request ever has.")            \
    FIELD(requests, client, INT, "", NULL, "The client's number; 0: weir's own.")                  \
    FIELD(requests, peer, TEXT, "", NULL, "Where that comes from; empty: it has gone.")            \
    FIELD(requests, user, TEXT, "", NULL, "The name of whoever has logged in; empty: nobody.")     \
    FIELD(requests, userId, INT, "", NULL, "A number for that user and db, as long as weir runs; " \
        "0: nobody.")                                                                              \
    FIELD(requests, app, TEXT, "", NULL, "appName of the app's URI.")                              \
    FIELD(requests, server, TEXT, "", NULL, "Where it goes; empty: not decided.")                  \
    FIELD(requests, command, TEXT, "", NULL, "The command.")                                       \
    FIELD(requests, ns, TEXT, "", NULL, "Database and collection.")                                \
    FIELD(requests, shape, TEXT, "", NULL, "The command without its values.")                      \
    FIELD(requests, state, TEXT, "", NULL, "`local` (weir answers it), `queued` (waits for a "     \
        "permit), `waitingForUpstream`, `sending`, `served` (the server works on it), or "         \
        "`replying`.")                                                                             \
    FIELD(requests, lane, TEXT, "", NULL, "`normal`, `slow`, `stream` or, behind a load balancer, `pinning`.") \
    FIELD(requests, age, REAL, "seconds", NULL, "Since its last byte came.")                       \
    FIELD(requests, held, REAL, "seconds", NULL, "Since it was given a permit; 0: it holds none.") \
    FIELD(requests, bytes, INT, "bytes", NULL, "Of its message.")                                  \
    FIELD(requests, upstream, INT, "", NULL, "The number of the connection that it has; 0: none.") \
                                                                                                   \
    FIELD(upstreams, _id, INT, "", NULL, "Its number.")                                            \
    FIELD(upstreams, server, TEXT, "", NULL, "host:port.")                                         \
    FIELD(upstreams, state, TEXT, "", NULL, "`opening`, `idle` or `inUse`.")                       \
    FIELD(upstreams, client, INT, "", NULL, "Whose request uses it; 0: nobody's.")                 \
    FIELD(upstreams, age, REAL, "seconds", NULL, "Since it was begun to open.")                    \
    FIELD(upstreams, pins, INT, "", NULL, "Cursors and transactions that only it can go on with "  \
        "(behind a load balancer).")                                                               \
    FIELD(upstreams, worker, INT, "", NULL, "The thread that has it.")                             \
                                                                                                   \
    FIELD(shapes, _id, TEXT, "", NULL, "Its number (the same everywhere and always) and the "      \
        "server.")                                                                                 \
    FIELD(shapes, server, TEXT, "", NULL, "host:port.")                                            \
    FIELD(shapes, shape, TEXT, "", NULL, "The command without its values.")                        \
    FIELD(shapes, requests, COUNT, "", NULL, "Permits that it has given back.")                    \
    FIELD(shapes, held, SUM, "seconds", NULL, "For how long it held them: its connection-seconds.")\
    FIELD(shapes, heldLately, REAL, "seconds", NULL, "The same in the last minute, by those in "   \
        "flight, too; of the twelve busiest of each second.")                                      \
    FIELD(shapes, waited, SUM, "seconds", NULL, "For how long it waited for them.")                \
    FIELD(shapes, meanHeld, REAL, "seconds", NULL, "`held` by `requests`.")                        \
    FIELD(shapes, slow, BOOL, "", NULL, "Whether it is held to the slow lane.")                    \
    FIELD(shapes, now, INT, "", NULL, "Requests of it that wait or are in flight.")                \
                                                                                                   \
    FIELD(tenants, _id, TEXT, "", NULL, "Tenant and server.")                                      \
    FIELD(tenants, server, LABEL, "", "server", "host:port.")                                      \
    FIELD(tenants, tenant, LABEL, "", "tenant", "Its name. `other`: those that came when no "      \
        "place was free, those that made room after an hour of silence, and names that are "       \
        "empty, no UTF-8, or this one.")                                                           \
    FIELD(tenants, inFlight, INT, "", "weir_tenant_requests_in_flight",                            \
        "Requests of a tenant that hold a permit.")                                                \
    FIELD(tenants, waiting, INT, "", "weir_tenant_requests_waiting",                               \
        "Requests of a tenant that wait for a permit.")                                            \
    FIELD(tenants, served, COUNT, "", "weir_tenant_requests_served_total",                         \
        "Permits that a tenant has given back.")                                                   \
    FIELD(tenants, shed, COUNT, "", "weir_tenant_requests_shed_total",                             \
        "Requests of a tenant that were refused a permit.")                                        \
    FIELD(tenants, held, SUM, "seconds", "weir_tenant_held_seconds_total",                         \
        "For how long a tenant held those permits: its connection-seconds.")                       \
    FIELD(tenants, heldLately, REAL, "seconds", NULL, "Of that, in about the last minute.")        \
                                                                                                   \
    FIELD(cursors, _id, TEXT, "", NULL, "Cursor id and server.")                                   \
    FIELD(cursors, cursor, INT, "", NULL, "The cursor's id.")                                      \
    FIELD(cursors, server, TEXT, "", NULL, "Where it is open.")                                    \
    FIELD(cursors, ns, TEXT, "", NULL, "Database and collection.")                                 \
    FIELD(cursors, client, INT, "", NULL, "Who used it last; 0: has gone, it will be killed.")     \
    FIELD(cursors, age, REAL, "seconds", NULL, "Since it was opened.")                             \
    FIELD(cursors, idle, REAL, "seconds", NULL, "Since it was last used.")                         \
    FIELD(cursors, streams, BOOL, "", NULL, "A change stream or a tailable cursor.")               \
    FIELD(cursors, upstream, INT, "", NULL, "The connection that it is tied to; 0: any of the "    \
        "server's.")                                                                               \
                                                                                                   \
    FIELD(transactions, _id, TEXT, "", NULL, "The session's id.")                                  \
    FIELD(transactions, server, TEXT, "", NULL, "Where it is open.")                               \
    FIELD(transactions, number, INT, "", NULL, "Its txnNumber.")                                   \
    FIELD(transactions, client, INT, "", NULL, "Who used it last; 0: has gone, it will be "        \
        "aborted.")                                                                                \
    FIELD(transactions, age, REAL, "seconds", NULL, "Since its first statement.")                  \
    FIELD(transactions, idle, REAL, "seconds", NULL, "Since its last statement.")                  \
    FIELD(transactions, upstream, INT, "", NULL, "The connection that it is tied to; 0: any of "   \
        "the server's.")                                                                           \
                                                                                                   \
    FIELD(exhaustions, _id, TEXT, "", NULL, "Its id, as the log has it.")                          \
    FIELD(exhaustions, server, TEXT, "", NULL, "Where: host:port.")                                \
    FIELD(exhaustions, begin, REAL, "seconds", NULL, "When it began, in seconds since 1970.")      \
    FIELD(exhaustions, end, REAL, "seconds", NULL, "When it ended; 0: it goes on.")                \
    FIELD(exhaustions, ended, TEXT, "", NULL, "How: `calm` (for two seconds nobody waited long or " \
        "was refused), `server left`, `weir stopped` (it went on then); empty: it goes on.")       \
    FIELD(exhaustions, duration, REAL, "seconds", NULL, "How long it lasted, or has so far.")      \
    FIELD(exhaustions, cap, INT, "", NULL, "The cap at the begin.")                                \
    FIELD(exhaustions, limit, INT, "", NULL, "The limit at the begin.")                            \
    FIELD(exhaustions, cause, TEXT, "", NULL, "The cause that explains it best: `slow_shape`, "    \
        "`traffic_spike`, `leak`, `pools_too_large`, `slow_deployment`, `member_lost`, "           \
        "`connection_limit`, `connection_storm`, or `unclear`.")                                   \
    FIELD(exhaustions, verdict, TEXT, "", NULL, "The same in a sentence.")                         \
    FIELD(exhaustions, causes, LIST, "", NULL, "All causes with any evidence, best first: "        \
        "`cause`, `score` (0 to 1), `says`.")                                                      \
    FIELD(exhaustions, remedies, LIST, "", NULL, "What to do: `what`, and `type`, to be typed.")   \
    FIELD(exhaustions, longestWait, REAL, "seconds", NULL, "The longest wait for a permit.")       \
    FIELD(exhaustions, shed, LIST, "", NULL, "Requests that were refused, by reason.")             \
    FIELD(exhaustions, holders, LIST, "", NULL, "Who held permits longest at the begin: `shape`, " \
        "`app`, `tenant`, `namespace`, `user`, `peer`, `client`, `held` (seconds).")                                            \
    FIELD(exhaustions, worst, LIST, "", NULL, "When most waited: `at`, `inFlight`, `waiting`, "    \
        "`holders`.")                                                                              \
    FIELD(exhaustions, waiters, LIST, "", NULL, "Who waited, by tenant: `tenant` (empty: weir's "  \
        "own, to clear up after clients), `arrived`, `waited`, `shed`, `p50`, `p99` (seconds).")   \
    FIELD(exhaustions, shapes, LIST, "", NULL, "What held the connections: `shape`, `id`, "        \
        "`before`, `during` (connection-seconds a second), `change`, `meanBefore`, `meanDuring` "  \
        "(seconds).")                                                                              \
    FIELD(exhaustions, upstreams, LIST, "", NULL, "During it: `opened`, `openFailures`, `lost`, "  \
        "`away` (seconds), `meanOpening`, of that `meanLogin` (from the answer to hello to the "   \
        "end of the login), `meanLoginBefore`.")                                                   \
    FIELD(exhaustions, left, LIST, "", NULL, "At most left open and idle: `cursorsIdle`, "         \
        "`transactionsIdle`; then the `owners`, by app and user, with most left alone first "      \
        "(`peer`, `client`, `shape`: of what was left alone for longest).")                        \
    FIELD(exhaustions, deployment, LIST, "", NULL, "What the server said of itself meanwhile: "    \
        "`state` (`not asked`, `no answer yet`, `unreachable`, `answered`), `at`, `connections` "  \
        "(`current`, `available`, ...), `operations` (those over `threshold`: `long`, of these "   \
        "`longScans`; the `longest`, with `plan`), `members` (with `lag`), `plan` (of the shape "  \
        "that held most), `index` (the one `wanted` for it; one that is `there`), `unanswered` "   \
        "(`what`, `why`).")                                                                     \
                                                                                                   \
    FIELD(fleet, _id, LABEL, "", "fleet", "fleet.name.")                                           \
    FIELD(fleet, state, TEXT, "", NULL, "`leased` (it has more than its floor), `floor`, "         \
        "`draining` (its lease was not renewed: down to its floor as connections become idle), "   \
        "`cut` (at once), `waiting` (for its first answer) or `refused`.")                         \
    FIELD(fleet, store, TEXT, "", NULL, "Where the store was when it last answered.")              \
    FIELD(fleet, up, BOOL, "", "weir_fleet_store_up",                                              \
        "Whether the store answered what it was last asked.")                                      \
    FIELD(fleet, error, TEXT, "", NULL, "Why it did not.")                                         \
    FIELD(fleet, lastAnswer, REAL, "seconds", "weir_fleet_last_answer_seconds",                    \
        "How long ago it last answered; -1: never.")                                               \
    FIELD(fleet, epoch, TEXT, "", NULL, "Of the store's memory: another one, and it has "          \
        "forgotten.")                                                                              \
    FIELD(fleet, mature, BOOL, "", "weir_fleet_epoch_mature",                                      \
        "Whether every lease of a former epoch is over: before that nobody gets more.")            \
    FIELD(fleet, cap, INT, "", "weir_fleet_connections_max",                                       \
        "The most connections to a server, of all together.")                                      \
    FIELD(fleet, floor, INT, "", "weir_fleet_floor", "How many each may always have.")             \
    FIELD(fleet, instances, INT, "", "weir_fleet_instances_max", "How many may run at one time.")  \
    FIELD(fleet, allowed, INT, "", "weir_fleet_connections_allowed",                               \
        "How many connections to a server this one may have now.")                                 \
    FIELD(fleet, open, INT, "", "weir_fleet_connections_open",                                     \
        "How many it has, open and opening, at the server where it has most.")                     \
    FIELD(fleet, need, INT, "", "weir_fleet_need",                                                 \
        "How many more than its floor it has a use for, as it last told the store.")               \
    FIELD(fleet, held, INT, "", "weir_fleet_leased", "How many it has leased above its floor.")    \
    FIELD(fleet, leaseEnds, REAL, "seconds", "weir_fleet_lease_remaining_seconds",                 \
        "In how long that ends unless it is renewed; 0: nothing is leased.")                       \
    FIELD(fleet, members, LIST, "", NULL, "Who holds what, as the store last told: `instance` "    \
        "(its machine), `id`, `held` and `need` above the floor, `lastAsked` (how long ago it was " \
        "seen to ask, in seconds), `self`.")                                                       \
                                                                                                   \
    FIELD(rules, _id, LABEL, "", "rule", "Its number, as `weir ctl` has it.")                      \
    FIELD(rules, rule, TEXT, "", NULL, "What it says.")                                            \
    FIELD(rules, by, TEXT, "", NULL, "Who says so.")                                               \
    FIELD(rules, why, TEXT, "", NULL, "Why.")                                                      \
    FIELD(rules, dryRun, BOOL, "", NULL, "Whether it only counts.")                                \
    FIELD(rules, endsIn, REAL, "seconds", NULL, "When it ends by itself; 0: never.")               \
    FIELD(rules, hits, COUNT, "", "weir_rule_hits_total", "Requests that it was the first to "     \
        "match.")                                                                                  \
    FIELD(rules, refused, COUNT, "", "weir_rule_refused_total", "Of these, those that it "         \
        "refused.")                                                                                \
    FIELD(rules, atOnce, INT, "", "weir_rule_requests", "Of these, those under way, if it bounds " \
        "them.")                                                                                   \
                                                                                                   \
    FIELD(config, _id, TEXT, "", NULL, "The setting's name in the file.")                          \
    FIELD(config, value, TEXT, "", NULL, "Its value, as a user would write it.")                   \
                                                                                                   \
    FIELD(log, _id, INT, "", NULL, "Its number: 1 is the first since the start.")                  \
    FIELD(log, time, REAL, "seconds", NULL, "When it was begun, in seconds since 1970.")           \
    FIELD(log, level, TEXT, "", NULL, "`info`, `warn` or `error`.")                                \
    FIELD(log, event, TEXT, "", NULL, "What happened.")                                            \
    FIELD(log, fields, LIST, "", NULL, "All else that it says, by name.")
// clang-format on

#endif
