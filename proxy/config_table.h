// SPDX-License-Identifier: Apache-2.0
//
// Every setting, once. From this table come struct config, the YAML file's schema, the flags, the
// WEIR_* variables, --help and docs/configuration.md; a setting is added here and nowhere else.
//
//   field        its name in struct config
//   name         in the file: dotted, as mongod.conf has it where it has the thing
//   flag         --flag; its variable is WEIR_FLAG
//   type         one of enum option_type, without OPTION_
//   preset       the default as a user would write it; NULL: not set
//   least, most  as a user would write them; for texts and lists, most is bytes
//   value        what --help shows in the value's place; the choices of an ENUM
//   reloadable   may change while weir runs
//   help         sentences

#ifndef PROXY_CONFIG_TABLE_H
#define PROXY_CONFIG_TABLE_H

// clang-format off
#define CONFIG_OPTIONS(OPTION)                                                                     \
    OPTION(uri, "upstream.uri", "uri", URI, NULL, "1", "16384", "URI", true,                       \
        "Where the deployment is: mongodb:// or mongodb+srv://, with all its options. Required. "  \
        "Usually the argument without a flag.")                                                    \
    OPTION(max_connections, "upstream.maxConnections", "max-connections", INT,                     \
        "100", "1", "100000", "N", true,                                                           \
        "The cap: the most connections weir has open or opening to one server for requests, ever. "\
        "Its own are beside it, four at most: two that monitor and, for a moment, one to ask why " \
        "connections ran out and one to kill by.")                                                 \
    OPTION(max_total_connections, "upstream.maxTotalConnections", "max-total-connections", INT,    \
        "0", "0", "1000000", "N", true,                                                            \
        "The most connections weir has open or opening to all servers together. 0: each has its "  \
        "cap.")                                                                                    \
    OPTION(pinned_share, "upstream.pinnedShare", "pinned-share", FRACTION,                         \
        "0.5", "0.01", "1", "SHARE", true,                                                         \
        "Behind a load balancer (loadBalanced=true), an open cursor or transaction keeps its "     \
        "connection: the largest part of the cap that these may keep; over it, what might open "   \
        "one more is refused. Reads under way count, as each may leave a cursor; others wait for " \
        "them.")                                                                                   \
    OPTION(connect_timeout_us, "upstream.connectTimeout", "connect-timeout", DURATION,             \
        "10s", "100ms", "10m", "TIME", true,                                                       \
        "How long a connection to a server may take until it is ready: TCP, TLS, hello and "       \
        "authentication.")                                                                         \
    OPTION(upstream_max_idle_time_us, "upstream.maxIdleTime", "upstream-max-idle-time", DURATION,  \
        "10m", "0", "720h", "TIME", true,                                                          \
        "A connection to a server that was idle this long is closed. 0: never.")                   \
    OPTION(upstream_max_age_us, "upstream.maxAge", "upstream-max-age", DURATION,                   \
        "1h", "0", "720h", "TIME", true,                                                           \
        "A connection to a server that is this old is closed when it is next idle. 0: never.")     \
    OPTION(server_wait_us, "upstream.serverWait", "server-wait", DURATION,                         \
        "12s", "0", "10m", "TIME", true,                                                           \
        "How long a request waits for a server that is not there (not yet started, or an "         \
        "election) before it gets error 6, HostUnreachable.")                                      \
    OPTION(response_timeout_us, "upstream.responseTimeout", "response-timeout", DURATION,          \
        "0", "0", "24h", "TIME", true,                                                             \
        "A server that discovery is content with, but that has answered nothing at all for this "  \
        "long while several requests wait, is given up: they are treated as lost, and new ones "   \
        "are sent elsewhere or refused until it answers again. Longer than the longest "           \
        "operation. 0: never.")                                                                    \
    OPTION(bind_ip, "net.bindIp", "bind-ip", LIST, "127.0.0.1", "1", "4096", "ADDRESS[,...]",      \
        true,                                                                                      \
        "Addresses to listen on: IPv4, IPv6 or names. One that other machines can reach needs "    \
        "security.authorization, client certificates, or security.allowRemoteWithoutAuth.")        \
    OPTION(port, "net.port", "port", INT, "27017", "0", "65535", "N", false,                       \
        "Port to listen on. 0: any free one; the log says which.")                                 \
    OPTION(unix_socket, "net.unixSocket", "unix-socket", STRING, NULL, "1", "107", "PATH", true,   \
        "A Unix socket to listen on as well.")                                                     \
    OPTION(threads, "net.threads", "threads", INT, "0", "0", "256", "N", false,                    \
        "Worker threads. 0: as many as the machine has cores.")                                    \
    OPTION(max_incoming_connections, "net.maxIncomingConnections", "max-incoming-connections",     \
        INT, "65536", "1", "1000000", "N", true,                                                   \
        "The most connections of apps that are served at one time. A quarter more are let in, so " \
        "that drivers see a living server, but what they ask for is refused as overload until a "  \
        "place is free; beyond that a connection is closed at once.")                              \
    OPTION(handshake_timeout_us, "net.handshakeTimeout", "handshake-timeout", DURATION,            \
        "10s", "100ms", "10m", "TIME", true,                                                       \
        "How long an app's connection may take over TLS and its first message.")                   \
    OPTION(max_handshakes, "net.maxHandshakes", "max-handshakes", INT,                             \
        "64", "1", "65536", "N", true,                                                             \
        "How many connections of apps may wait for weir to go on with their handshake; while so "  \
        "many do, new ones wait in the system's backlog. One that waits for its own peer does not "\
        "count.")                                                                                  \
    OPTION(message_timeout_us, "net.messageTimeout", "message-timeout", DURATION,                  \
        "60s", "100ms", "1h", "TIME", true,                                                        \
        "A message that an app has begun to send must be whole within this, and an app must not "  \
        "be this long behind 64 KiB a second in taking its replies; else its connection is "       \
        "closed.")                                                                                 \
    OPTION(max_buffered_bytes, "net.maxBufferedBytes", "max-buffered", BYTES,                      \
        "512MB", "128MB", "1024GB", "SIZE", true,                                                  \
        "The most memory for messages on their way. Over it, weir stops reading until some is "    \
        "free; a message that waits for longer than admission.maxWait, and a second at least, is " \
        "refused as overload.")                                                                    \
    OPTION(compressors, "net.compression.compressors", "compressors", LIST,                        \
        "snappy,zstd,zlib", "1", "64", "NAME[,...]", true,                                         \
        "What apps may compress with, if their URI asks for it: of snappy, zstd and zlib, or "     \
        "disabled. The default does not count for apps on the same machine (loopback and the "     \
        "Unix socket), where compressing only costs; set, it counts for all. Towards the "         \
        "deployment, compressors in upstream.uri decides.")                                        \
    OPTION(tls_mode, "net.tls.mode", "tls-mode", ENUM, "disabled", "", "",                         \
        "disabled|allowTLS|preferTLS|requireTLS", true,                                            \
        "Whether apps may use TLS (allowTLS or preferTLS, here the same: plain and TLS "           \
        "connections come to the same port) or must (requireTLS).")                                \
    OPTION(tls_certificate_key_file, "net.tls.certificateKeyFile", "tls-certificate-key-file",     \
        STRING, NULL, "1", "4095", "FILE", true,                                                   \
        "PEM file with weir's certificate, the chain up to its CA, and the key.")                  \
    OPTION(tls_ca_file, "net.tls.CAFile", "tls-ca-file", STRING, NULL, "1", "4095", "FILE", true,  \
        "PEM file with the CAs that the apps' certificates are verified against. With it, a "      \
        "certificate is required of whoever uses TLS.")                                            \
    OPTION(tls_crl_file, "net.tls.CRLFile", "tls-crl-file", STRING, NULL, "1", "4095", "FILE",     \
        true,                                                                                      \
        "PEM file with the revocation lists of the CAs in net.tls.CAFile: one of each. A "         \
        "certificate on them is refused.")                                                         \
    OPTION(tls_allow_connections_without_certificates,                                             \
        "net.tls.allowConnectionsWithoutCertificates",                                             \
        "tls-allow-connections-without-certificates", BOOL, "false", "", "", "true|false", true,   \
        "Whoever presents no certificate is let in all the same; one that is presented must "      \
        "still be good.")                                                                          \
    OPTION(authorization, "security.authorization", "authorization", ENUM, "disabled", "", "",     \
        "disabled|enabled", false,                                                                 \
        "Whether apps must log in, as one of users in the file, and may do only what that user "   \
        "may. With users in the file, enabled is the default.")                                    \
    OPTION(salt_secret_file, "security.saltSecretFile", "salt-secret-file", STRING, NULL, "1",     \
        "4095", "FILE", false,                                                                     \
        "A file with 32 random bytes or more, the same for good and on all machines: from it come "\
        "the salts that weir names for users who do not exist, so that nobody can tell who does. " \
        "Not given: they are others after each start.")                                            \
    OPTION(allow_remote_without_auth, "security.allowRemoteWithoutAuth",                           \
        "allow-remote-without-auth", BOOL, "false", "", "", "true|false", false,                   \
        "Listen on addresses that other machines can reach although not everybody has to log in "  \
        "or to show a certificate. Whoever reaches the port can then do what weir's own user may do.")          \
    OPTION(max_wait_us, "admission.maxWait", "max-wait", DURATION,                                 \
        "100ms", "0", "10m", "TIME", true,                                                         \
        "How long a request may wait for a connection before it is refused. When one of its "      \
        "tenant has waited for this long in vain, the time shrinks for the next ones, down to 5 "  \
        "ms or until two connections come free, and the latest go first, until none waits. 0: "    \
        "never waits; then whoever asks most gets most, whatever admission.tenantBy says.")        \
    OPTION(max_queue, "admission.maxQueue", "max-queue", INT,                                      \
        "10000", "1", "1000000", "N", true,                                                        \
        "How many requests may wait at one time. For one more, one of the tenant that waits most " \
        "is refused.")                                                                             \
    OPTION(max_time_limit_us, "admission.maxTimeLimit", "max-time-limit", DURATION,                \
        "0", "0", "24h", "TIME", true,                                                             \
        "The longest an operation on data may take on the server: a longer maxTimeMS is lowered "  \
        "to it, and what has none is given it. Change streams, tailable cursors and index builds " \
        "are left alone. 0: no limit.")                                                            \
    OPTION(max_time_default_us, "admission.maxTimeDefault", "max-time-default", DURATION,          \
        "0", "0", "24h", "TIME", true,                                                             \
        "The maxTimeMS of operations on data that have none (maxTimeMS: 0 counts as having one). " \
        "0: none.")                                                                                \
    OPTION(limit, "admission.limit", "limit", ENUM, "adaptive", "", "", "fixed|adaptive", true,    \
        "How many requests a server gets at one time. fixed: as many as it has connections by "    \
        "the cap. adaptive: as many as it does well with, by what they take, between "             \
        "admission.minLimit and the cap.")                                                         \
    OPTION(min_limit, "admission.minLimit", "min-limit", INT, "4", "1", "100000", "N", true,       \
        "The least that an adaptive limit goes down to; for a tenth of a second now and then, to " \
        "measure, to half of it.")                                                                 \
    OPTION(tenant_by, "admission.tenantBy", "tenant-by", ENUM, "app", "", "", "app|address", true, \
        "Whose a request is: those who want connections at one time have the same share of them, " \
        "however much they ask for. app: the app's name (appName in its URI), all its processes "  \
        "together, or the address of one that gives none; address: the address it comes from.")    \
    OPTION(tenant_weights, "admission.tenantWeights", "tenant-weights", LIST,                      \
        NULL, "3", "16384", "NAME=N[,...]", true,                                                  \
        "Who has another share than the rest, whose weight is 1: N (1 to 1000) times as much. "    \
        "NAME is an app's name, or an address if admission.tenantBy says so.")                     \
    OPTION(slow_share, "admission.slowShare", "slow-share", FRACTION,                              \
        "0.25", "0.01", "1", "SHARE", true,                                                        \
        "The largest part of the limit that slow kinds of requests may hold, so that the others "  \
        "go on. 1: no guard.")                                                                     \
    OPTION(stream_share, "admission.streamShare", "stream-share", FRACTION,                        \
        "0.5", "0.01", "1", "SHARE", true,                                                         \
        "The largest part of the cap that waiting change streams and tailable cursors may hold: "  \
        "each of their getMores keeps a connection while it waits for something to happen.")       \
    OPTION(kill_after_us, "admission.killAfter", "kill-after", DURATION,                           \
        "0", "0", "720h", "TIME", true,                                                            \
        "A request that a server has worked on for this long is killed there (killOp, else "       \
        "killSessions, else by closing its connection), and gets error 11601, Interrupted. Not "   \
        "index builds and the like, nor waiting change streams. 0: never.")                        \
    OPTION(kill_abandoned_after_us, "admission.killAbandonedAfter", "kill-abandoned-after",        \
        DURATION, "1s", "0", "720h", "TIME", true,                                                 \
        "A read whose app's connection has been gone for this long is killed on its server, as a " \
        "server itself does with an app that is connected to it. 0: it is let finish.")            \
    OPTION(idle_cursor_after_us, "admission.idleCursorAfter", "idle-cursor-after", DURATION,       \
        "5m", "0", "30m", "TIME", true,                                                            \
        "An open cursor that its app has not asked for more for this long is a leak: it is "       \
        "logged (event=leak), with what opened it. 0: not looked for.")                            \
    OPTION(idle_transaction_after_us, "admission.idleTransactionAfter",                            \
        "idle-transaction-after", DURATION, "10s", "0", "30m", "TIME", true,                       \
        "Likewise an open transaction without a statement. 0: not looked for.")                    \
    OPTION(kill_idle, "admission.killIdle", "kill-idle", BOOL, "false", "", "", "true|false",      \
        true,                                                                                      \
        "Whether such cursors are killed, and such transactions aborted.")                         \
    OPTION(slow_op_threshold_us, "operationProfiling.slowOpThreshold", "slow-op-threshold",        \
        DURATION, "100ms", "1ms", "1h", "TIME", true,                                              \
        "A request that takes longer is slow: it is logged, and a kind of request that typically " \
        "does, while the server as a whole is as fast as usual, is held to admission.slowShare. "  \
        "For this, the time grows with how much slower the server is just now.")                   \
    OPTION(emergency_share, "emergency.share", "emergency-share", FRACTION,                        \
        "0.5", "0.01", "1", "SHARE", true,                                                         \
        "weir ctl emergency on: the part of the cap that is left. Connections over it are closed " \
        "as soon as they are idle.")                                                               \
    OPTION(emergency_max_wait_us, "emergency.maxWait", "emergency-max-wait", DURATION,             \
        "20ms", "0", "10m", "TIME", true,                                                          \
        "In an emergency, in place of admission.maxWait if that is longer.")                       \
    OPTION(emergency_max_time_us, "emergency.maxTime", "emergency-max-time", DURATION,             \
        "5s", "0", "24h", "TIME", true,                                                            \
        "In an emergency, the most that an operation's maxTimeMS may be; those without one get "   \
        "this. 0: they are left alone.")                                                           \
    OPTION(emergency_kill_after_us, "emergency.killAfter", "emergency-kill-after", DURATION,       \
        "10s", "0", "24h", "TIME", true,                                                           \
        "In an emergency, what has run for so long is killed. 0: nothing is.")                     \
    OPTION(drain_within_us, "drain.within", "drain-within", DURATION,                             \
        "25s", "0", "1h", "TIME", true,                                                            \
        "On SIGTERM, how long weir goes on for its clients: those on this machine are served "     \
        "until they go, others are closed when they are idle. With the last one, or after this "   \
        "time, it ends. Heroku kills 30 s after SIGTERM.")                                         \
    OPTION(reload_on_change, "reload.onChange", "reload-on-change", BOOL, "false", "", "",         \
        "true|false", true,                                                                        \
        "Whether the file of this configuration is read anew when it has changed, as on SIGHUP "   \
        "and weir ctl reload: some two seconds after it was last written to.")                     \
    OPTION(control_socket, "control.socket", "control-socket", STRING, NULL, "1", "107",           \
        "PATH|disabled", false,                                                                    \
        "The Unix socket of weir ctl, for weir's own user and root. By default weir/PORT.sock in " \
        "$XDG_RUNTIME_DIR, for root in /run, else /tmp/weir-UID/PORT.sock; if that cannot be "     \
        "made, weir runs without it and says so.")                                                 \
    OPTION(events_path, "events.path", "events-path", STRING, NULL, "1", "3900", "DIRECTORY",       \
        true,                                                                                      \
        "Where the record of each exhaustion is kept as ID.json when it has ended, for weir "      \
        "explain-event and programs; the latest 256. A directory of its own for each weir. By "    \
        "default records are kept in memory alone.")                                               \
    OPTION(events_webhook, "events.webhook", "events-webhook", URL, NULL, "1", "2048", "URL",      \
        true,                                                                                      \
        "Who is told of each exhaustion, when it begins and when it has ended: an https:// URL "   \
        "(http:// on this machine only), to which the record is sent as JSON by POST. Its "        \
        "certificate is verified. What is not taken is sent again, five times within a minute. "   \
        "All but the host is taken for a secret.")                                                 \
    OPTION(events_webhook_ca_file, "events.webhookCAFile", "events-webhook-ca-file", STRING, NULL, \
        "1", "4096", "PATH", true,                                                                 \
        "The certificates by which that one's is verified, PEM. By default the system's.")         \
    OPTION(fleet_redis, "fleet.redis", "fleet-redis", STRING, NULL, "1", "1000", "ADDRESS",       \
        false,                                                                                     \
        "Redis or Valkey, from which several weirs lease their parts of one cap (docs/fleet.md): " \
        "HOST[:PORT], rediss://HOST[:PORT] for TLS, the path of a Unix socket, or "                \
        "redis+sentinel://HOST[:PORT],.../MASTER (rediss+sentinel:// for TLS) where Sentinels "    \
        "tell who is the master.")                                                                 \
    OPTION(fleet_user, "fleet.user", "fleet-user", STRING, NULL, "1", "255", "NAME", false,        \
        "As whom to log in there. By default the user \"default\".")                               \
    OPTION(fleet_password_file, "fleet.passwordFile", "fleet-password-file", STRING, NULL, "1",    \
        "4096", "PATH", false,                                                                     \
        "A file with the password for that. Sentinels that want a login get the same.")            \
    OPTION(fleet_tls_ca_file, "fleet.tls.CAFile", "fleet-tls-ca-file", STRING, NULL, "1", "4095",  \
        "FILE", false,                                                                             \
        "PEM file with the CAs that the store's certificate is verified against. By default the "  \
        "system's.")                                                                               \
    OPTION(fleet_tls_certificate_key_file, "fleet.tls.certificateKeyFile",                         \
        "fleet-tls-certificate-key-file", STRING, NULL, "1", "4095", "FILE", false,                \
        "PEM file with weir's certificate and key, for a store that asks for one. It and the "     \
        "CAs' are read each time weir connects.")                                                  \
    OPTION(fleet_name, "fleet.name", "fleet-name", STRING, "default", "1", "100", "NAME", false,   \
        "Which fleet: those with one name share one cap.")                                         \
    OPTION(fleet_cap, "fleet.cap", "fleet-cap", INT, "100", "1", "100000", "N", false,             \
        "The most connections all weirs of the fleet have open or opening to one server.")         \
    OPTION(fleet_floor, "fleet.floor", "fleet-floor", INT, "1", "1", "100000", "N", false,         \
        "How many each of them may always have, whatever becomes of the store.")                   \
    OPTION(fleet_instances, "fleet.instances", "fleet-instances", INT, "16", "1", "256", "N",      \
        false,                                                                                     \
        "How many of them run at one time, at the very most, deploys included. Their floors are "  \
        "set aside of the cap; that no more run is a promise on which the cap rests.")             \
    OPTION(fleet_lease_us, "fleet.lease", "fleet-lease", DURATION, "10s", "4s", "5m", "TIME",      \
        false,                                                                                     \
        "How long a lease lasts: how soon what a lost one had is another's, and how long the "     \
        "store may be away (half of it) before all are down to their floors.")                     \
    OPTION(http_port, "http.port", "http-port", INT, "0", "0", "65535", "N", true,                 \
        "Port for what looks at weir over HTTP: / (a dashboard), /metrics, /state, /healthz, "     \
        "/readyz; 27080 is a good one. 0: none.")                                                  \
    OPTION(http_bind_ip, "http.bindIp", "http-bind-ip", STRING, "127.0.0.1", "1", "255",           \
        "ADDRESS", true,                                                                           \
        "The address to listen on for HTTP. Whoever reaches it can read who is connected and "     \
        "what kinds of requests they send, no values.")                                            \
    OPTION(http_hosts, "http.hosts", "http-hosts", LIST, NULL, "1", "4096", "NAME[,...]", true,    \
        "The names by which weir may be asked over HTTP, besides localhost, http.bindIp and any "  \
        "address. A request with another name in its header Host is refused (421): a page from "   \
        "elsewhere, whose name leads here, would read what a browser here may.")                   \
    OPTION(log_metrics_us, "log.metrics", "log-metrics", DURATION, "0", "0", "1h", "TIME", true,   \
        "How often the key figures are written to the log, as Heroku's count#, measure# and "      \
        "sample#. 0: never.")                                                                      \
    OPTION(log_format, "systemLog.format", "log-format", ENUM, "logfmt", "", "",                   \
        "logfmt|json", true,                                                                       \
        "How lines of the log, on standard error, are written.")
// clang-format on

#endif
