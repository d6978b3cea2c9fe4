// SPDX-License-Identifier: Apache-2.0
//
// The incidents. As in the storms, a server has 8 cores, and 600 requests a second of 8 ms use 0.6
// of them. Each begins at 60 s and lasts until 90 s unless it says otherwise.

#include "incidents.h"

#define FAIR                                                                                       \
    {                                                                                              \
        .cores = 8                                                                                 \
    }
#define CROWDED                                                                                    \
    {                                                                                              \
        .cores = 8, .contention = 0.02                                                             \
    }
#define FAST(n, ...)                                                                               \
    {                                                                                              \
        .name = "fast", .per_s = (n), .cpu_ms = 5, .deadline_us = 500 * MS, __VA_ARGS__            \
    }
#define MIDDLE(n, ...)                                                                             \
    {                                                                                              \
        .name = "middle", .per_s = (n), .cpu_ms = 20, .deadline_us = 500 * MS, __VA_ARGS__         \
    }
#define WAITING(n)                                                                                 \
    {                                                                                              \
        .name = "patient", .per_s = (n), .cpu_ms = 5, .deadline_us = 10 * S                        \
    }
#define LATER(kind, n)                                                                             \
    {1, LOAD, kind, 0}, {60 * S, LOAD, kind, n},                                                   \
    {                                                                                              \
        90 * S, LOAD, kind, 0                                                                      \
    }
#define BOTH(at, what, value)                                                                      \
    {(at)*S, what, 0, value},                                                                      \
    {                                                                                              \
        (at) * S, what, 1, value                                                                   \
    }
#define ENDS .ends_us = 120 * S, .from_us = 60 * S, .until_us = 90 * S
#define CALM                                                                                       \
    {                                                                                              \
        {                                                                                          \
            .clients = 60, .accepted_per_s = 1                                                     \
        }                                                                                          \
    }
#define PURE(cause) .truth = (cause), .also = (cause)

