"""A box: its plan, its lines, its files, its seed; and failures in words."""

from __future__ import annotations

import re
import subprocess
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
import rasterio
import xarray as xr

from icehouse_server.demo.faults import Fault, Status

pytestmark = pytest.mark.slow

TILE = "67_33"
FIGURES = {"needed": "needed", "present": "present", "absent": "absent", "void": "void"}


@pytest.fixture
def draw(open_page):
    """Opens the map around a place (x, y in EPSG:3413, 16 m a pixel) and draws a box there; the page."""

    def make(x, y, *, z=11, half=60):
        page = open_page(f"#collection=arcticdem-32m&x={x}&y={y}&z={z}")
        page.get_by_role("button", name="Draw a box").click()
        box = page.locator("#chart").bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(middle[0] - half, middle[1] - half)
        page.mouse.down()
        page.mouse.move(middle[0] + half, middle[1] + half, steps=4)
        page.mouse.up()
        page.locator("[data-figure='needed']").wait_for()
        return page

    return make


def shown(page):
    """The figures of the plan that the page shows."""
    return {
        name: int(page.locator(f"dl[aria-label='Plan'] [data-figure='{name}']").inner_text().replace(",", ""))
        for name in FIGURES
    }


def test_a_box_has_its_plan_and_lines_that_work(draw, curl, daemon, axe, docs_screenshot, tmp_path):
    page = draw(-735000, 2645000)
    page.mouse.click(800, 300)
    page.get_by_role("region", name="Values at a point").locator("dd").wait_for()
    axe(page)
    docs_screenshot(page, "page-region")
    words = curl(page)
    query = dict(parse_qsl(urlsplit(words[-1]).query))
    page.get_by_role("button", name="All fetched").wait_for()  # by the tiles below it
    plan = daemon.http.get("/collections/arcticdem-32m/plan", params=query).json()
    assert shown(page) == {name: plan["chunks"][member] for name, member in FIGURES.items()}
    # The line works as it stands.
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with rasterio.open(tmp_path / "arcticdem-32m.tif") as file:
        found, transform = file.read(1), file.transform
    assert (plan["window"]["height"], plan["window"]["width"]) == found.shape
    # So do the lines of Python, with the same pixels.
    made: dict = {}
    exec(page.get_by_label("Python line", exact=True).inner_text(), made)
    np.testing.assert_array_equal(made["ds"].dem.values, found)
    assert made["geobox"].affine == transform
    made["client"].close()


def test_a_box_is_downloaded(draw, curl, daemon, tmp_path):
    page = draw(-745000, 2635000)
    coverage = daemon.http.get(curl(page)[-1]).content
    for button, name in (("Download GeoTIFF", "region.tif"), ("Download NetCDF", "region.nc")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        download.value.save_as(tmp_path / name)
    with rasterio.open(tmp_path / "region.tif") as file, rasterio.MemoryFile(coverage) as memory:
        found = file.read(1)
        with memory.open() as expected:
            np.testing.assert_array_equal(found, expected.read(1))
            assert file.transform == expected.transform
    with xr.open_dataset(tmp_path / "region.nc", mask_and_scale=False) as dataset:
        np.testing.assert_array_equal(dataset.dem.values, found)


def test_a_coarser_cell_has_a_plan_of_its_level(draw, curl, daemon):
    page = draw(-740000, 2640000)
    page.get_by_label("Cell size").select_option("1")
    page.get_by_label("curl line", exact=True).filter(has_text="width=").wait_for()
    query = dict(parse_qsl(urlsplit(curl(page)[-1]).query))
    plan = daemon.http.get("/collections/arcticdem-32m/plan", params=query).json()
    assert plan["level"] == 1
    assert plan["aligned"], "the box lies on the cells of the level"
    assert shown(page) == {name: plan["chunks"][member] for name, member in FIGURES.items()}


def test_a_seed_runs_to_its_end(draw, daemon):
    # So far out that no tile fetches: what comes, comes by the seed.
    page = draw(-1750000, 1750000, z=5, half=3)
    page.get_by_label("Level of the inventory").select_option("0")
    assert shown(page)["absent"] > 0
    page.get_by_role("button", name="Fetch ahead").click()
    page.get_by_role("button", name="All fetched").wait_for()
    assert shown(page)["absent"] == 0
    page.get_by_text("done:").wait_for()
    newest = daemon.http.get("/jobs").json()["jobs"][0]
    assert (newest["processID"], newest["status"]) == ("seed", "successful")
    assert newest["chunks"]["fetched"] > 0


def test_downloads_and_seeds_are_cancelled(draw, daemon, fresh_standins):
    page = draw(1150000, -1150000, z=5, half=6)
    fresh_standins.shape(latency=2)
    page.get_by_role("button", name="Download GeoTIFF").click()
    page.get_by_text("Fetching what is absent").wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()
    button = page.get_by_role("button", name=re.compile("^Fetch ahead"))
    button.click()
    page.get_by_text(re.compile("^Fetching ahead: [0-9]+ of [0-9]+ chunk")).wait_for()
    assert button.is_disabled()
    page.get_by_role("button", name="Cancel Fetch ahead").click()
    page.get_by_text("cancelled:").wait_for()
    assert daemon.http.get("/jobs").json()["jobs"][0]["status"] == "dismissed"


def test_a_late_plan_does_not_replace_a_newer_one(draw, curl, daemon, at_rest):
    page = draw(-775000, 2665000)
    at_rest(page)
    late = []
    page.route("**/plan?*", lambda route: route.continue_() if late else late.append(route))
    for x in (1000000, 1100000):  # the page asks again where chunks have come
        with page.expect_request("**/plan?*"):
            daemon.http.get(
                "/collections/arcticdem-32m/point", params={"x": x, "y": -1000000, "crs": "EPSG:3413"}
            )
    for level in ("1", "0", "1"):
        page.get_by_label("Cell size").select_option(level)
    page.get_by_label("curl line", exact=True).filter(has_text="width=").wait_for()
    late[0].continue_()
    page.wait_for_timeout(300)
    assert "width=" in curl(page)[-1]
    # Another box starts with cells of its own size, and says so.
    page.get_by_text("Coordinates of the box").click()
    page.get_by_role("button", name="Plan this box").click()
    page.get_by_label("curl line", exact=True).filter(has_not_text="width=").wait_for()
    assert page.get_by_label("Cell size").input_value() == "0"


def test_what_failed_is_said_until_something_else_is_done(draw, daemon, watch, fresh_standins):
    watch.expected += ["502", "404"]
    page = draw(-1350000, 1450000, z=5, half=6)
    fresh_standins.faults([Fault(path="*32m*.tif*", action=Status(status=403), times=None)])
    page.get_by_role("button", name="Download NetCDF").click()
    words = page.locator("p.problem").filter(has_text="could not be fetched").first
    words.wait_for()
    assert not re.search("fail_on_error|dem/c/", words.inner_text())
    # A plan that is asked for anew leaves it there.
    with page.expect_response("**/plan?*"):
        daemon.http.get(
            "/collections/arcticdem-10m/point", params={"x": 0, "y": -1000000, "crs": "EPSG:3413"}
        )
    page.wait_for_timeout(100)
    assert words.is_visible()
    # A job that the daemon knows no more, as after a restart, has failed.
    job = {"jobID": "0" * 32, "processID": "seed", "status": "running", "message": "", "collection": "x"}
    page.route("**/seed?*", lambda route: route.fulfill(status=201, json=job))
    page.get_by_role("button", name="Fetch ahead").click()
    page.get_by_text("Fetching ahead: starting").wait_for()
    daemon.http.get("/collections/arcticdem-10m/point", params={"x": 0, "y": -900000, "crs": "EPSG:3413"})
    page.get_by_text("Fetching ahead failed: the daemon does not know it any more").wait_for()
    assert words.count() == 0
    # Where the clipboard is not to be had, the line is selected.
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="Copy the curl line").click()
    page.get_by_text("Selected", exact=True).wait_for()
    assert (
        page.evaluate("getSelection().toString()") == page.get_by_label("curl line", exact=True).inner_text()
    )


