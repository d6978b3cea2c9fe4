# SPDX-License-Identifier: Apache-2.0
"""Apps that want what is not theirs, in raw bytes. Nothing gets through, the log says what was
tried, and holds no secret."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import ssl
import subprocess
import warnings

import bson
import bson.raw_bson
import pytest
import raw
import scram
import servers
import users
import weir
from bson import Int64
from deployments import StubSet, weir_before
from scram import Scram, proceed

ALICE, MALLORY = "alice", "mallory"
PASSWORDS = {ALICE: "secret-of-alice", MALLORY: "secret-of-mallory"}
SECRETS = (*PASSWORDS.values(), "secret-of-boss", "guess", ",p=", "storedKey", "15000:")
DOCUMENTS = 10


@pytest.fixture(scope="module")
def file():
    both = ("--may", "read,write", "--databases", "test")
    entries = [users.add(name, password, *both) for name, password in PASSWORDS.items()]
    all_of_it = ("--may", "read,write,admin", "--databases", "*")
    entries.append(users.add("watcher", "secret-of-watcher", "--weir", "read"))
    return users.file(*entries, users.add("boss", "secret-of-boss", *all_of_it))


@pytest.fixture(scope="module")
def there(file):
    """A stub of a set, which records what reaches it, and weir before it."""
    stub = StubSet()
    with weir_before(stub, "--config", str(file), rejects=True) as proxy:
        with logged_in(proxy, "boss") as boss:
            documents = [{"_id": n} for n in range(DOCUMENTS)]
            assert boss.ask({"insert": "things", "documents": documents})["ok"] == 1
        yield stub, proxy


@pytest.fixture
def stub(there):
    stub, proxy = there
    stub.wait_until(lambda: not proxy.state()["requests"])
    stub.commands.clear()
    return stub


@pytest.fixture
def proxy(there, stub):
    return there[1]


@contextlib.contextmanager
def connected(proxy):
    with raw.Connection.to(proxy.address) as connection:
        yield connection


@contextlib.contextmanager
def logged_in(proxy, name: str):
    with connected(proxy) as connection:
        assert scram.log_in(connection, name, PASSWORDS.get(name, f"secret-of-{name}"))["ok"] == 1
        yield connection


def who(connection) -> list[str]:
    status = connection.ask({"connectionStatus": 1}, db="admin")
    return [user["user"] for user in status["authInfo"]["authenticatedUsers"]]


def reached(stub, *names: str) -> list:
    return stub.asked(*names, driver="weir")


# --- before and during a login ------------------------------------------------------------------

COMMANDS = (
    "find insert update delete aggregate getMore killCursors endSessions killSessions listDatabases"
    " serverStatus createUser shutdown buildInfo currentOp killOp usersInfo whatsmyuri dbStats"
    " startSession getLog listCollections commitTransaction neverHeardOf"
).split()


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_done_for_nobody(stub, proxy, name):
    with connected(proxy) as connection:
        assert connection.ask({name: 1})["code"] == 13
        assert who(connection) == []
    assert not reached(stub, name)


def test_nobody_is_told_who_is_there(proxy):
    with connected(proxy) as connection:
        assert connection.ask({"ping": 1})["ok"] == 1
        assert "secret" not in str(connection.hello())


def test_nothing_is_done_in_the_middle_of_a_login(stub, proxy):
    with connected(proxy) as connection:
        talk = Scram(ALICE, PASSWORDS[ALICE])
        first = connection.ask(talk.start(), db="admin")
        assert connection.ask({"find": "things"})["code"] == 13
        assert who(connection) == []
        final = talk.final(first["payload"])
        assert connection.ask(proceed(final), db="admin")["ok"] == 1
        assert connection.ask({"find": "things"})["ok"] == 1
    assert len(reached(stub, "find")) == 1


def test_what_is_sent_ahead_of_a_login_is_nobodys(stub, proxy):
    """All in one piece, before anything is answered."""
    with connected(proxy) as connection:
        asked = (
            Scram(ALICE, "guess").start(), {"find": "things"},
            proceed(b"c=biws,r=x,p=" + b"A" * 43 + b"="), {"find": "things"},
        )  # fmt: skip
        connection.send(
            b"".join(
                raw.op_msg(raw.body({**each, "$db": "admin"}), request_id=number)
                for number, each in enumerate(asked, 1)
            )
        )
        replies = [connection.reply_to(number) for number in range(1, 5)]
        assert [reply.get("code") for reply in replies] == [None, 13, 18, 13]
    assert not reached(stub, "find")


def test_a_mechanism_that_is_weaker_does_not_let_in(proxy):
    """Whoever has keys for SCRAM-SHA-256 alone; whatever the mechanisms that hello was told."""
    with connected(proxy) as connection:
        listed = connection.ask({"hello": 1, "saslSupportedMechs": f"admin.{ALICE}"}, db="admin")
        assert listed["saslSupportedMechs"] == ["SCRAM-SHA-256"]
        talk = Scram(ALICE, PASSWORDS[ALICE], "SCRAM-SHA-1")
        first = connection.ask(talk.start(), db="admin")
        assert connection.ask(proceed(talk.final(first["payload"])), db="admin")["code"] == 18
        assert who(connection) == []


HOSTILE_CLIENT = {
    "application": {"name": "evil-app"},
    "driver": {"name": "evil-driver", "version": "$where"},
    "os": {"type": "evil-os"}, "platform": "evil-platform", "env": {"name": "evil-env"},
    "mongos": {"host": "evil-host", "client": "evil-client", "version": "8.0"},
}  # fmt: skip


def test_what_a_client_says_it_is_reaches_no_server(stub, proxy):
    """Neither in weir's own hello, of connections that open for it, nor beside its commands."""
    stub.cut("weir")  # what is open was opened for others
    with connected(proxy) as connection:
        hello = {"hello": 1, "client": HOSTILE_CLIENT, "$client": HOSTILE_CLIENT}
        assert connection.ask(hello, db="admin")["ok"] == 1
        assert scram.log_in(connection, ALICE, PASSWORDS[ALICE])["ok"] == 1
        assert connection.ask({"find": "things", "comment": "a comment"})["ok"] == 1
    (find,) = reached(stub, "find")
    assert set(find.body) <= {"find", "comment", "$db", "$readPreference", "lsid"}
    stub.wait_until(lambda: reached(stub, "hello", "isMaster", "ismaster"))
    assert not [command for command in stub.asked() if "evil" in str(command.body)]


