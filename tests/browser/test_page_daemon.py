"""A daemon with a token; one that goes away and comes back."""

from __future__ import annotations

import re
import socket

import pytest

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-sixteen-characters-or-more"
HIDE = """hidden => {
    Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
    document.dispatchEvent(new Event('visibilitychange'));
}"""
SEA = "#collection=arcticdem-32m&x=3900000&y=-3900000&z=9"


@pytest.fixture(scope="module")
def daemon(start_daemon):
    """One that asks for a token where something changes."""
    with start_daemon(token=TOKEN) as started:
        yield started


def test_the_token_is_asked_for_and_kept_for_the_tab(open_page, daemon, watch):
    watch.expected.append("401")
    page = open_page(SEA)
    page.get_by_text("Or type its coordinates").click()
    for name, value in (
        ("Left", "3090000"),
        ("Bottom", "-3200000"),
        ("Right", "3100000"),
        ("Top", "-3190000"),
    ):
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Plan this box").click()
    page.get_by_role("button", name="Fetch ahead").click()
    form = page.get_by_role("form", name="Token")
    form.locator("input").fill("not-the-token-at-all-really")
    form.get_by_role("button", name="Use it").click()
    page.get_by_role("button", name="Fetch ahead").click()
    page.get_by_text("That is not the daemon's token.").wait_for()
    form.locator("input").fill(TOKEN)
    form.get_by_role("button", name="Use it").click()
    form.wait_for(state="detached")
    page.get_by_role("button", name="Fetch ahead").click()
    page.get_by_text("done:").wait_for()
    assert daemon.http.get("/jobs").json()["jobs"][0]["status"] == "successful"
    assert TOKEN not in page.content()
    assert TOKEN not in page.url


def test_a_token_for_everything_is_asked_for_once(open_page, watch):
    """As on an open network, where reading needs the token as well."""
    watch.expected.append("401")
    page = open_page(SEA)

    def guard(route):
        if route.request.headers.get("authorization") == f"Bearer {TOKEN}":
            route.continue_()
        else:
            route.fulfill(status=401, json={"kind": "unauthorized", "detail": "it needs the daemon's token"})

    page.route(re.compile("/(collections|status|tileMatrixSets)"), guard)
    page.reload()
    form = page.get_by_role("form", name="Token")
    form.locator("input").fill(TOKEN)
    assert page.get_by_text("Connection lost.").count() == 0
    form.get_by_role("button", name="Use it").click()
    page.locator("#chart[aria-busy='false']").wait_for()
    page.locator("#daemon-title .state", has_text="Idle").wait_for()
    assert form.count() == 0


def test_many_windows_follow_the_daemon(open_page, daemon, watch, at_rest):
    """A browser has six connections to a host, for all its windows together."""
    first = open_page(SEA)
    at_rest(first)
    pages = [first, *(first.context.new_page() for _ in range(2))]
    for page in pages[1:]:
        watch.follow(page)
        page.goto(f"/{SEA}")
    for page in pages:
        at_rest(page)
        page.locator("#daemon-title .state", has_text="Idle").wait_for()
    asked = [int(page.locator("[data-figure='fetched']").inner_text().split()[0]) for page in pages]
    sea = {"x": 3000000, "y": -3000000, "crs": "EPSG:3413"}
    assert daemon.http.get("/collections/arcticdem-32m/point", params=sea).status_code == 200
    for page, before in zip(pages, asked, strict=True):
        page.locator("[data-figure='fetched']").filter(has_text=f"{before + 1} chunk").wait_for()
    # A window that is hidden asks for nothing, whatever its address says.
    requests = []
    first.on("request", lambda request: requests.append(request.url))
    first.evaluate(HIDE, True)
    first.evaluate("location.hash = location.hash.replace('z=9', 'z=8')")
    at_rest(first)
    first.wait_for_timeout(400)
    assert any("/tiles/" in url for url in requests)
    assert not [url for url in requests if "/inventory" in url]
    with first.expect_request(re.compile("/inventory")):
        first.evaluate(HIDE, False)


def test_a_lost_connection_is_said_and_found_again(open_page, start_daemon, watch):
    watch.expected += [
        "asked another host",
        "ERR_CONNECTION_REFUSED",
        "ERR_CONNECTION_RESET",
        "ERR_INCOMPLETE",
        "ERR_EMPTY",
    ]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = open_page(SEA)
    with start_daemon(port=port) as first:
        page.goto(f"{first.url}/{SEA}")
        page.locator("#chart[aria-busy='false']").wait_for()
    page.get_by_text("Connection lost.").wait_for()
    with start_daemon(port=port):
        page.get_by_text("Connection lost.").wait_for(state="detached")
        page.locator("#daemon-title .state", has_text="Idle").wait_for()
        page.locator("#chart[aria-busy='false']").wait_for()