def test_words_name_what_is_wrong(open_page, daemon, watch):
    """A tile that is not a picture; a collection that was set aside while others are fetched."""
    watch.expected.append("503")
    page = open_page(None)
    status = daemon.http.get("/status").json()
    why = {"code": "collection-set-aside", "detail": "could not be opened", "collection": "rema-32m"}
    status |= {"ready": False, "reasons": [why]}
    status["downloads"] |= {"queued": 2, "chunks_in_flight": 4}
    page.route("**/status", lambda route: route.fulfill(json=status))
    page.route("**/status/events", lambda route: route.fulfill(status=503, json={}))
    page.route("**/tiles/**", lambda route: route.fulfill(content_type="image/png", body="no picture"))
    page.goto("/#collection=arcticdem-32m&x=-735000&y=2645000&z=11")
    page.locator("#daemon-title .state", has_text="Fetching 4 chunks").wait_for()
    assert page.locator("#daemon-title .state").inner_text().endswith("1 collection set aside")
    page.get_by_text("rema-32m: Could not be opened.").wait_for()
    page.locator(".chip.problem", has_text="could not be decoded").wait_for()


def test_a_box_too_large_is_refused_in_words(page, watch):
    watch.expected.append("413")
    page.goto("/#collection=arcticdem-2m")
    page.get_by_text("Or type its coordinates").click()
    for name, value in (("Left", "-3000000"), ("Bottom", "0"), ("Right", "0"), ("Top", "3000000")):
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Plan this box").click()
    page.get_by_text("one request gets at most").wait_for()


def test_a_failing_source_is_said_in_words(open_page, daemon, axe, watch, fresh_standins):
    watch.expected.append("502")
    fresh_standins.faults([Fault(path="*32m*.tif*", action=Status(status=403), times=None)])
    page = open_page("#collection=arcticdem-32m&x=-1450000&y=1450000&z=11")
    alert = page.locator(".chip.problem")
    alert.wait_for()
    refused = daemon.http.get("/collections/arcticdem-32m/tiles/EPSG3413Quad/9/168/167")
    assert refused.status_code == 502
    assert refused.json()["chunks"][0]["detail"] in alert.inner_text()
    page.locator(".failures li").first.wait_for()
    page.locator("[data-figure='squares failed']").filter(has_text=re.compile("[1-9]")).wait_for()
    axe(page)
    fresh_standins.faults([])
    alert.get_by_role("button", name="Try again").click()
    alert.wait_for(state="detached")
    page.locator("[data-figure='squares failed']").filter(has_text=re.compile("^0$")).wait_for()