def test_a_login_becomes_nobody_else(proxy):
    """Another user's first message in the middle ends both."""
    with connected(proxy) as connection:
        mine, other = Scram(MALLORY, PASSWORDS[MALLORY]), Scram(ALICE, "guess")
        first = connection.ask(mine.start(), db="admin")
        assert connection.ask(other.start(), db="admin")["code"] == 18
        assert connection.ask(proceed(mine.final(first["payload"])), db="admin")["code"] == 17
        assert who(connection) == []
    proxy.wait_for("login_refused", why="began as another user")


def test_a_hello_in_the_middle_changes_nobody(proxy):
    with connected(proxy) as connection:
        mine, other = Scram(MALLORY, PASSWORDS[MALLORY]), Scram(ALICE, "guess")
        first = connection.ask(mine.start(), db="admin")
        hello = {"hello": 1, "speculativeAuthenticate": {**other.start(), "db": "admin"}}
        assert "speculativeAuthenticate" not in connection.ask(hello, db="admin")
        assert connection.ask(proceed(mine.final(first["payload"])), db="admin")["ok"] == 1
        assert who(connection) == [MALLORY]


def test_whoever_is_logged_in_becomes_nobody_else(proxy):
    """Not even with the right password; as the same user, it does nothing."""
    with logged_in(proxy, MALLORY) as connection:
        assert scram.log_in(connection, ALICE, PASSWORDS[ALICE])["code"] == 18
        assert who(connection) == [MALLORY]
        assert scram.log_in(connection, MALLORY, PASSWORDS[MALLORY])["ok"] == 1
        assert who(connection) == [MALLORY]
    proxy.wait_for("login_refused", why="another user is logged in on this connection")


def test_after_logout_nobody_is_there(stub, proxy):
    with logged_in(proxy, ALICE) as connection:
        assert connection.ask({"logout": 1}, db="admin")["ok"] == 1
        assert connection.ask({"find": "things"})["code"] == 13
    assert not reached(stub, "find")


