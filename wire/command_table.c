// SPDX-License-Identifier: Apache-2.0

#include "wire/command_table.h"

#include <assert.h>

#define R COMMAND_READ
#define W COMMAND_WRITE
#define LOCAL COMMAND_LOCAL
#define HELLO (COMMAND_HELLO | COMMAND_LOCAL | PLAIN)
#define FINISHES COMMAND_FINISHES
#define NS COMMAND_NAMESPACED
#define CURSOR COMMAND_CURSOR
#define PRIMARY COMMAND_ON_PRIMARY
#define PLAIN COMMAND_PLAIN
#define TIMED COMMAND_TIMED

// By what they are about. The order decides nothing but the indices.
#define COMMANDS(X)                                                                                \
    X(find, R | NS | CURSOR | TIMED)                                                               \
    X(aggregate, R | NS | CURSOR | TIMED)                                                          \
    X(count, R | NS | TIMED)                                                                       \
    X(distinct, R | NS | TIMED)                                                                    \
    X(insert, W | NS | TIMED)                                                                      \
    X(update, W | NS | TIMED)                                                                      \
    X(delete, W | NS | TIMED)                                                                      \
    X(findAndModify, W | NS | TIMED)                                                               \
    X(findandmodify, W | NS | TIMED)                                                               \
    X(bulkWrite, W | CURSOR | TIMED)                                                               \
    X(mapReduce, W | NS | TIMED)                                                                   \
    X(mapreduce, W | NS | TIMED)                                                                   \
    X(explain, R | TIMED)                                                                          \
    /* cursors, sessions, transactions */                                                          \
    X(getMore, R | FINISHES | CURSOR)                                                              \
    X(killCursors, R | FINISHES | NS)                                                              \
    X(endSessions, R | FINISHES)                                                                   \
    X(startSession, R)                                                                             \
    X(refreshSessions, R)                                                                          \
    X(killSessions, R | FINISHES)                                                                  \
    X(killAllSessions, R | FINISHES)                                                               \
    X(killAllSessionsByPattern, R | FINISHES)                                                      \
    X(commitTransaction, W | FINISHES)                                                             \
    X(abortTransaction, W | FINISHES)                                                              \
    /* connections and who is at their end */                                                      \
    X(hello, HELLO)                                                                                \
    X(isMaster, HELLO)                                                                             \
    X(ismaster, HELLO)                                                                             \
    X(saslStart, LOCAL | PLAIN)                                                                    \
    X(saslContinue, LOCAL | PLAIN)                                                                 \
    X(authenticate, LOCAL | PLAIN)                                                                 \
    X(logout, LOCAL)                                                                               \
    X(getnonce, LOCAL | PLAIN)                                                                     \
    X(ping, R)                                                                                     \
    X(buildInfo, R)                                                                                \
    X(buildinfo, R)                                                                                \
    X(atlasVersion, R)                                                                             \
    X(whatsmyuri, R)                                                                               \
    X(connectionStatus, R)                                                                         \
    /* databases, collections, indices */                                                          \
    X(create, W | NS)                                                                              \
    X(drop, W | NS)                                                                                \
    X(dropDatabase, W)                                                                             \
    X(createIndexes, W | NS)                                                                       \
    X(dropIndexes, W | NS)                                                                         \
    X(deleteIndexes, W | NS)                                                                       \
    X(reIndex, W | NS)                                                                             \
    X(collMod, W | NS)                                                                             \
    X(renameCollection, W)                                                                         \
    X(convertToCapped, W | NS)                                                                     \
    X(cloneCollectionAsCapped, W)                                                                  \
    X(compact, W | NS)                                                                             \
    X(autoCompact, W)                                                                              \
    X(listDatabases, R | PRIMARY | TIMED)                                                          \
    X(listCollections, R | PRIMARY | CURSOR | TIMED)                                               \
    X(listIndexes, R | PRIMARY | NS | CURSOR | TIMED)                                              \
    X(dbStats, R | TIMED)                                                                          \
    X(dbstats, R | TIMED)                                                                          \
    X(collStats, R | NS | TIMED)                                                                   \
    X(collstats, R | NS | TIMED)                                                                   \
    X(dataSize, R | TIMED)                                                                         \
    X(datasize, R | TIMED)                                                                         \
    X(dbHash, R | TIMED)                                                                           \
    X(dbhash, R | TIMED)                                                                           \
    X(validate, W | NS)                                                                            \
    X(filemd5, R)                                                                                  \
    X(planCacheClear, W | NS)                                                                      \
    X(planCacheClearFilters, W | NS)                                                               \
    X(planCacheListFilters, R | NS)                                                                \
    X(planCacheSetFilter, W | NS)                                                                  \
    X(setQuerySettings, W)                                                                         \
    X(removeQuerySettings, W)                                                                      \
    X(createSearchIndexes, W | NS)                                                                 \
    X(updateSearchIndex, W | NS)                                                                   \
    X(dropSearchIndex, W | NS)                                                                     \
    /* users and roles */                                                                          \
    X(usersInfo, R)                                                                                \
    X(rolesInfo, R)                                                                                \
    X(createUser, W | PLAIN)                                                                       \
    X(updateUser, W | PLAIN)                                                                       \
    X(copydb, W | PLAIN)                                                                           \
    X(copydbgetnonce, W | PLAIN)                                                                   \
    X(copydbSaslStart, W | PLAIN)                                                                  \
    X(dropUser, W)                                                                                 \
    X(dropAllUsersFromDatabase, W)                                                                 \
    X(grantRolesToUser, W)                                                                         \
    X(revokeRolesFromUser, W)                                                                      \
    X(createRole, W)                                                                               \
    X(updateRole, W)                                                                               \
    X(dropRole, W)                                                                                 \
    X(dropAllRolesFromDatabase, W)                                                                 \
    X(grantRolesToRole, W)                                                                         \
    X(revokeRolesFromRole, W)                                                                      \
    X(grantPrivilegesToRole, W)                                                                    \
    X(revokePrivilegesFromRole, W)                                                                 \
    X(invalidateUserCache, W)                                                                      \
    /* the server itself */                                                                        \
    X(serverStatus, R)                                                                             \
    X(connPoolStats, R)                                                                            \
    X(shardConnPoolStats, R)                                                                       \
    X(hostInfo, R)                                                                                 \
    X(listCommands, R)                                                                             \
    X(features, R)                                                                                 \
    X(lockInfo, R)                                                                                 \
    X(top, R)                                                                                      \
    X(getLog, R)                                                                                   \
    X(getCmdLineOpts, R)                                                                           \
    X(getParameter, R)                                                                             \
    X(setParameter, W)                                                                             \
    X(getDefaultRWConcern, R)                                                                      \
    X(setDefaultRWConcern, W)                                                                      \
    X(setFeatureCompatibilityVersion, W)                                                           \
    X(configureFailPoint, W)                                                                       \
    X(profile, W)                                                                                  \
    X(currentOp, R)                                                                                \
    X(killOp, R | FINISHES)                                                                        \
    X(fsync, W)                                                                                    \
    X(fsyncUnlock, W)                                                                              \
    X(logRotate, W)                                                                                \
    X(shutdown, W)                                                                                 \
    /* replication and sharding */                                                                 \
    X(replSetGetStatus, R)                                                                         \
    X(replSetGetConfig, R)                                                                         \
    X(replSetInitiate, W)                                                                          \
    X(replSetReconfig, W)                                                                          \
    X(replSetStepDown, W)                                                                          \
    X(replSetFreeze, W)                                                                            \
    X(appendOplogNote, W)                                                                          \
    X(listShards, R)                                                                               \
    X(getShardMap, R)                                                                              \
    X(getShardVersion, R)                                                                          \
    X(isdbgrid, R)                                                                                 \
    X(balancerStatus, R)                                                                           \
    X(balancerStart, W)                                                                            \
    X(balancerStop, W)                                                                             \
    X(addShard, W)                                                                                 \
    X(removeShard, W)                                                                              \
    X(enableSharding, W)                                                                           \
    X(shardCollection, W)                                                                          \
    X(reshardCollection, W)                                                                        \
    X(refineCollectionShardKey, W)                                                                 \
    X(moveChunk, W)                                                                                \
    X(movePrimary, W)                                                                              \
    X(split, W)                                                                                    \
    X(flushRouterConfig, W)

