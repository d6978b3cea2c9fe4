# SPDX-License-Identifier: Apache-2.0
"""A deployment that is named by mongodb+srv://: its members and some options come from DNS."""

from __future__ import annotations

import names
import pymongo
import pytest
import raw
from deployments import StubSet, User, weir_before
from names import CLUSTER, Names

pytestmark = pytest.mark.skipif(names.why_not_here() is not None, reason=str(names.why_not_here()))

SRV = f"mongodb+srv://{CLUSTER}/?tls=false"


@pytest.fixture
def binary(tmp_path):
    return names.asking_weir(tmp_path)


def ports_of(stub: StubSet) -> list[int]:
    return [int(member.host.rsplit(":")[-1]) for member in stub.members]


def test_members_and_options_come_from_dns(binary):
    stub = StubSet(users=[User("app", "secret", db="accounts")])
    uri = SRV.replace("//", "//app:secret@")
    with Names(ports_of(stub)[1:2], "authSource=accounts&replicaSet=stub") as dns:
        with weir_before(stub, uri=uri, binary=binary) as proxy:
            with pymongo.MongoClient(proxy.uri) as client:
                client.test.things.insert_one({"_id": 1})
        assert f"SRV _mongodb._tcp.{CLUSTER}" in dns.asked and f"TXT {CLUSTER}" in dns.asked


def test_mongos_come_and_go_by_dns(binary):
    """DNS is asked again after a minute at the soonest, as the specification says."""
    stub = StubSet("sharded", members=3)
    ports = ports_of(stub)
    with Names(ports[:2]) as dns, weir_before(stub, uri=SRV, binary=binary) as proxy:
        for index in (0, 1):
            proxy.wait_for("server_up", server=f"m{index}.weir.test:{ports[index]}")
        dns.ports = [ports[2], ports[1]]
        proxy.wait_for("server_removed", 90, server=f"m0.weir.test:{ports[0]}")
        proxy.wait_for("server_up", server=f"m0.weir.test:{ports[2]}")
        with pymongo.MongoClient(proxy.uri) as client:
            stub.commands.clear()
            for number in range(20):
                client.test.things.insert_one({"_id": number})
        assert {c.member for c in stub.asked("insert", driver="weir")} == {1, 2}


@pytest.mark.parametrize(
    "wrong, why",
    (
        ({"ports": []}, "SRV"),
        ({"domain": "other.test"}, "other.test"),
        ({"options": "maxPoolSize=5"}, "maxPoolSize"),
    ),
    ids=("no_record", "members_of_another_domain", "an_option_that_dns_may_not_set"),
)
def test_wrong_records_are_named_and_corrected_ones_taken(binary, wrong, why):
    stub = StubSet("sharded")
    with Names(ports_of(stub)) as dns:
        right = {name: getattr(dns, name) for name in wrong}
        vars(dns).update(wrong)
        with weir_before(stub, uri=SRV, binary=binary) as proxy:
            assert why in proxy.wait_for("discovery_failed")["reason"]
            with raw.Connection.to(proxy.address) as connection:
                find = connection.post({"find": "things"})
                vars(dns).update(right)
                assert connection.reply_to(find)["ok"] == 1