def test_a_recorded_proof_is_of_no_use(proxy):
    """Neither the same bytes, nor the proof in another conversation."""
    with connected(proxy) as connection:
        talk = Scram(ALICE, PASSWORDS[ALICE])
        start = talk.start()
        first = connection.ask(start, db="admin")
        final = talk.final(first["payload"])
        assert connection.ask(proceed(final), db="admin")["ok"] == 1
    with connected(proxy) as connection:
        again = connection.ask(start, db="admin")
        assert again["payload"] != first["payload"]
        assert connection.ask(proceed(final), db="admin")["code"] == 18
    with connected(proxy) as connection:
        again = connection.ask(start, db="admin")
        nonce = dict(part.split(b"=", 1) for part in again["payload"].split(b","))[b"r"]
        proof = final.rsplit(b",p=", 1)[1]
        forged = b"c=biws,r=" + nonce + b",p=" + proof
        assert connection.ask(proceed(forged), db="admin")["code"] == 18
        assert who(connection) == []


# What stands in the place of a proof.
FORGERIES = {
    "nothing": lambda final, said: b"",
    "no proof": lambda final, said: final.rsplit(b",p=", 1)[0],
    "an empty proof": lambda final, said: final.rsplit(b",p=", 1)[0] + b",p=",
    "a short proof": lambda final, said: final.rsplit(b",p=", 1)[0] + b",p=AAAA",
    "zeros": lambda final, said: final.rsplit(b",p=", 1)[0] + b",p=" + b"A" * 43 + b"=",
    "another binding": lambda final, said: final.replace(b"c=biws", b"c=eSws"),
    "our nonce alone": lambda final, said: final.replace(said[len(said) // 2 :], b""),
    "the server's words": lambda final, said: b"v=" + b"A" * 43 + b"=",
    "a kilobyte": lambda final, said: final + b",x=" + b"y" * 1024,
    "a NUL": lambda final, said: final + b"\0",
}


@pytest.mark.parametrize("what", FORGERIES)
def test_no_forgery_is_a_proof(proxy, what):
    with connected(proxy) as connection:
        talk = Scram(ALICE, PASSWORDS[ALICE] if what not in ("zeros",) else "guess")
        first = connection.ask(talk.start(), db="admin")["payload"]
        nonce = dict(part.split(b"=", 1) for part in first.split(b","))[b"r"]
        forged = FORGERIES[what](talk.final(first), nonce)
        assert connection.ask(proceed(forged), db="admin")["code"] == 18
        assert connection.ask(proceed(b""), db="admin")["code"] == 17  # it is over
        assert who(connection) == []


STRANGE = {
    "no mechanism": ({"saslStart": 1, "payload": b"n,,n=alice,r=x"}, 334),
    "PLAIN": ({"saslStart": 1, "mechanism": "PLAIN", "payload": b"\0alice\0guess"}, 334),
    "PLUS": ({"saslStart": 1, "mechanism": "SCRAM-SHA-256-PLUS", "payload": b"p=x,,n=a,r=b"}, 334),
    "MONGODB-CR": ({"getnonce": 1}, 334),
    "a certificate": ({"authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=x"}, 18),
    "no payload": ({"saslStart": 1, "mechanism": "SCRAM-SHA-256"}, 18),
    "as another": ({"saslStart": 1, "mechanism": "SCRAM-SHA-256",
                    "payload": b"n,a=alice,n=mallory,r=abc"}, 18),
    "going on with nothing": ({"saslContinue": 1, "conversationId": 1, "payload": b""}, 17),
}  # fmt: skip


@pytest.mark.parametrize("what", STRANGE)
def test_no_other_way_in(proxy, what):
    command, code = STRANGE[what]
    with connected(proxy) as connection:
        assert connection.ask(command, db="admin")["code"] == code
        assert who(connection) == []


# --- who is there, and who is not ---------------------------------------------------------------


def shape(reply: dict) -> dict:
    """Of a first message all but what is chance."""
    said = dict(part.split(b"=", 1) for part in reply["payload"].split(b","))
    return {**reply, "payload": (len(said[b"r"]), len(said[b"s"]), said[b"i"])}


def test_who_is_not_there_seems_to_be(proxy):
    seen = {}
    for name in (ALICE, "nobody", "nobody else"):
        with connected(proxy) as connection:
            talk = Scram(name, "guess")
            hello = {"hello": 1, "saslSupportedMechs": f"admin.{name}"}
            listed = connection.ask(hello, db="admin")["saslSupportedMechs"]
            first = connection.ask(talk.start(), db="admin")
            last = connection.ask(proceed(talk.final(first["payload"])), db="admin")
            seen[name] = (listed, shape(first), last)
    assert seen[ALICE] == seen["nobody"] == seen["nobody else"]


def test_the_salt_of_nobody_stays(file, tmp_path):
    """Of each his own; also after a restart, if there is a secret."""
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(32))
    salts = []
    for _ in range(2):
        arguments = ("--config", str(file), "--salt-secret-file", str(secret))
        with weir.Weir("mongodb://127.0.0.1:1/", *arguments) as proxy:
            for name in ("nobody", "nobody", "nobody else"):
                with connected(proxy) as connection:
                    first = connection.ask(Scram(name, "x").start(), db="admin")["payload"]
                    salts.append(first.split(b",s=")[1])
    assert salts[0] == salts[1] == salts[3] and salts[0] != salts[2] == salts[5]


def test_guesses_stand_in_line(proxy, file):
    """Many connections guess no faster than one: what waits too long is closed. Who comes from
    elsewhere does not wait; nor does a worker."""
    with weir.Weir("mongodb://127.0.0.1:1/", "--config", str(file), unix=True) as other:
        connections = [raw.Connection.to(other.address) for _ in range(120)]
        talks = []
        for number in range(8):  # so that the pause is as long as it gets
            with connected(other) as connection:
                assert scram.log_in(connection, ALICE, f"guess {number}")["code"] == 18
        for connection in connections:
            talk = Scram(ALICE, "guess")
            talks.append(talk.final(connection.ask(talk.start(), db="admin")["payload"]))
        for connection, final in zip(connections, talks):
            connection.post(proceed(final), db="admin")
        with raw.Connection(_unix(other)) as elsewhere:
            assert scram.log_in(elsewhere, MALLORY, PASSWORDS[MALLORY])["ok"] == 1
        replies = [connection.receive() for connection in connections]
        answered = [reply for reply in replies if reply is not None]
        assert 0 < len(answered) < len(connections)
        assert all(reply.document["code"] == 18 for reply in answered)
        other.wait_for("login_refused", why="too many attempts wait from this address")
        lines = other.count("login_refused")
        assert lines < len(connections)  # rate-limited
        for connection in connections:
            connection.stream.close()


def _unix(proxy) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(proxy.socket_path))
    return stream


