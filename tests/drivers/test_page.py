# SPDX-License-Identifier: Apache-2.0
"""The dashboard, in a headless Chromium: what people see is what /state says."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import threading
import time

import pymongo
import pytest
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
def opened(browser, proxy, name: str = "", **context: object):
    """The dashboard once it is live. That nothing in it failed is checked when it is left."""
    page = browser.new_page(**context)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on("console", lambda said: complaints.append(said.text) if "Security" in said.text else None)
    page.goto(f"http://{proxy.host}:{proxy.http_port}/{name}")
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
        "tripped": "tripped" if server["tripped"] else "not tripped",
    }


def row_of(page, table: str, name: str) -> dict[str, str]:
    row = page.locator(f"#{table} tr", has=page.get_by_text(name, exact=True))
    return row.evaluate(
        "row => Object.fromEntries([...row.cells].map("
        "cell => [cell.dataset.key, cell.textContent.replaceAll(',', '')]))"
    )


def records(proxy) -> list[dict]:
    return json.loads(proxy.get("/state"))["exhaustions"]


def lately(proxy) -> float:
    """For how long the shape that is looked for held connections of late."""
    shapes = json.loads(proxy.get("/state"))["shapes"]
    return max(each["heldLately"] for each in shapes if each["shape"].startswith("find test.told"))


def check_numbers(page, proxy) -> None:
    def same() -> bool:
        page.wait_for_timeout(100)
        seen = shown(page)
        return all(seen.get(key) == value for key, value in told(proxy).items())

    wait_until(same, f"{shown(page)} is not {told(proxy)}", HANG_MS / 1000)
    state = json.loads(proxy.get("/state"))
    shape = "find test.told {looked} limit"
    one = next(each for each in state["shapes"] if each["shape"] == shape)
    row = row_of(page, "shapes", shape)
    assert row["requests"] == str(one["requests"])
    assert float(row["heldLately"].removesuffix(" s")) > 0
    tenant = next(each for each in state["tenants"] if each["tenant"] == "teller")
    row = row_of(page, "tenants", "teller")
    for key in ("served", "shed", "waiting"):
        assert row[key] == str(tenant[key])


def test_its_numbers_are_those_of_state(browser, proxy):
    """Those of the last minute, too, although nobody looked at it then."""

    def is_told() -> bool:  # what came before weir's first look at the server is no minute's
        for _ in range(1234):
            client.test.told.find_one({"looked": 1})
        return lately(proxy) > 0

    with pymongo.MongoClient(proxy.uri, appName="teller") as client:
        wait_until(is_told, "nothing was held lately", HANG_MS / 1000)
        with opened(browser, proxy) as page:
            check_numbers(page, proxy)


def exhaust(secantus, proxy) -> dict:
    """The record of an exhaustion that has ended."""
    with overload(secantus, proxy):
        pass
    wait_until(lambda: records(proxy)[-1]["end"] > 0, "no end of the exhaustion")
    return records(proxy)[-1]


def check_record(item, record: dict) -> None:
    """What is shown of a record is what /state has."""
    expect(item.locator("summary p")).to_have_text(record["verdict"], timeout=HANG_MS)
    assert item.locator("[data-key=cap]").first.text_content() == str(record["cap"])
    typed = item.locator("[data-part=remedies] code").all_text_contents()
    assert typed == [remedy["type"] for remedy in record["remedies"]]
    says = item.locator("[data-part=causes] li span").all_text_contents()
    assert says == [cause["says"] for cause in record["causes"]]
    holders = item.locator(".record > [data-part=holders] tbody tr")
    clients = [text.replace(",", "") for text in holders.locator("[data-key=client]").all_text_contents()]
    assert clients == [str(holder["client"]) for holder in record["holders"]]
    opening = item.locator("[data-part=upstreams] [data-key=meanOpening]").all_text_contents()
    assert len(opening) == 1 or record["upstreams"]["meanOpening"] == 0  # nothing was opened
    assert all(text.endswith("s") for text in opening)  # of whatever seconds
    for key, count in record["shed"].items():
        found = item.locator(f"[data-part=shed] [data-key={key}]")
        assert (found.text_content() if found.count() else "0").replace(",", "") == str(count)


def test_an_exhaustion_appears_and_opens(browser, proxy, secantus):
    with opened(browser, proxy) as page:
        first = page.locator("#events li").first
        with overload(secantus, proxy):
            began = time.monotonic()
            expect(first).to_contain_text("now", timeout=HANG_MS)
            print(f"shown {time.monotonic() - began:.2f} s after the first refusal")
            expect(page.locator("article:not([hidden]) .pill").first).to_have_text(
                re.compile("exhausted: (all permits are held|slow lane full|requests waited)"), timeout=HANG_MS
            )
            page.locator("article:not([hidden]) .mark").last.click(timeout=HANG_MS)
            expect(first.locator(".record h3").first).to_be_visible(timeout=HANG_MS)
        expect(first.locator("summary")).not_to_contain_text("– now ·", timeout=HANG_MS)
        name = records(proxy)[-1]["_id"]
        assert page.url.endswith(f"#{name}")
    with opened(browser, proxy, f"#{name}") as later:
        item = later.locator(f"li[data-id='{name}']")
        expect(item.locator(".record h3").first).to_be_visible(timeout=HANG_MS)
        check_record(item, records(proxy)[-1])


def test_an_exhaustion_that_is_gone(browser, proxy, secantus):
    record = exhaust(secantus, proxy)
    assert json.loads(proxy.get(f"/exhaustions/{record['_id']}")) == record
    for name in ("none", record["_id"] + "1", "..%2f..%2fetc%2fpasswd", "", "a" * 1000):
        assert proxy.status(f"/exhaustions/{name}") == 404
    with opened(browser, proxy, "#20200101T000000Z-1") as page:
        expect(page.locator(".note").first).to_contain_text("weir has no record", timeout=HANG_MS)
    with opened(browser, proxy) as page:
        item = page.locator(f"li[data-id='{record['_id']}']")
        page.route("**/exhaustions/*", lambda route: route.fulfill(status=404))
        item.locator("summary").click(timeout=HANG_MS)
        expect(item.locator(".note")).to_contain_text("no record of this one any more", timeout=HANG_MS)
        expect(item.locator("summary p")).to_have_text(record["verdict"])


def test_what_a_newer_weir_knows_is_shown(browser, proxy, secantus):
    hostile = "<img src=x onerror=alert(1)>"
    record = exhaust(secantus, proxy)
    more = {hostile: hostile, "someThing": {"inner": [{hostile: 1, "a": None}, {"b": [1, {}]}]}, "list": [1, hostile]}
    with opened(browser, proxy) as page:
        page.route("**/exhaustions/*", lambda route: route.fulfill(json={**record, **more}))
        item = page.locator(f"li[data-id='{record['_id']}']")
        item.locator("summary").click(timeout=HANG_MS)
        expect(item.locator("[data-part=someThing] h3").first).to_have_text("some thing", timeout=HANG_MS)
        expect(item.locator("[data-part=inner] th").first).to_have_text(hostile)
        expect(item.locator("[data-part=list] p")).to_have_text(f"1, {hostile}")
        assert page.locator("#events :is(img, script)").count() == 0


def test_hostile_names_are_text(browser, proxy, secantus):
    names = ["<img/src=x/onerror=alert(1)>", "<script>alert(2)</script>"]

    def ask(name: str) -> None:
        with contextlib.suppress(pymongo.errors.PyMongoError), pymongo.MongoClient(
            proxy.uri, appName=name, retryReads=False
        ) as client:
            client.test[name].find_one({name: 1})

    with opened(browser, proxy) as page:
        with overload(secantus, proxy):
            threads = [threading.Thread(target=ask, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for name in names:
            ask(name)
        page.locator("#events summary").first.click(timeout=HANG_MS)
        for name in names:
            text = f"find test.{name.replace('/', '%2f')} {{"
            expect(page.locator("#shapes td", has_text=text).first).to_be_visible(timeout=HANG_MS)
            expect(page.locator("#tenants td", has_text=name).first).to_be_visible(timeout=HANG_MS)
            waiter = page.locator("[data-part=waiters] td", has_text=name)
            expect(waiter.first).to_be_visible(timeout=HANG_MS)
        assert page.locator("main :is(img, script)").count() == 0


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
            follower = socket.create_connection((proxy.host, proxy.http_port), timeout=60)
            stack.callback(follower.close)
            follower.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
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
