// SPDX-License-Identifier: Apache-2.0

#include "policy/shared_cap.h"

static int lesser(int a, int b)
{
    return a < b ? a : b;
}

static int greater(int a, int b)
{
    return a > b ? a : b;
}

int shared_cap_keeps(int kept, int cap, int clients, int successors_clients)
{
    long long all = (long long)clients + successors_clients;
    int share = all > 0 ? (int)((cap * (long long)clients + all - 1) / all) : 0;
    return greater(lesser(kept, lesser(share, cap - 1)), 1);
}

int shared_cap_held(int keeps, int open)
{
    return greater(keeps, open);
}

int shared_cap_leaves(int cap, int held)
{
    return greater(cap - held, 0);
}