# --- cursors, sessions, transactions of others --------------------------------------------------


def lsid() -> dict:
    return {"id": bson.Binary(os.urandom(16), 4)}


def get_more(cursor: int) -> dict:
    return {"getMore": Int64(cursor), "collection": "things"}


@pytest.mark.parametrize("session", [None, lsid()], ids=["no session", "a session"])
def test_a_cursor_is_its_users(stub, proxy, session):
    mine = {"lsid": session} if session else {}
    with logged_in(proxy, ALICE) as alice, logged_in(proxy, MALLORY) as mallory:
        cursor = alice.ask({"find": "things", "batchSize": 2, **mine})["cursor"]["id"]
        for more in ({}, mine, {"lsid": lsid()}):
            assert mallory.ask({**get_more(cursor), **more})["code"] == 43
        kill = {"killCursors": "things", "cursors": [Int64(cursor)]}
        assert mallory.ask(kill)["code"] == 13
        assert mallory.ask({**kill, "cursors": [Int64(5), Int64(cursor)]})["code"] == 13
        assert not reached(stub, "getMore") and not reached(stub, "killCursors")
        with logged_in(proxy, ALICE) as another:  # of the same user
            batch = another.ask({**get_more(cursor), **mine})["cursor"]["nextBatch"]
        assert len(batch) == DOCUMENTS - 2
    proxy.wait_for("access_denied", user=MALLORY, command="getMore")


def test_a_cursor_nobody_knows_is_nobodys(stub, proxy):
    with logged_in(proxy, MALLORY) as mallory:
        assert mallory.ask(get_more(123456789))["code"] == 43
    assert not reached(stub, "getMore")