const struct incident incidents[] = {
    {"a scan of 500 ms on a core",
     PURE(CAUSE_SLOW_SHAPE),
     100,
     {.server = CROWDED,
      .kinds =
          {FAST(400, ),
           MIDDLE(100, ),
           {.name = "scan", .per_s = 40, .cpu_ms = 500, .spread = FIXED, .deadline_us = 10 * S}},
      .happenings = {LATER(2, 1)},
      ENDS},
     CALM},
    {"the story: 5 s without an index",
     PURE(CAUSE_SLOW_SHAPE),
     100,
     {.server = FAIR,
      .kinds = {FAST(300, ),
                {.name = "slow",
                 .per_s = 200,
                 .cpu_ms = 2.5,
                 .spread = FIXED,
                 .io_ms = 5000,
                 .deadline_us = 10 * S}},
      .happenings = {LATER(1, 1)},
      ENDS},
     CALM},
    {"one of three shapes loses its index",
     PURE(CAUSE_SLOW_SHAPE),
     100,
     {.server = CROWDED,
      .kinds = {FAST(400, ), FAST(200, ), MIDDLE(25, )},
      .happenings = {{60 * S, DEARER, 2, 20}, {90 * S, DEARER, 2, 1}},
      ENDS},
     CALM},
    {"ten times the traffic, users reload",
     PURE(CAUSE_SPIKE),
     100,
     {.server = CROWDED,
      .kinds = {FAST(480, .retrying = BACK_OFF, .reloads = 2),
                MIDDLE(120, .retrying = BACK_OFF, .reloads = 2)},
      .happenings = {BOTH(60, LOAD, 10), BOTH(90, LOAD, 1)},
      ENDS},
     CALM},
    {"one of five tenants asks eight times as much",
     PURE(CAUSE_SPIKE),
     100,
     {.server = FAIR,
      .kinds = {FAST(480, .first_tenant = 1, .tenants = 4), MIDDLE(80, .first_tenant = 9),
                FAST(200, .first_tenant = 7, .retrying = AT_ONCE)},
      .happenings = {{60 * S, LOAD, 2, 8}, {90 * S, LOAD, 2, 1}},
      ENDS},
     CALM},
    // Who waits for a lock uses no core: there are plenty.
    {"transactions left open: writes wait for their locks",
     PURE(CAUSE_LEAK),
     100,
     {.server = {.cores = 64},
      .kinds = {FAST(400, ), MIDDLE(100, )},
      .happenings = {{60 * S, DEARER, 1, 30}, {90 * S, DEARER, 1, 1}},
      ENDS},
     {{.clients = 60, .accepted_per_s = 1},
      {.at_us = 55 * S, .clients = 60, .accepted_per_s = 1, .transactions_idle = 3},
      {.at_us = 92 * S, .clients = 60, .accepted_per_s = 1}}},
    {"cursors kept behind a load balancer",
     PURE(CAUSE_LEAK),
     100,
     {.server = FAIR, .kinds = {FAST(400, ), MIDDLE(100, )}, ENDS},
     {{.clients = 60, .accepted_per_s = 1},
      {.at_us = 60 * S, .clients = 60, .accepted_per_s = 1, .refused_pins_per_s = 40},
      {.at_us = 90 * S, .clients = 60, .accepted_per_s = 1}}},
    {"600 connections for 20 permits, always nearly full",
     PURE(CAUSE_POOLS),
     20,
     {.server = FAIR,
      .kinds = {{.name = "fast", .per_s = 760, .cpu_ms = 1, .io_ms = 20, .deadline_us = 500 * MS}},
      .happenings = {{60 * S, LOAD, 0, 1.28}, {90 * S, LOAD, 0, 1}},
      ENDS},
     {{.clients = 600, .accepted_per_s = 2}}},
    {"scaled from 1 dyno to 3",
     PURE(CAUSE_POOLS),
     100,
     {.server = FAIR,
      .kinds = {FAST(400, ), MIDDLE(100, )},
      .happenings = {BOTH(60, LOAD, 3), BOTH(90, LOAD, 1)},
      ENDS},
     {{.clients = 150, .accepted_per_s = 1},
      {.at_us = 58 * S, .clients = 450, .accepted_per_s = 5},
      {.at_us = 90 * S, .clients = 150, .accepted_per_s = 1}}},
    {"the server has a tenth of its cores",
     PURE(CAUSE_SLOW_SERVER),
     100,
     {.server = CROWDED,
      .kinds = {FAST(480, ), MIDDLE(120, )},
      .happenings = {{60 * S, CAPACITY, 0, 0.1}, {90 * S, CAPACITY, 0, 1}},
      ENDS},
     CALM},
    {"everything takes five times as long",
     PURE(CAUSE_SLOW_SERVER),
     100,
     {.server = CROWDED,
      .kinds = {FAST(480, .retrying = BACK_OFF), MIDDLE(120, .retrying = BACK_OFF)},
      .happenings = {BOTH(60, DEARER, 5), BOTH(90, DEARER, 1)},
      ENDS},
     CALM},
    {"an election: no primary for 5 s",
     PURE(CAUSE_MEMBER_LOST),
     100,
     {.server = CROWDED,
      .kinds = {WAITING(640), WAITING(160)},
      .happenings = {{60 * S, DIES, 0, 0}, {65 * S, RETURNS, 0, 0}},
      ENDS},
     CALM},
    {"a member that dies twice",
     PURE(CAUSE_MEMBER_LOST),
     50,
     {.server = CROWDED,
      .kinds = {WAITING(500), MIDDLE(100, )},
      .happenings = {{60 * S, DIES, 0, 0},
                     {63 * S, RETURNS, 0, 0},
                     {66 * S, DIES, 0, 0},
                     {70 * S, RETURNS, 0, 0}},
      ENDS},
     CALM},
    {"the server takes 40 connections, the cap is 100",
     PURE(CAUSE_SERVER_FULL),
     100,
     {.server = {.cores = 8, .max_connections = 40},
      .kinds = {{.name = "read", .per_s = 900, .cpu_ms = 4, .io_ms = 10, .deadline_us = 500 * MS}},
      .happenings = {{60 * S, DEARER, 0, 3}, {90 * S, DEARER, 0, 1}},
      ENDS},
     CALM},
    {"the server takes 20, and drivers try again at once",
     PURE(CAUSE_SERVER_FULL),
     60,
     {.server = {.cores = 8, .max_connections = 20},
      .kinds = {{.name = "read",
                 .per_s = 500,
                 .cpu_ms = 4,
                 .io_ms = 10,
                 .deadline_us = 500 * MS,
                 .retrying = AT_ONCE}},
      .happenings = {{60 * S, DEARER, 0, 5}, {90 * S, DEARER, 0, 1}},
      ENDS},
     CALM},
    {"an app that opens a connection for each request",
     PURE(CAUSE_STORM),
     100,
     {.server = CROWDED,
      .kinds = {FAST(480, ), MIDDLE(120, )},
      .happenings = {BOTH(60, LOAD, 2.5), BOTH(90, LOAD, 1)},
      ENDS},
     {{.clients = 60, .accepted_per_s = 1},
      {.at_us = 59 * S, .clients = 300, .accepted_per_s = 1200},
      {.at_us = 90 * S, .clients = 60, .accepted_per_s = 1}}},
    {"5,000 connections come back at once",
     PURE(CAUSE_STORM),
     100,
     {.server = CROWDED,
      .kinds = {FAST(480, ), MIDDLE(120, )},
      .happenings = {BOTH(60, LOAD, 3), BOTH(66, LOAD, 1)},
      ENDS},
     {{.clients = 300, .accepted_per_s = 1},
      {.at_us = 59 * S, .clients = 2000, .accepted_per_s = 1000},
      {.at_us = 64 * S, .clients = 5000, .accepted_per_s = 1}}},
    {"a spike that brings a slow shape along",
     .truth = CAUSE_SPIKE,
     .also = CAUSE_SLOW_SHAPE,
     100,
     {.server = CROWDED,
      .kinds =
          {FAST(400, ),
           MIDDLE(100, ),
           {.name = "report", .per_s = 60, .cpu_ms = 300, .spread = FIXED, .deadline_us = 10 * S}},
      .happenings = {{1, LOAD, 2, 0},
                     BOTH(60, LOAD, 4),
                     {60 * S, LOAD, 2, 1},
                     BOTH(90, LOAD, 1),
                     {90 * S, LOAD, 2, 0}},
      ENDS},
     CALM},
    {"an election, and the new primary is slow for 25 s",
     .truth = CAUSE_MEMBER_LOST,
     .also = CAUSE_SLOW_SERVER,
     100,
     {.server = CROWDED,
      .kinds = {FAST(480, ), MIDDLE(120, )},
      .happenings = {{60 * S, DIES, 0, 0},
                     {60 * S, CAPACITY, 0, 0.1},
                     {64 * S, RETURNS, 0, 0},
                     {90 * S, CAPACITY, 0, 1}},
      ENDS},
     CALM},
};

const int incidents_count = sizeof incidents / sizeof incidents[0];
