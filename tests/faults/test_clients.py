# SPDX-License-Identifier: Apache-2.0
"""Apps fail, or come all at once."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys

import crowd as crowd_program
import pytest
import raw
import weir
from crowd import Crowd, until, write, written

MANY = 5000
HALF = 50


@pytest.fixture
def descriptors():
    """As many as there can be, also for what is started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * MANY:
        pytest.skip(f"the hard limit on open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_5000_connect_at_once(secantus, descriptors):
    """As fast as one process can: in less than a second if it is quiet. Each wants something."""
    with weir.Weir(secantus.uri, "--max-wait", "60s") as proxy, contextlib.ExitStack() as opened:
        with Crowd(proxy.address, 4) as others:
            others.wait_for("ok", 50)
            apps = [opened.enter_context(raw.Connection.to(proxy.address)) for _ in range(MANY)]
            asked = [app.post(write("many", f"app{i}")) for i, app in enumerate(apps)]
            for i, app in enumerate(apps):
                app.stream.settimeout(60)
                assert app.reply_to(asked[i])["value"] == written(f"app{i}")
            assert proxy.state()["clients"] == MANY + 4
            others.wait_for_more("ok", 50)
        others.assert_saw("ok")
        others.assert_truthful(secantus)
        opened.close()
        proxy.wait_until_at_rest()


def test_half_of_all_are_killed_in_the_middle_of_their_requests(secantus):
    with weir.Weir(secantus.uri, "--max-wait", "60s") as proxy:
        program = [sys.executable, crowd_program.__file__, *map(str, proxy.address), str(HALF)]
        with Crowd(proxy.address, HALF) as others:
            for i in range(3):
                doomed = subprocess.Popen([*program, f"doomed{i}"])
                documents = secantus.client().test[f"doomed{i}"]
                until(lambda: documents.find_one() and proxy.state()["clients"] == 2 * HALF)
                until(lambda: proxy.state()["queued"] > HALF)
                doomed.kill()
                doomed.wait()
                until(lambda: proxy.state()["clients"] == HALF)
                others.wait_for_more("ok", 200)
        others.assert_saw("ok")
        others.assert_truthful(secantus)
        for i in range(3):
            assert secantus.client().test[f"doomed{i}"].distinct("times") == [1]
        assert proxy.count("upstream_down") == 0
        proxy.wait_until_at_rest()
