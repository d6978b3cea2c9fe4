# SPDX-License-Identifier: Apache-2.0
"""The dashboard, in a headless Chromium: what people see is what /state says."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket

import pymongo
import pytest
import raw
from playwright.sync_api import expect, sync_playwright
from test_admin import CAP, Observed, wait_until
from test_shedding import ALL_MAY_BE_HELD, overload

FOLLOWERS_MAX = 256  # of weir
HANG_MS = 20_000


@pytest.fixture(scope="module")
def proxy(secantus):
    with Observed(secantus.uri, *ALL_MAY_BE_HELD, cap=CAP) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if not found:
        pytest.skip("no chromium-headless-shell or chromium on PATH")
    with sync_playwright() as playwright:
        # Its sandbox does not run as root; it sees nothing but this page.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, proxy, **context: object):
    """The dashboard once it is live. That nothing in it failed is checked when it is left."""
    page = browser.new_page(**context)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on("console", lambda said: complaints.append(said.text) if "Security" in said.text else None)
    page.goto(f"http://{proxy.host}:{proxy.http_port}/")
    page.wait_for_selector(".live", timeout=HANG_MS)
    yield page
    page.close()
    assert complaints == []


def shown(page) -> dict[str, str]:
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#totals dd, article:not([hidden]) dd')]"
        ".map(dd => [dd.dataset.key, dd.textContent.replaceAll(',', '')]))"
    )


def told(proxy) -> dict[str, str]:
    state = json.loads(proxy.get("/state"))
    totals = state["totals"][0]
    server = next(each for each in state["servers"] if each["_id"] != "(none)")
    same = ("inFlight", "limit", "cap", "waiting", "granted", "inFlightSlow", "inFlightStreams", "open")
    return {
        **{key: str(totals[key]) for key in ("clients", "upstreams", "pins")},
        **{key: str(server[key]) for key in same},
        "failed": str(sum(totals["failed"].values())),
        "refused": str(sum(server["refused"].values())),
    }


def test_its_numbers_are_those_of_state(browser, proxy):
    with pymongo.MongoClient(proxy.uri) as client, opened(browser, proxy) as page:
        for _ in range(1234):
            client.test.told.find_one({"looked": 1})

        def same() -> bool:
            page.wait_for_timeout(100)
            seen = shown(page)
            return all(seen.get(key) == value for key, value in told(proxy).items())

        wait_until(same, f"{shown(page)} is not {told(proxy)}", HANG_MS / 1000)
        shapes = {shape["shape"]: shape for shape in json.loads(proxy.get("/state"))["shapes"]}
        row = page.locator("#shapes tr", has_text="find test.told {looked}")
        requests = row.locator("[data-key=requests]").text_content()
        assert requests == f"{shapes['find test.told {looked} limit']['requests']:,}"


def test_exhaustion_appears_and_stays_for_who_comes_later(browser, proxy, secantus):
    with opened(browser, proxy) as page:
        with overload(secantus, proxy):
            expect(page.locator("#events li").first).to_contain_text("now", timeout=HANG_MS)
            expect(page.locator("article:not([hidden]) .pill").first).to_have_text("exhausted", timeout=HANG_MS)
        expect(page.locator("#events li").first).not_to_contain_text("now", timeout=HANG_MS)
    with opened(browser, proxy) as later:
        event = later.locator("#events li").first
        event.locator("summary").click()
        assert int(event.locator("[data-key=inFlight]").text_content()) == CAP
        assert int(event.locator("[data-key=shed]").text_content()) > 0


def test_hostile_names_are_text(browser, proxy):
    names = ["<img/src=x/onerror=alert(1)>", "<script>alert(2)</script>"]
    with raw.Connection.to(proxy.address) as connection, opened(browser, proxy) as page:
        for name in names:
            connection.ask({"find": name, "filter": {name: 1}})
        for name in names:
            text = f"find test.{name.replace('/', '%2f')} {{"
            expect(page.locator("#shapes .shape", has_text=text).first).to_be_visible(timeout=HANG_MS)
        assert page.locator("#shapes :is(img, script)").count() == 0


def test_on_a_phone_and_in_the_dark(browser, proxy):
    grounds = set()
    for scheme in ("light", "dark"):
        phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
        with opened(browser, proxy, **phone) as page:
            expect(page.locator(".uplot canvas").first).to_be_visible(timeout=HANG_MS)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_it_says_that_weir_is_gone(browser, secantus):
    with Observed(secantus.uri) as proxy, opened(browser, proxy) as page:
        assert proxy.stop() == 0
        expect(page.locator("#status")).to_contain_text("does not answer", timeout=HANG_MS)


def test_a_page_may_load_nothing_from_elsewhere(proxy):
    with contextlib.closing(socket.create_connection((proxy.host, proxy.http_port), 10)) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"Content-Security-Policy: default-src 'none'; script-src 'self';" in said
    assert proxy.status("/", method="POST", data=b"x") == 405
    assert proxy.status("/page/index.html") == 404


def test_many_follow_and_some_never_read(proxy):
    """Two hundred are served, those too many refused, and when they leave there is room."""
    with contextlib.ExitStack() as stack:
        followers = []
        refused = 0
        for _ in range(FOLLOWERS_MAX + 20):
            follower = socket.create_connection((proxy.host, proxy.http_port), timeout=30)
            stack.callback(follower.close)
            follower.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            status = follower.recv(4096).split(b" ", 2)[1]
            assert status in (b"200", b"503")
            refused += status == b"503"
            if status == b"200":
                followers.append(follower)
        assert 200 <= len(followers) <= FOLLOWERS_MAX
        assert refused >= 20
        for follower in followers[::2]:  # the others do not read
            said = b""
            while said.count(b"data: ") < 2:
                said += follower.recv(65536)
        assert proxy.status("/state") == 200
    wait_until(lambda: proxy.status("/events", method="HEAD") == 200, "no room")
