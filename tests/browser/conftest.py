"""The page in a real browser: Chromium, a daemon as a process of its own, the stand-ins as the world.

Playwright's synchronous API keeps an event loop in its thread. A browser lives as long as a module therefore:
asynchronous tests of other files never meet it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from icehouse_server.testing.daemon import DaemonProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from icehouse_server.demo.standins import StandIns

ROOT = Path(__file__).parents[2]
REFERENCES = Path(__file__).parent / "references"
BUILT = ROOT / "server" / "src" / "icehouse_server" / "page" / "index.html"
AXE = ROOT / "server" / "page" / "node_modules" / "axe-core" / "axe.min.js"
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
COLLECTIONS = ("arcticdem-32m", "arcticdem-10m", "arcticdem-2m", "rema-32m", "cop-dem-glo-30")
ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-proxy-server",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
]
"""Beside those of Playwright, which switch off what a browser does in the background."""
MAX_REFERENCE_BYTES = 100_000


def pytest_addoption(parser):
    group = parser.getgroup("the page in a browser")
    group.addoption("--update-references", action="store_true", help="replace the pictures that are compared")
    group.addoption(
        "--docs-images", action="store_true", help="replace the pictures of the page in docs/images"
    )


# ---- the daemon ----


@dataclass(kw_only=True, eq=False)
class Daemon(DaemonProcess):
    """A daemon and the world that it fetches from."""

    standins: StandIns

    @property
    def host(self):
        return urlsplit(self.url).netloc

    @cached_property
    def http(self):
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)


@pytest.fixture(scope="session", autouse=True)
def built():
    """Fails where there is no page to look at."""
    missing = [path.name for path in (BUILT, AXE) if not path.is_file()]
    assert not missing, f"{', '.join(missing)}: not there; `make page` builds the page and brings axe-core"


@pytest.fixture(scope="module")
def start_daemon(standins, earth_search, tmp_path_factory):
    """Starts daemons with an empty cache: `with start_daemon(port=0, setting=value) as daemon`."""
    common = {
        "collections": ",".join(COLLECTIONS),
        "mirrors": {**standins.mirrors, **earth_search.mirrors},
        "failure_ttl": 0,
        "items_max_age": 0,
    }

    @contextlib.contextmanager
    def start(*, port=0, **settings):
        folder = tmp_path_factory.mktemp("daemon")
        made = Daemon(
            cache=folder / "cache",
            settings={**common, **settings},
            port=port,
            log=folder / "log",
            home=folder,
            standins=standins,
        )
        with made, made.http:
            yield made

    return start


@pytest.fixture(scope="module")
def daemon(start_daemon):
    """One a module. What is cached stays from test to test; `fresh_standins` spoils sources for one test."""
    with start_daemon() as started:
        yield started


@pytest.fixture(autouse=True)
def idle(request):
    """What tests before left under way meets no faults of this one, nor its counts."""
    if {"daemon", "fresh_standins"} <= set(request.fixturenames):
        request.getfixturevalue("daemon").wait_idle()


# ---- the browser ----


@pytest.fixture(scope="session")
def chromium():
    """The path of the browser, as `make test` found or brought it."""
    found = runpy.run_path(str(ROOT / "scripts" / "find_browser.py"))["find"]()
    assert found, (
        "the page is tested in a real browser: `make test` brings one, or name it in ICEHOUSE_CHROMIUM"
    )
    return str(found)


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    """One browser a module; each page gets a context of its own, with nothing stored."""
    home = str(tmp_path_factory.mktemp("home"))
    environment = {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS, env=environment)
        yield launched
        launched.close()


@dataclass
class Watch:
    """Notes what a page must not do."""

    host: str
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Patterns of complaints that a test provokes."""

    def follow(self, page):
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", self._request)
        page.on("requestfailed", self._failed)

    def _console(self, message):
        if message.type in {"error", "warning"}:
            self.complaints.append(
                f"console {message.type}: {message.text} {message.location.get('url', '')}"
            )

    def _request(self, request):
        address = urlsplit(request.url)
        if address.scheme not in {"data", "blob"} and address.netloc != self.host:
            self.complaints.append(f"asked another host: {request.url}")

    def _failed(self, request):
        # The page ends requests itself: tiles that are out of sight, streams of what is no longer looked at.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def unexpected(self):
        return [said for said in self.complaints if not any(re.search(each, said) for each in self.expected)]


@pytest.fixture
def watch(daemon):
    """What is noted of this test's pages; a complaint that no pattern of `watch.expected` fits fails it."""
    made = Watch(daemon.host)
    yield made
    assert not made.unexpected()


@pytest.fixture
def open_page(browser, watch, daemon, request):
    """Opens pages: `open_page("#collection=arcticdem-32m", screens["phone"], dark=True)`. They end with it.

    With None for the address the page is empty, for a test that has something to prepare.
    """
    with contextlib.ExitStack() as stack:
        request.node.stash[opened] = pages = []

        def open_one(address="", screen=DESKTOP, *, dark=False, **options):
            context = browser.new_context(
                base_url=daemon.url,
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce",
                locale="en-GB",
                **screen,
                **options,
            )
            stack.callback(context.close)
            context.set_default_timeout(30_000)
            page = context.new_page()
            pages.append(page)
            watch.follow(page)
            if address is not None:
                page.goto(f"/{address}")
            return page

        yield open_one


