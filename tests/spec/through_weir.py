# SPDX-License-Identifier: Apache-2.0
"""A plugin for pytest, for a run of pymongo's tests through weir.

To a driver weir is a mongos, so the runner would skip what is only for replica sets, though a
replica set is what is behind it. Here such tests run as well.
"""

from __future__ import annotations

from test import ClientContext

_is_topology_type = ClientContext.is_topology_type


def is_topology_type(context: ClientContext, topologies: list[str]) -> bool:
    behind_weir = context.is_mongos and "replicaset" in topologies
    return behind_weir or _is_topology_type(context, topologies)


def require_no_mongos(context: ClientContext, test: object) -> object:
    return test


ClientContext.is_topology_type = is_topology_type
ClientContext.require_no_mongos = require_no_mongos
