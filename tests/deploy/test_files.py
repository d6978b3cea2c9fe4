# SPDX-License-Identifier: Apache-2.0
"""What deploy/ has for Docker and Kubernetes, checked by their own tools and tried with a real weir,
and whether docs/deploy/emergency.md can be typed as it is written.

No image is built and nothing is scheduled: there is no Docker and no cluster here.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import urllib.request
import warnings
from pathlib import Path

import pymongo
import pytest
import servers
import weir
import yaml
from pymongo.errors import OperationFailure, PyMongoError

DEPLOY = servers.ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
# The first with sidecars by default, and the newest that there is a schema of.
VERSIONS = ("1.29.0", "1.37.0")
# Without a schema: cert-manager's own.
FOREIGN = {"Certificate"}


def tool(name: str, *arguments: str | Path) -> None:
    """Runs a program of this Python's environment."""
    program = Path(sys.executable).parent / name
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def manifests(name: str) -> list[dict]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


def of_kind(name: str, kind: str) -> dict:
    return next(one for one in manifests(name) if one["kind"] == kind)


def container(name: str) -> dict:
    pod = of_kind(name, "Deployment")["spec"]["template"]["spec"]
    every = pod.get("initContainers", []) + pod["containers"]
    return next(one for one in every if one["name"] == "weir")


def variables(environment: list[dict]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in environment if "value" in one}


def status_of(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status


def test_dockerfile():
    tool("hadolint", DEPLOY / "docker/Dockerfile")


def test_compose():
    tool("docker-compose", "-f", DEPLOY / "docker/compose.yml", "config", "--quiet")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["sidecar.yaml", "shared.yaml"])
def test_manifests_are_of_the_schema(name, version):
    import kubernetes_validate

    for manifest in manifests(name):
        if manifest["kind"] in FOREIGN:
            warnings.warn(f"{name}: no schema of {manifest['kind']}, parsed only", stacklevel=1)
            continue
        kubernetes_validate.validate(manifest, version, strict=True)


def answers_its_probes(name: str, port: int) -> None:
    probes = [value for key, value in container(name).items() if key.endswith("Probe")]
    assert probes
    for probe in probes:
        assert status_of(f"http://127.0.0.1:{port}{probe['httpGet']['path']}") == 200


def test_sidecar_serves(secantus):
    environment = variables(container("sidecar.yaml")["env"])
    cap = int(environment["WEIR_MAX_CONNECTIONS"])
    http = environment["WEIR_HTTP_PORT"] = str(servers.free_port())
    with weir.Weir(secantus.uri, cap=cap, env=environment) as proxy:
        answers_its_probes("sidecar.yaml", int(http))
        with pymongo.MongoClient(proxy.uri) as client:
            client.shop.orders.insert_one({"_id": "sidecar"})


def shared_file(directory: Path, password: str) -> Path:
    """The file of the shared pool, its paths put here, its user with that password."""
    text = of_kind("shared.yaml", "Secret")["stringData"]["weir.yaml"]
    certificate = servers.certificates() / "server.pem"
    salt = directory / "salt.secret"
    salt.write_text(of_kind("shared.yaml", "Secret")["stringData"]["salt.secret"])
    text = text.replace("/etc/weir/tls/tls-combined.pem", str(certificate))
    text = text.replace("/etc/weir/config/salt.secret", str(salt))
    made = subprocess.run(
        [weir.default_binary(), "user", "add", "shop"],
        input=f"{password}\n{password}\n", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    keys = re.search(r'scramSha256: ".*"', made)[0]
    text, count = re.subn(r'scramSha256: ".*"', keys, text)
    assert count == 1
    file = directory / "weir.yaml"
    file.write_text(text)
    return file


def test_shared_serves_over_tls_those_who_log_in(secantus, tmp_path):
    file = shared_file(tmp_path, "secret")
    http = str(servers.free_port())
    arguments = ["--config", str(file), "--http-port", http]
    with weir.Weir(secantus.uri, *arguments, host="0.0.0.0") as proxy:
        answers_its_probes("shared.yaml", int(http))
        at = f"localhost:{proxy.port}/?loadBalanced=true&authSource=admin"
        tls = f"&tls=true&tlsCAFile={servers.certificates() / 'ca.pem'}"
        with pymongo.MongoClient(f"mongodb://shop:secret@{at}{tls}") as client:
            client.shop.orders.insert_many({"_id": number} for number in range(300))
            assert len(list(client.shop.orders.find({}, batch_size=7))) >= 300
            with pytest.raises(OperationFailure):
                client.other.orders.find_one()
        with pymongo.MongoClient(f"mongodb://shop:wrong@{at}{tls}") as client:
            with pytest.raises(OperationFailure):
                client.shop.orders.find_one()
        with pymongo.MongoClient(f"mongodb://shop:secret@{at}") as client:
            with pytest.raises(PyMongoError):
                client.shop.orders.find_one()


def emergency_lines() -> list[list[str]]:
    page = (servers.ROOT / "docs/deploy/emergency.md").read_text()
    blocks = re.findall(r"```\n(.*?)```", page, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    assert len(lines) > 10 and all(line[0] == "weir" for line in lines)
    return lines


def test_emergency_page_can_be_typed(secantus):
    with weir.Weir(secantus.uri) as proxy:
        for _, command, *rest in emergency_lines():
            if command == "doctor":  # 0 to 2 are what it thinks of the server
                arguments, may_be = [secantus.uri], (0, 1, 2)
                assert rest == ["$MONGODB_URI"]
            else:
                arguments, may_be = [*rest, "--port", str(proxy.port)], (0,)
            done = subprocess.run(
                [weir.default_binary(), command, *arguments],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode in may_be, f"{command} {rest}: {done.stdout}{done.stderr}"
        assert proxy.count("emergency_on") == proxy.count("emergency_off") == 1
        assert (proxy.count("rule_added"), proxy.count("rule_removed")) == (3, 1)
