# SPDX-License-Identifier: Apache-2.0
"""What people type wrong: one line that names the place, what is wrong and what would be right."""

from __future__ import annotations

import os
import re
import socket
import subprocess

import pytest
import servers
import weir

NOWHERE = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1"  # refused before it is asked
REFUSED = 2
PEM = "-----BEGIN {0}-----.*?-----END {0}-----"


def run(*arguments: str, said: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Without the variables of whoever runs the tests."""
    env = {"PATH": os.environ["PATH"], "MONGOC_DISABLE_SHM": "1", **variables}
    return subprocess.run(
        [str(weir.default_binary()), *arguments],
        input=said, capture_output=True, text=True, timeout=30, env=env,
    )  # fmt: skip


def refusal(*arguments: str, status: int = REFUSED, **more: str) -> str:
    """The one line that it says; of a start that got far, the log comes before it."""
    done = run(*arguments, **more)
    assert (done.returncode, done.stdout) == (status, ""), done
    *log, line = done.stderr.splitlines()
    assert all(" event=" in one for one in log), done.stderr
    return line


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files that are not what they should be, by their names."""
    directory = tmp_path_factory.mktemp("files")
    certs = servers.certificates()
    made = {"certs": certs, "directory": directory}
    certificate = re.search(PEM.format("CERTIFICATE"), (certs / "server.pem").read_text(), re.S)[0]
    key = re.search(PEM.format("PRIVATE KEY"), (certs / "client.pem").read_text(), re.S)[0]
    for name, text in {
        "empty": "", "junk": "junk\n", "mismatch": certificate + "\n" + key, "no-key": certificate,
    }.items():  # fmt: skip
        made[name] = directory / name
        made[name].write_text(text)
    made["weak"] = directory / "weak"
    command = "openssl req -x509 -noenc -newkey rsa:1024 -subj /CN=x -keyout - -out -".split()
    made["weak"].write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    return made


TLS = ["--tls-mode", "requireTLS", "--tls-certificate-key-file"]
GOOD = [*TLS, "{certs}/server.pem"]
HOOK = ["--events-webhook", "https://localhost/", "--events-webhook-ca-file"]
STARTS = [
    ([*TLS, "/nowhere"], "--tls-certificate-key-file: /nowhere: cannot be read: no such file"),
    ([*TLS, "{directory}"], "--tls-certificate-key-file: {directory}: cannot be read: is a dir"),
    ([*TLS, "{empty}"], "--tls-certificate-key-file: {empty}: no certificate in it"),
    ([*TLS, "{junk}"], "--tls-certificate-key-file: {junk}: no certificate in it"),
    ([*TLS, "{no-key}"], "--tls-certificate-key-file: {no-key}: no private key in it"),
    ([*TLS, "{mismatch}"], "--tls-certificate-key-file: {mismatch}: its private key does not belong"),
    ([*TLS, "{weak}"], "--tls-certificate-key-file: {weak}: its key is too small: RSA of 2048"),
    ([*GOOD, "--tls-ca-file", "/nowhere"], "--tls-ca-file: /nowhere: cannot be read: no such file"),
    ([*GOOD, "--tls-ca-file", "{junk}"], "--tls-ca-file: {junk}: no certificate in it"),
    ([*GOOD, "--tls-ca-file", "{certs}/ca.pem", "--tls-crl-file", "{empty}"],
     "--tls-crl-file: {empty}: no revocation list in it"),
    (["--events-path", "/nowhere"], "--events-path: /nowhere: cannot be written to: No such file"),
    ([*HOOK, "/nowhere"], "--events-webhook-ca-file: /nowhere: cannot be read: no such file"),
    ([*HOOK, "{junk}"], "--events-webhook-ca-file: {junk}: no certificate in it"),
    (["--salt-secret-file", "/nowhere"], "--salt-secret-file /nowhere: No such file"),
    (["--salt-secret-file", "{junk}"], "--salt-secret-file {junk}: has less than 32 bytes"),
    (["--control-socket", "{junk}"], "--control-socket: {junk}: is there, and no socket"),
    (["--unix-socket", "{junk}"], "--unix-socket: {junk}: is there, and no socket"),
    (["--bind-ip", "no.such.host.invalid"], "--bind-ip no.such.host.invalid: no such host"),
    (["--bind-ip", "192.0.2.1"], "--bind-ip: 192.0.2.1:0: cannot assign requested"),
    (["--http-port", "1", "--http-bind-ip", "no.such.host.invalid"],
     "--http-bind-ip no.such.host.invalid: no such host"),
    (["--port", "{used}"], "--port {used}: 127.0.0.1:{used}: address already in use"),
    (["--http-port", "{used}"], "--http-port {used}: 127.0.0.1:{used}: address already in use"),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "says"), STARTS, ids=[says for _, says in STARTS])