def test_a_session_is_another_for_another(stub, proxy):
    """Whoever knows an id cannot use, end or kill what it stands for."""
    session = {"lsid": lsid()}
    with logged_in(proxy, ALICE) as alice, logged_in(proxy, MALLORY) as mallory:
        begun = {"txnNumber": Int64(1), "autocommit": False}
        insert = {"insert": "things", "documents": [{"_id": "of alice"}]}
        assert alice.ask({**insert, **session, **begun, "startTransaction": True})["ok"] == 1
        theirs = mallory.ask({"find": "things", **session, **begun})
        assert theirs["ok"] == 0
        assert mallory.ask({"abortTransaction": 1, **session, **begun}, db="admin")["ok"] == 0
        for name in ("endSessions", "killSessions", "refreshSessions"):
            mallory.ask({name: [session["lsid"]]}, db="admin")
        assert alice.ask({"commitTransaction": 1, **session, **begun}, db="admin")["ok"] == 1
        found = alice.ask({"find": "things", "filter": {"_id": "of alice"}})
        assert len(found["cursor"]["firstBatch"]) == 1
    seen = {bytes(command.lsid) for command in reached(stub, "insert", "find") if command.lsid}
    assert bytes(session["lsid"]["id"]) not in seen


def test_a_retryable_write_of_another_is_another(stub, proxy):
    write = {"insert": "things", "lsid": lsid(), "txnNumber": Int64(1)}
    with logged_in(proxy, ALICE) as alice, logged_in(proxy, MALLORY) as mallory:
        assert alice.ask({**write, "documents": [{"_id": "a"}]})["n"] == 1
        assert mallory.ask({**write, "documents": [{"_id": "m"}]})["n"] == 1
        assert alice.ask({**write, "documents": [{"_id": "a"}]})["n"] == 1  # the same once more
        found = alice.ask({"find": "things", "filter": {"_id": {"$in": ["a", "m"]}}})
        assert len(found["cursor"]["firstBatch"]) == 2


UIDS = {
    "in lsid": lambda session, uid: {"find": "things", "lsid": {**session, "uid": uid}},
    "before the id": lambda session, uid: {"find": "things", "lsid": {"uid": uid, **session}},
    "to end": lambda session, uid: {"endSessions": [{**session, "uid": uid}]},
    "to kill": lambda session, uid: {"killSessions": [{**session, "uid": uid}]},
    "to refresh": lambda session, uid: {"refreshSessions": [{**session, "uid": uid}]},
}


@pytest.mark.parametrize("where", UIDS)
def test_nobody_says_whose_a_session_is(stub, proxy, where):
    command = UIDS[where](lsid(), bson.Binary(os.urandom(32)))
    with logged_in(proxy, MALLORY) as mallory:
        assert mallory.ask(command)["code"] == 13
    assert not reached(stub, *command)


# --- operations of others -----------------------------------------------------------------------


OWN = {"aggregate": 1, "pipeline": [{"$currentOp": {}}], "cursor": {}}


def own_operations(connection, *stages: dict) -> list[dict]:
    pipeline = [{"$currentOp": {"allUsers": False, "localOps": True}}, *stages]
    reply = connection.ask({**OWN, "pipeline": pipeline}, db="admin")
    assert reply["cursor"]["id"] == 0 and reply["cursor"]["ns"] == "admin.$cmd.aggregate"
    return reply["cursor"]["firstBatch"]


@contextlib.contextmanager
def a_find_under_way(stub, proxy, name: str):
    """Of that user, on a connection of its own, with its request id."""
    slow = stub.fail("find", delay_s=60)
    with logged_in(proxy, name) as connection:
        asked = connection.post({"find": "things", "filter": {"_id": "a value"}})
        stub.wait_until(lambda: slow.delayed == 1)
        yield connection, asked


