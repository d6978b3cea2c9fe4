// SPDX-License-Identifier: Apache-2.0
//
// What weir records of a request, not recorded: for recording.py, which links these instead (ld's
// --wrap). What is counted by additions in place is counted here, too.

#include <stdint.h>

#define NOTHING(name)                                                                              \
    void __wrap_##name(void);                                                                      \
    void __wrap_##name(void)                                                                       \
    {                                                                                              \
    }

NOTHING(demand_arrived)
NOTHING(demand_refused)
NOTHING(demand_waited)
NOTHING(meter_record)
NOTHING(traffic_record)

int __wrap_tenants_place(void);
int __wrap_tenants_place(void)
{
    return 0; // the others'
}
