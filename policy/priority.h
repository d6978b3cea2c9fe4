// SPDX-License-Identifier: Apache-2.0
//
// How much a request matters, compared with those that wait beside it.

#ifndef POLICY_PRIORITY_H
#define POLICY_PRIORITY_H

// All-zero is what a request has that no rule names.
enum priority { PRIORITY_NORMAL, PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_COUNT };

#endif