def test_an_operation_is_its_users(stub, proxy):
    """Others neither see nor end it; to them it is as one that does not exist. Its user does both,
    also from another connection."""
    with (
        a_find_under_way(stub, proxy, ALICE) as (finding, asked),
        logged_in(proxy, ALICE) as alice,
        logged_in(proxy, MALLORY) as mallory,
    ):
        (find,) = own_operations(alice, {"$match": {"op": "query"}})
        assert [seen["op"] for seen in own_operations(mallory)] == ["command"]  # this one itself
        assert own_operations(mallory, {"$match": {"opid": find["opid"]}}) == []
        nothing = mallory.ask({"killOp": 1, "op": 2**31 - 1}, db="admin")
        for number in (find["opid"], Int64(find["opid"]), float(find["opid"])):
            foreign = mallory.ask({"killOp": 1, "op": number}, db="admin")
            assert foreign == nothing and foreign["code"] == 13
        assert own_operations(alice, {"$match": {"opid": find["opid"]}})

        assert find["ns"] == "test.things" and find["active"] and find["type"] == "op"
        assert find["effectiveUsers"] == [{"user": ALICE, "db": "admin"}]
        assert find["client"] == "%s:%d" % finding.stream.getsockname()[:2]
        assert "a value" not in str(find) and "_id" in find["command"]["$truncated"]
        killed = alice.ask({"killOp": 1, "op": find["opid"]}, db="admin")
        assert killed == {"info": "attempting to kill op", "ok": 1.0}
        assert finding.reply_to(asked)["code"] == 11601
        assert alice.ask({"killOp": 1, "op": find["opid"]}, db="admin") == nothing
    said = proxy.wait_for("kill_ordered", request=str(find["opid"]))
    assert said["by"].startswith(ALICE)
    assert not reached(stub, "currentOp") and not reached(stub, "aggregate")


def test_what_is_tried_on_others_operations_is_in_the_log(proxy):
    """Of many that try much in one second, some."""

    def is_told() -> bool:
        assert mallory.ask({"killOp": 1, "op": 1}, db="admin")["code"] == 13
        lines = [each for each in list(proxy.events) if each["event"] == "access_denied"]
        return any(each["user"] == MALLORY and each["command"] == "killOp" for each in lines)

    with logged_in(proxy, MALLORY) as mallory:
        StubSet.wait_until(is_told)


def test_the_old_command_tells_the_same(stub, proxy):
    with (
        a_find_under_way(stub, proxy, ALICE),
        logged_in(proxy, ALICE) as alice,
        logged_in(proxy, MALLORY) as mallory,
    ):
        old = {"currentOp": 1, "$ownOps": True, "ns": "test.things", "secs_running": {"$gte": 0}}
        (find,) = alice.ask(old, db="admin")["inprog"]
        assert find["op"] == "query"
        assert mallory.ask(old, db="admin")["inprog"] == []
        assert len(mallory.ask({"currentOp": 1, "$ownOps": 1}, db="admin")["inprog"]) == 1
        alice.ask({"killOp": 1, "op": find["opid"]}, db="admin")


# What is asked, where, and the code of the refusal.
NOT_OWN = {
    "all users'": ([{"$currentOp": {"allUsers": True}}], "admin", 13),
    "all users', said last": ([{"$currentOp": bson.SON(allUsers=False, x=1)}], "admin", 9),
    "elsewhere": ([{"$currentOp": {}}], "test", 73),
    "idle ones": ([{"$currentOp": {"idleConnections": True}}], "admin", 115),
    "by a number": ([{"$currentOp": {"idleCursors": 1}}], "admin", 14),
    "no options": ([{"$currentOp": 1}], "admin", 14),
    "to a collection": ([{"$currentOp": {}}, {"$out": "x"}], "admin", 115),
    "of another": ([{"$currentOp": {}}, {"$unionWith": "things"}], "admin", 115),
    "two at once": ([{"$currentOp": {}, "$match": {}}], "admin", 115),
    "a pattern": ([{"$currentOp": {}}, {"$match": {"ns": bson.Regex("t")}}], "admin", 2),
}


@pytest.mark.parametrize("what", NOT_OWN)
def test_what_is_not_about_ones_own_operations(stub, proxy, what):
    pipeline, db, code = NOT_OWN[what]
    with logged_in(proxy, MALLORY) as mallory:
        reply = mallory.ask({**OWN, "pipeline": pipeline}, db=db)
        assert reply["code"] == code and not reply["codeName"].startswith("Location")
    assert not reached(stub, "aggregate")


