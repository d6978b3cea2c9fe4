# SPDX-License-Identifier: Apache-2.0
"""The simulation finds each deliberate mistake of policy/defect.h within a number of seeds, but for
those of leases, which are tests/model's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]

# How many seeds it may take, from the first on. Each is found in far fewer now.
WITHIN_SEEDS = {
    "PERMIT_TWICE": 200,
    "CANCELLED_GRANTED": 200,
    "HAND_OVER_CLOSE": 500,
    "WRONG_CLIENT": 100,
    "CAP_LATE": 100,
    "FORGET_WAITER": 500,
    "LOST_AS_NOT_SENT": 100,
    "SEND_AGAIN": 100,
    "BUDGET_LEAK": 100,
    "CULL_NEIGHBOUR": 500,
    "KILLED_AS_NOT_SENT": 500,
    "PAUSE_LEAK": 500,
    "ADAPT_SILENT": 500,
    "DRAIN_BUSY": 500,
    "LOST_PLACE": 500,
}


@pytest.fixture(scope="session")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One build that can make each mistake."""
    directory = tmp_path_factory.mktemp("defects")
    options = ["-G", "Ninja", "-DWEIR_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release", "-DWEIR_DEFECTS=ON"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["cmake", "-S", SOURCE, "-B", directory, *options], **quiet)
    subprocess.run(["cmake", "--build", directory, "--target", "sim"], **quiet)
    return next(directory.glob("**/sim/sim"))


def failures(sim: Path, seeds: int, *options: str) -> tuple[int, str]:
    """How many of these seeds failed, until one did."""
    command = [sim, "--seeds", str(seeds), "--jobs", "2", "--failures", "1", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    closing = re.search(r"^\d+ passed, (\d+) failed$", result.stdout, re.MULTILINE)
    assert closing, result.stdout + result.stderr
    return int(closing[1]), result.stderr


def listed() -> set[str]:
    header = (SOURCE / "policy" / "defect.h").read_text()
    names = re.findall(r"^    X\((\w+)\)", header, re.MULTILINE)
    return {name for name in names if not name.startswith("LEASE_")} - {"NONE"}


def test_each_defect_is_tried() -> None:
    assert listed() == set(WITHIN_SEEDS)


def test_without_a_defect_nothing_is_found(sim: Path) -> None:
    failed, output = failures(sim, max(WITHIN_SEEDS.values()))
    assert failed == 0, output


@pytest.mark.parametrize("defect", WITHIN_SEEDS)
def test_defect_is_found(sim: Path, defect: str) -> None:
    failed, _ = failures(sim, WITHIN_SEEDS[defect], "--defect", defect)
    assert failed > 0