@pytest.fixture
def page(open_page):
    """The page as someone finds it who asks for `/`."""
    return open_page()


@pytest.fixture(scope="session")
def screens():
    """The screens that tests look at: {"desktop": …, "phone": …}, for `open_page`."""
    return {"desktop": DESKTOP, "phone": PHONE}


opened = pytest.StashKey[list]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Keep a picture of each page of a test that fails, and say where."""
    report = yield
    if report.when == "call" and report.failed:
        for number, shown in enumerate(item.stash.get(opened, [])):
            path = Path(item.funcargs["tmp_path_factory"].mktemp("failed")) / f"page-{number}.png"
            with contextlib.suppress(Exception):  # a page that is gone has no picture
                shown.screenshot(path=path, timeout=5000)
                report.sections.append(("picture of the page", str(path)))
    return report


# ---- what is asked of a page ----


@pytest.fixture
def pixels():
    """The pixels of the map, without the panel: (rows, columns, 3), uint8."""

    def take(page):
        box = page.locator("#chart").bounding_box()
        clip = {"x": box["x"] + 80, "y": box["y"] + 100, "width": 600, "height": 400}
        with Image.open(io.BytesIO(page.screenshot(clip=clip, scale="css"))) as image:
            return np.asarray(image.convert("RGB"))

    return take


@pytest.fixture
def at_rest():
    """Waits until all tiles in sight have come, or failed."""

    def wait(page):
        page.locator("#chart[aria-busy='false']").wait_for()
        page.locator(".chip.loading").wait_for(state="detached")

    return wait


@pytest.fixture
def view():
    """What the address says is looked at."""
    return lambda page: dict(pair.split("=", 1) for pair in page.url.partition("#")[2].split("&"))


@pytest.fixture
def curl():
    """The words of the curl line that the page shows."""
    return lambda page: shlex.split(page.get_by_label("curl line", exact=True).inner_text())


@pytest.fixture(scope="session")
def axe():
    """Fails where axe-core finds a violation: `axe(page)`."""
    source = AXE.read_text()

    def check(page: Page, **options):
        # Evaluated by the debugger, so the page's own policy does not matter.
        page.evaluate(source)
        found = page.evaluate("options => axe.run(document, options)", options)
        assert found["passes"], "axe has looked at nothing"
        said = [
            f"{violation['id']} ({violation['impact']}): {violation['help']}: {node['html'][:200]}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]
        assert not said, "\n".join(said)

    return check


def picture(shown, **options):
    """A picture of a page or a locator, of half its size: fonts differ a little from machine to machine."""
    data = shown.screenshot(animations="disabled", caret="hide", scale="css", **options)
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").reduce(2)


def as_reference(image):
    """A PNG with a palette, as small as it must be."""
    for colors in (128, 64, 32, 16):
        data = io.BytesIO()
        # Rare colours count as well: those of words and frames.
        palette = image.quantize(
            colors, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
        )
        palette.save(data, "PNG", optimize=True)
        if data.tell() <= MAX_REFERENCE_BYTES:
            return data.getvalue()
    raise AssertionError(f"the picture takes more than {MAX_REFERENCE_BYTES} bytes: choose a smaller part")


@pytest.fixture
def references():
    """The folder of the pictures that are compared."""
    return REFERENCES


@pytest.fixture
def looks_like(pytestconfig, references, tmp_path):
    """Compares a page or a locator with tests/browser/references/NAME.png: `looks_like(page, "start")`.

    `mean` is the mean absolute difference that is let pass (of 255), `share` the share of the pixels that may
    differ by more than 48; other options go to Playwright's `screenshot` (`mask=[…]`).
    """

    def compare(shown, name, *, mean=4.0, share=0.03, **options):
        path = references / f"{name}.png"
        found = picture(shown, **options)
        if pytestconfig.getoption("--update-references", default=False):
            references.mkdir(exist_ok=True)
            path.write_bytes(as_reference(found))
            return
        renew = "look at it, then renew it with: pytest tests/browser --update-references"
        assert path.is_file(), f"{path.name} is not there: {renew}"
        found.save(kept := tmp_path / path.name)
        with Image.open(path) as image:
            expected = image.convert("RGB")
        assert found.size == expected.size, f"{kept}: another size than {path.name}: {renew}"
        differences = np.abs(np.asarray(found, np.int16) - np.asarray(expected, np.int16)).max(axis=2)
        off, much = float(differences.mean()), float((differences > 48).mean())
        assert (off <= mean, much <= share) == (True, True), (
            f"{kept}, not {path.name}: {off:.1f} off in the mean, {much:.1%} of the pixels by much: {renew}"
        )

    return compare


@pytest.fixture
def docs_screenshot(pytestconfig):
    """With --docs-images, makes a picture of the documentation: `docs_screenshot(page, "page-desktop")`."""

    def make(shown, name, **options):
        if pytestconfig.getoption("--docs-images", default=False):
            data = shown.screenshot(animations="disabled", caret="hide", **options)
            folder = ROOT / "docs" / "images"
            folder.mkdir(exist_ok=True)
            with Image.open(io.BytesIO(data)) as image:
                image.convert("RGB").save(folder / f"{name}.webp", quality=85, method=6)

    return make