def test_options_twice_do_not_tell_of_others(stub, proxy):
    """Whichever of them would count."""
    for first, second in ((True, False), (False, True)):
        options = bson.encode({"allUsers": first})[4:-1] + bson.encode({"allUsers": second})[4:]
        stage = bson.raw_bson.RawBSONDocument((len(options) + 4).to_bytes(4, "little") + options)
        with logged_in(proxy, MALLORY) as mallory:
            pipeline = [{"$currentOp": stage}]
            assert mallory.ask({**OWN, "pipeline": pipeline}, db="admin")["code"] == 13
            twice = bson.encode({"$ownOps": second})[4:]
            body = bson.encode({"currentOp": 1, "$db": "admin", "$ownOps": first})[4:-1] + twice
            document = (len(body) + 4).to_bytes(4, "little") + body
            mallory.send(raw.op_msg(raw.body(document), request_id=9))
            reply = mallory.reply_to(9)  # all or none: never another's
            assert reply.get("code") == 13 or len(reply["inprog"]) == 1


@pytest.mark.parametrize("op", [None, "shard:1", -1, 0, 1.5, {"$gt": 0}, [1], True])
def test_what_is_no_operation_is_not_killed(stub, proxy, op):
    with logged_in(proxy, MALLORY) as mallory:
        assert mallory.ask({"killOp": 1, "op": op}, db="admin")["code"] == 13
    assert not reached(stub, "killOp")


def test_an_admins_commands_are_about_the_server(stub, proxy):
    with logged_in(proxy, "boss") as boss:
        boss.ask({"killOp": 1, "op": 1}, db="admin")
        boss.ask({"currentOp": 1}, db="admin")
        boss.ask(OWN, db="admin")
    assert len(reached(stub, "killOp")) == len(reached(stub, "currentOp")) == 1
    assert reached(stub, "aggregate")


# --- more than one may --------------------------------------------------------------------------

ADMIN = {
    "killOp": {"killOp": 1, "op": 1},
    "currentOp": {"currentOp": 1},
    "$currentOp": {"aggregate": 1, "pipeline": [{"$currentOp": {"allUsers": True}}], "cursor": {}},
    "killAllSessions": {"killAllSessions": []},
    "killAllSessionsByPattern": {"killAllSessionsByPattern": [{}]},
    "$listSessions": {"aggregate": "x", "pipeline": [{"$listSessions": {}}], "cursor": {}},
    "$listLocalSessions": {"aggregate": 1, "pipeline": [{"$listLocalSessions": {}}], "cursor": {}},
    "createUser": {"createUser": "x", "pwd": "y", "roles": []},
    "usersInfo": {"usersInfo": 1},
    "serverStatus": {"serverStatus": 1},
    "shutdown": {"shutdown": 1},
    "unheard of": {"neverHeardOf": 1},
    "a trailing NUL's cousin": {"Find": "things"},
    "system.users": {"find": "system.users"},
    "$client": {"find": "things", "$client": {"mongos": {}}},
    "$impersonatedUsers": {"find": "things", "$impersonatedUsers": [{"user": "boss"}]},
}  # fmt: skip


def test_all_of_ones_sessions_are_not_everybodys(stub, proxy):
    """To a server an empty list is all sessions of its user, who is the same for all of weir's."""
    with logged_in(proxy, MALLORY) as mallory:
        reply = mallory.ask({"killSessions": []})
        assert (reply["ok"], reply["code"]) == (0, 13)
    assert not reached(stub, "killSessions")


@pytest.mark.parametrize("what", ADMIN)
@pytest.mark.parametrize("db", ["test", "admin"])
def test_what_is_for_admins_is_not_for_users(stub, proxy, what, db):
    with logged_in(proxy, MALLORY) as mallory:
        assert mallory.ask(ADMIN[what], db=db)["code"] == 13
    assert not reached(stub, *ADMIN[what])


def test_a_field_twice_is_refused(stub, proxy):
    """weir would look at one, and a server might look at the other."""
    find = {"find": "things"}
    for twice in ({"$db": "admin"}, {"find": "other"}, {"lsid": lsid()}):
        with logged_in(proxy, MALLORY) as mallory:
            first = bson.encode({**find, "lsid": lsid(), "$db": "test"})
            body = first[4:-1] + bson.encode(twice)[4:]
            document = (len(body) + 4).to_bytes(4, "little") + body
            mallory.send(raw.op_msg(raw.body(document), request_id=9))
            assert mallory.reply_to(9)["code"] == 13
    assert not reached(stub, "find")