// clang-format off
enum {
    INDEX_OTHER,
#define X(name, traits) INDEX_##name,
    COMMANDS(X)
#undef X
    INDEX_COUNT,
};

// A name that is not known may do anything.
static const struct command_info commands[] = {
    [INDEX_OTHER] = {"other", W, INDEX_OTHER},
#define X(name, traits) [INDEX_##name] = {#name, traits, INDEX_##name},
    COMMANDS(X)
#undef X
};
// clang-format on

const int COMMAND_COUNT = INDEX_COUNT;

// With a constant `len`, the compiler drops all comparisons but those with names of that length.
static inline __attribute__((always_inline)) const struct command_info *
command_among(const uint8_t *name, size_t len)
{
#define X(text, traits)                                                                            \
    if (len == sizeof(#text) - 1 && memcmp(name, #text, sizeof(#text) - 1) == 0) {                 \
        return &commands[INDEX_##text];                                                            \
    }
    COMMANDS(X)
#undef X
    return &commands[INDEX_OTHER];
}

// The lengths that names have: one of another length would not be found, which the tests would see.
// clang-format off
#define LENGTHS(X)                                                                                 \
    X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18)       \
    X(19) X(20) X(21) X(23) X(24) X(30)
// clang-format on

const struct command_info *command_lookup(struct bytes name)
{
    switch (name.len) {
#define X(len)                                                                                     \
    case len:                                                                                      \
        return command_among(name.at, len);
        LENGTHS(X)
#undef X
    default:
        return &commands[INDEX_OTHER];
    }
}

const struct command_info *command_at(int index)
{
    assert(index >= 0 && index < COMMAND_COUNT);
    return &commands[index];
}
