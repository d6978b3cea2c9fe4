// SPDX-License-Identifier: Apache-2.0
//
// Every field of a user and of an identity, once. From these tables come struct user_spec and
// struct identity_spec, the mappings under `users:` and `identities:` in the file, the flags of
// `weir user add`, and the reference page. The columns are those of config_table.h.

#ifndef PROXY_USER_TABLE_H
#define PROXY_USER_TABLE_H

// clang-format off
#define USER_OPTIONS(OPTION)                                                                       \
    OPTION(name, "name", "", STRING, NULL, "1", "1023", "NAME", true,                              \
        "The user's name; of one that a certificate stands for, the certificate's subject as RFC " \
        "2253 has it.")                                                                            \
    OPTION(db, "db", "db", STRING, "admin", "1", "63", "NAME", true,                               \
        "The database that the user belongs to, authSource in the app's URI; $external for a "     \
        "certificate.")                                                                            \
    OPTION(scram_sha_256, "scramSha256", "", STRING, NULL, "1", "512", "KEYS", true,               \
        "The keys of SCRAM-SHA-256, as weir user add and weir user import make them: "             \
        "iterations:salt:storedKey:serverKey. Nobody can log in with them, but they can be "       \
        "tried for weak passwords: keep the file to yourself.")                                    \
    OPTION(scram_sha_1, "scramSha1", "", STRING, NULL, "1", "512", "KEYS", true,                   \
        "Likewise of SCRAM-SHA-1, for drivers from before 2018.")                                  \
    OPTION(may, "may", "may", LIST, NULL, "1", "64", "CLASS[,...]", true,                          \
        "What the user may do in its databases: of read, write and admin (what is about the "      \
        "server, other users or whole databases, and every command that weir does not know). Not " \
        "given: nothing.")                                                                         \
    OPTION(databases, "databases", "databases", LIST, NULL, "1", "4096", "NAME[,...]", true,       \
        "The databases that the user may use; shop_* are all whose name begins so, * is all. Of "  \
        "a user who may not admin, no * means admin, config or local. Not given: none.")           \
    OPTION(weir, "weir", "weir", ENUM, "no", "", "", "no|read|act", true,                          \
        "Whether the user may look at weir itself, or change it as well.")                         \
    OPTION(identity, "identity", "identity", STRING, NULL, "1", "63", "NAME", true,                \
        "The entry of identities as whom weir does this user's operations. Not given: the user "   \
        "of upstream.uri.")                                                                        \
    OPTION(tenant, "tenant", "tenant", STRING, NULL, "1", "63", "NAME", true,                      \
        "With whom the user shares its share of what is scarce. Not given: as admission.tenantBy "  \
        "says.")                                                    \
    OPTION(priority, "priority", "priority", ENUM, "normal", "", "", "normal|high|low", true,      \
        "How much this user's operations matter, unless a rule says otherwise.")                                                 \
    OPTION(weight, "weight", "weight", INT, "1", "1", "1000", "N", true,                           \
        "How large its tenant's share is, compared with others.")                                  \
    OPTION(max_in_flight, "maxInFlight", "max-in-flight", INT, "0", "0", "100000", "N", true,      \
        "The most operations of this user at one time; one more is refused as overload (462). 0: " \
        "as many as there is room for.")

#define IDENTITY_OPTIONS(OPTION)                                                                   \
    OPTION(name, "name", "", STRING, NULL, "1", "63", "NAME", true,                                \
        "What users call it.")                                                                     \
    OPTION(username, "username", "", STRING, NULL, "1", "1023", "NAME", true,                      \
        "The deployment's user.")                                                                  \
    OPTION(password_file, "passwordFile", "", STRING, NULL, "1", "4095", "FILE", true,             \
        "A file whose first line is its password.")                                                \
    OPTION(source, "source", "", STRING, "admin", "1", "63", "NAME", true,                         \
        "The database that it belongs to there.")                                                  \
    OPTION(mechanism, "mechanism", "", STRING, NULL, "1", "32", "SCRAM-SHA-256|SCRAM-SHA-1|PLAIN", \
        true, "How it logs in. Not given: as a driver finds out.")
// clang-format on

#endif