def test_what_no_start_gets_past(files, flags, says):
    with socket.create_server(("127.0.0.1", 0)) as used:
        here = {**files, "used": used.getsockname()[1]}
        flags = [flag.format(**here) for flag in flags]
        open_to_all = ["--allow-remote-without-auth"] if "--bind-ip" in flags else []
        salted = "--salt-secret-file" in flags  # read at the start only where users log in
        port = [] if "--port" in flags else ["--port", "0"]
        line = refusal(*(["check", "/dev/null"] if salted else []), NOWHERE, *port,
                       *open_to_all, *flags)  # fmt: skip
        assert line.startswith("weir: " + says.format(**here)), line


COMMANDS = [
    (["chekc", "x"], "weir: chekc: unknown command, did you mean weir check?"),
    (["explain_event"], "weir: URI: must begin with mongodb:// or mongodb+srv://"),
    (["app:s3same@doctor"], "weir: URI: must begin with mongodb:// or mongodb+srv://"),
    (["--max-conn", "4", NOWHERE], "weir: --max-conn: unknown flag, did you mean --max-connections?"),
    (["help", "ctk"], "weir: ctk: unknown command, did you mean weir ctl?"),
    (["check"], "weir: check: needs a FILE"),
    (["exec", "true"], "weir: exec: say what is to be run"),
    (["exec", "--", "true"], "weir: URI: missing; MONGODB_URI, WEIR_URI or upstream.uri"),
    (["exec", "--variable", "A", "--", "true"], "weir: A: must begin with mongodb:// or mongodb+srv"),
    (["plan"], "weir plan: needs --tier or --limit, as in: weir plan --tier M10"),
    (["plan", "--tire", "M10"], "weir plan: --tire: unknown flag, did you mean --tier?"),
    (["plan", "--tier"], "weir plan: --tier: needs a value"),
    (["plan", "--tier=M10", "--limit=9"], "weir plan: --tier and --limit say the same: one of them"),
    (["plan", "--tier=M10", "--json=1"], "weir plan: --json: has no value"),
    (["plan", "--tier=M10", "--heroku=/dev/null"], "weir plan: --heroku /dev/null: has no formation"),
    (["plan", "--tier=M10", "--heroku={junk}"], "weir plan: --heroku {junk}: is not JSON"),
    (["plan", "--tier=M10", "--heroku=/nowhere"], "weir plan: --heroku /nowhere: No such file"),
    (["top", "--json"], "weir top: --json: only with --once"),
    (["top", "mongodb://app:s3same@h"], "weir top: an argument too many, see --help"),
    (["explain-event"], "weir explain-event: say which: an ID from the log, or a FILE; see --help"),
    (["explain-event", "--prot", "1"], "weir explain-event: --prot: unknown flag, did you mean --port?"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), COMMANDS, ids=[says for _, says in COMMANDS])
def test_what_is_no_command(files, words, says):
    line = refusal(*(word.format(**files) for word in words), A="postgres://app:s3same@h")
    assert line.startswith(says.format(**files)) and "s3same" not in line


@pytest.mark.parametrize("command", ["", "check", "exec", "top", "ctl", "doctor", "plan", "user",
                                     "explain-event"])  # fmt: skip
def test_help_fits_a_terminal(command):
    done = run(*filter(None, [command]), "--help")
    assert done.returncode == 0 and done.stdout.startswith("Usage: weir ") and not done.stderr
    assert run("help", *filter(None, [command])).stdout == done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []


USERS = [
    (["add"], "add: needs a NAME"),
    (["ad", "x"], "needs add or import, see weir user --help"),
    (["add", "x", "--may", "raed", "--databases", "d"], "--may raed: must be of read, write, admin"),
    (["add", "x", "--may", "read"], "--may: needs databases"),
    (["add", "x", "--may=read", "--databases=a*b"], "--databases: a * may only be the end of a name"),
    (["add", "x", "--weir", "maybe"], "--weir: must be no|read|act"),
    (["add", "x", "--max-in-flight", "-1"], "--max-in-flight: must be 0 to 100000"),
    (["add", "x", "--databses", "d"], "--databses: unknown flag, did you mean --databases?"),
    (["add", "x", "--password=s3same"], "--password: unknown, see weir user --help"),
    (["add", "x", "--db"], "--db: needs a value"),
    (["add", "x", "--db", "$external"], "--db $external: who shows a certificate has no password"),
    (["add", "x"], "no password: the first line of standard input is to be one"),
    (["import"], "import: standard input has no documents"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "says"), USERS, ids=[says for _, says in USERS])
def test_what_is_no_user(words, says):
    assert refusal("user", *words).startswith(f"weir user: {says}")


@pytest.mark.parametrize(
    ("documents", "flags", "says"),
    [
        ("x", (), "import: document 1: is no JSON"),
        ("{}", (), "import: document 1: is no document of system.users"),
        ('{"user": "a", "db": "b"}', (), "import: document 1: has no SCRAM credentials"),
        ('{"user": "a", "db": "b"}', ("--scram-sha-1",), "--scram-sha-1: unknown, see"),
    ],
)
def test_what_is_no_user_of_a_deployment(documents, flags, says):
    assert refusal("user", "import", *flags, said=documents).startswith(f"weir user: {says}")
