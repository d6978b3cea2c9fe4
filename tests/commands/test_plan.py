# SPDX-License-Identifier: Apache-2.0
"""weir plan: whether pools fit a tier."""

from __future__ import annotations

import json
import subprocess

import pytest
import weir

FITS, FITS_NOT, BAD_USAGE = 0, 1, 2


def plan(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [weir.default_binary(), "plan", *arguments], capture_output=True, text=True, check=False
    )


def answer(*arguments: str) -> dict:
    done = plan(*arguments, "--json")
    said = json.loads(done.stdout)
    assert done.returncode == (FITS if said["fits"] else FITS_NOT)
    return said


def test_two_dynos_of_150_on_an_m10():
    said = answer("--tier", "M10", "--dynos", "2", "--pool", "150")
    assert said["fits"]
    assert said["connections"] == 2 * (150 + 2)
    assert said["dynosThatFit"] == (1500 - 10) // 152


@pytest.mark.parametrize("tier", ("M0", "m10", "M20", "M30", "M40", "M50", "M60", "M80", "M200"))
def test_the_bounds_it_names_are_bounds(tier):
    said = answer("--tier", tier, "--dynos", "7", "--processes", "3")
    last, pool = str(said["dynosThatFit"]), said["poolThatFits"]
    for dynos, fits in ((last, True), (str(int(last) + 1), False)):
        if dynos != "0":
            assert answer("--tier", tier, "--processes", "3", "--dynos", dynos)["fits"] is fits
    for size, fits in ((pool, True), (pool + 1, False)):
        tried = ("--tier", tier, "--dynos", "7", "--processes", "3", "--pool", str(size))
        assert answer(*tried)["fits"] is fits


def test_weirs_with_the_caps_it_names_fit():
    said = answer("--limit", "500", "--dynos", "9", "--weirs", "3")
    assert 0 < 9 * (said["capOfSidecars"] + 4) <= 500
    assert 0 < 2 * 9 * (said["capOfSidecarsSideBySide"] + 4) <= 500
    told = f"{said['capOfSidecarsSideBySide']} if old and new dynos run side by side"
    assert told in plan("--limit", "500", "--dynos", "9", "--weirs", "3").stdout
    assert 0 < 3 * (said["capOfShared"] + 4) <= 500


def test_the_smallest_tier_that_fits():
    assert answer("--tier", "M0", "--dynos", "10", "--pool", "150")["tierThatFits"] == "M20"
    assert answer("--limit", "20", "--dynos", "1000000")["tierThatFits"] == ""


def test_nothing_fits_and_it_says_so():
    done = plan("--limit", "10", "--dynos", "40")
    assert done.returncode == FITS_NOT
    assert "DOES NOT FIT" in done.stdout and "even with a cap of 1" in done.stdout


def test_dynos_by_app_json(tmp_path):
    app = tmp_path / "app.json"
    app.write_text('{"formation": {"web": {"quantity": 2, "size": "standard-1x"}, "worker": {}}}')
    assert answer("--tier", "M10", "--heroku", str(app))["dynos"] == 3


@pytest.mark.parametrize(
    "arguments, complaint",
    (
        (("--dynos", "2"), "needs --tier or --limit"),
        (("--tier", "M11"), "--tier M11: is none of M0"),
        (("--tier", "M10", "--pool", "0"), "--pool 0: must be 1 to 1000000"),
        (("--tier", "M10", "--pool", "12x"), "--pool 12x: must be 1 to 1000000"),
        (("--tier", "M10", "--dynos", "99999999999999999999"), "must be 1 to 1000000"),
        (("--tier", "M10", "M20"), "an argument too many"),
    ),
)
def test_wrong_questions_are_told_why(arguments, complaint):
    done = plan(*arguments)
    assert done.returncode == BAD_USAGE
    assert complaint in done.stdout + done.stderr


@pytest.mark.parametrize("text", ("", "[]", "{", '{"formation": 3}', '{"formation": {}}'))
def test_an_app_json_that_names_no_dynos(tmp_path, text):
    app = tmp_path / "app.json"
    app.write_text(text)
    done = plan("--tier", "M10", "--heroku", str(app))
    assert done.returncode == BAD_USAGE
    assert done.stderr.startswith(f"weir plan: --heroku {app}: ") and done.stderr.strip()[-1] != ":"