def test_an_unacknowledged_write_that_is_not_allowed_is_not_done(stub, proxy):
    with logged_in(proxy, MALLORY) as mallory:
        write = {"insert": "things", "documents": [{}], "writeConcern": {"w": 0}}
        mallory.post(write, db="other", flags=raw.MORE_TO_COME)
        assert mallory.ask({"ping": 1})["ok"] == 1
    assert not reached(stub, "insert")


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_proxy(file):
    certificates = servers.certificates()
    key = str(certificates / "server.pem")
    arguments = ("--tls-mode", "requireTLS", "--tls-certificate-key-file", key)
    with weir.Weir("mongodb://127.0.0.1:1/", "--config", str(file), *arguments) as proxy:
        yield proxy


def test_plain_bytes_before_tls_are_not_taken(tls_proxy):
    with raw.Connection.to(tls_proxy.address) as connection:
        connection.send(raw.op_msg(raw.body({"hello": 1, "$db": "admin"})))
        assert connection.is_ended()


def test_a_command_behind_a_client_hello_is_not_taken(tls_proxy):
    """Its bytes would be taken for TLS's: the handshake fails."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    with raw.Connection.to(tls_proxy.address) as connection:
        connection.send(outgoing.read() + raw.op_msg(raw.body({"ping": 1, "$db": "admin"})))
        assert connection.is_ended()


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_no_tls_of_old(tls_proxy, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = getattr(ssl.TLSVersion, version)
    with socket.create_connection(tls_proxy.address) as stream:
        with pytest.raises(ssl.SSLError, match="alert protocol version"):
            context.wrap_socket(stream)


# --- floods -------------------------------------------------------------------------------------


def test_a_flood_of_half_logins_leaves_others_alone(stub, proxy):
    """Conversations that begin and never end, a thousand on one connection and a hundred others."""
    idle = [raw.Connection.to(proxy.address) for _ in range(100)]
    try:
        for connection in idle:
            assert connection.ask(Scram(ALICE, "guess").start(), db="admin")["ok"] == 1
        with connected(proxy) as connection:
            for _ in range(1000):
                assert connection.ask(Scram(ALICE, "guess").start(), db="admin")["ok"] == 1
        with logged_in(proxy, MALLORY) as mallory:
            assert mallory.ask({"find": "things"})["ok"] == 1
    finally:
        for connection in idle:
            connection.stream.close()


def dumps_core(child: subprocess.Popen) -> bool:
    """Whether it leaves its memory behind when it dies of a fault."""
    os.kill(child.pid, signal.SIGABRT)
    _, status = os.waitpid(child.pid, 0)
    child.returncode = status
    return os.WCOREDUMP(status)


def test_there_is_no_core_with_passwords_in_it(file, tmp_path):
    def started(*command: str, **more: object) -> subprocess.Popen:
        limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        return subprocess.Popen(
            command, cwd=tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, limit),
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **more,
        )  # fmt: skip

    try:
        if not dumps_core(started("sleep", "60")):
            pytest.skip("here no process leaves a core")
    except subprocess.SubprocessError as error:
        pytest.skip(f"cores cannot be allowed here: {error}")
    for path in tmp_path.iterdir():
        path.unlink()
    flags = ("--config", str(file), "--port", "0")
    child = started(str(weir.default_binary()), "mongodb://127.0.0.1:1/", *flags)
    while b"event=ready" not in child.stderr.readline():
        pass
    assert not dumps_core(child)
    child.stderr.close()
    assert not list(tmp_path.iterdir())


# --- at last ------------------------------------------------------------------------------------


def test_nothing_secret_is_told(there):
    """In no collection of the database weir, which are what /state and /metrics are made of."""
    _, proxy = there
    with logged_in(proxy, "watcher") as watcher:
        listed = watcher.ask({"listCollections": 1}, db="weir")["cursor"]["firstBatch"]
        told = ""
        for name in [each["name"] for each in listed]:
            reply = watcher.ask({"find": name, "batchSize": 100000}, db="weir")
            told += str(reply["cursor"]["firstBatch"])
        assert MALLORY in told or ALICE in told or "watcher" in told
    for secret in SECRETS:
        assert secret not in told


def test_nothing_secret_is_in_the_log(there):
    """Of all that was tried above: no password, no key, no proof."""
    _, proxy = there
    log = "\n".join(proxy.lines)
    assert "login_refused" in log and "access_denied" in log
    for secret in SECRETS:
        assert secret not in log
