// SPDX-License-Identifier: Apache-2.0
//
// A simulated server: answers hello and authentication, serves operations on its cores (processor
// sharing), keeps cursors and transactions, and fails in the ways its knobs say.

#ifndef SIM_SERVER_H
#define SIM_SERVER_H

#include "tests/sim/sim_world.h"

void servers_begin(void);
void servers_heal(void);   // from now on nothing goes wrong any more
void servers_finish(void); // frees them; all connections must be closed

// The address of a server; index 0 is the good one, others lead nowhere.
void server_address(int server, int index, struct address *ret_address);

// Of the deployment, as discovery sees it.
bool server_is_member(int server);
int servers_member_count(void);
enum server_kind server_kind_seen(int server);

// As killOp: ends what that connection was at before asked_us, if it still is.
void server_kill(int server, int64_t connection, int64_t asked_us);

// What is open in all servers.
int servers_connection_count(void);
int servers_cursor_count(void);
int servers_transaction_count(void);

#endif
