"""The map: collections, tiles that fill, the inventory, values, styles and projections."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import Transformer

import icehouse

pytestmark = pytest.mark.slow

PLACE = "#collection=arcticdem-32m&tms=EPSG3413Quad&style=heights&x=-740000&y=2640000&z=10"
"""The middle of tile 67_33, at full resolution."""
VOID = "x=3900000&y=-3900000"
"""Sea: the source says that there is nothing, at no cost."""


def test_it_shows_the_collections_and_one_of_them(page, daemon, at_rest, view):
    at_rest(page)
    served = daemon.http.get("/collections").json()["collections"]
    listed = page.locator(".collections code").all_text_contents()
    assert sorted(listed) == sorted(collection["id"] for collection in served)
    chosen = page.locator(".collections a[aria-current]")
    assert chosen.count() == 1
    shown = next(one for one in served if one["id"] == view(page)["collection"])
    assert shown["title"] in page.title()
    assert shown["attribution"] in page.locator(".about").inner_text()
    assert shown["license"] in page.locator(".about").inner_text()
    own = f"{shown['proj:code'].replace(':', '')}Quad"
    assert view(page)["tms"] == own, "a polar collection is shown by its own projection"


def test_a_map_of_nothing_says_what_to_do(open_page, daemon, at_rest, axe, screens):
    for screen in ("phone", "desktop"):
        page = open_page("#collection=arcticdem-2m", screens[screen])
        at_rest(page)
        said = page.get_by_role("region", name="Nothing is kept yet")
        said.wait_for()
        text = said.inner_text()
        for words in (
            "Nothing of this collection is kept here yet",
            "Hatched: not kept",
            "tiles are fetched",
        ):
            assert words in text
        chart, card = page.locator("#chart").bounding_box(), said.bounding_box()
        aside = card["x"] + card["width"] / 2 - chart["x"] - chart["width"] / 2
        assert abs(aside) < 2, "on the map, half way across"
        axe(page)
    said.get_by_role("button", name="Zoom in", exact=True).click()
    tiles = daemon.http.get("/collections/arcticdem-2m/EPSG3413Quad/tilejson.json").json()
    page.wait_for_function("z => location.hash.includes(`z=${z}`)", arg=tiles["minzoom"])
    said.wait_for(state="detached")


def test_the_map_begins_at_what_is_cached(open_page, daemon, view):
    daemon.http.get(
        "/collections/arcticdem-10m/point", params={"x": -740000, "y": 2640000}
    ).raise_for_status()
    page = open_page("#collection=arcticdem-10m")
    page.wait_for_function("() => /x=.*y=.*z=/.test(location.hash)")
    here = view(page)
    tiles = daemon.http.get("/collections/arcticdem-10m/EPSG3413Quad/tilejson.json").json()
    assert int(here["z"]) >= tiles["minzoom"]
    assert abs(float(here["x"]) + 740000) < 10_000
    assert abs(float(here["y"]) - 2640000) < 10_000
    # All of it is one click away, and a place of the address goes first.
    page.get_by_role("button", name="Whole collection").click()
    page.wait_for_function("() => /z=[0-3](&|$)/.test(location.hash)")
    page.get_by_text("Zoom in: tiles are fetched from there on.").wait_for()
    page.goto("/#collection=rema-32m")
    page.wait_for_function("() => document.title.startsWith('REMA')")
    page.goto(f"/#collection=arcticdem-10m&{VOID}&z=9")
    page.wait_for_function("() => document.title.startsWith('ArcticDEM')")
    assert VOID in page.url


def test_a_search_finds_collections(page):
    page.locator(".collections a").first.wait_for()
    many = page.locator(".collections a").count()
    field = page.get_by_role("searchbox")
    assert field.count() == (1 if many > 6 else 0)


def test_the_introduction_is_told_once(page):
    said = page.get_by_role("region", name="What this is")
    assert "fetches remote rasters once, keeps them here" in said.inner_text()
    page.get_by_role("button", name="Dismiss the introduction").click()
    said.wait_for(state="detached")
    page.reload()
    page.locator(".collections a").first.wait_for()
    assert said.count() == 0


def test_the_button_goes_to_the_scale_that_fetches(open_page, daemon, at_rest):
    page = open_page(f"#collection=arcticdem-32m&{VOID}&z=3")
    at_rest(page)
    page.get_by_role("button", name="Zoom in", exact=True).click()
    tiles = daemon.http.get("/collections/arcticdem-32m/EPSG3413Quad/tilejson.json").json()
    page.wait_for_function("z => location.hash.includes(`z=${z}`)", arg=tiles["minzoom"])
    at_rest(page)
    assert page.get_by_text("not fetched at this scale").count() == 0


def test_tiles_lie_where_they_belong(open_page, daemon, at_rest):
    page = open_page(f"{PLACE}&inventory=off")
    at_rest(page)
    col, left = divmod(-740000 + 4194304, 256 * 32)
    row, top = divmod(4194304 - 2640000, 256 * 32)
    tile = daemon.http.get(
        f"/collections/arcticdem-32m/tiles/EPSG3413Quad/10/{row}/{col}", params={"style": "heights"}
    )
    with Image.open(io.BytesIO(tile.content)) as image:
        expected = np.asarray(image.convert("RGBA").convert("RGB"), int)
    box = page.locator("#chart").bounding_box()
    x, y = (box["x"] + box["width"] / 2 - left / 32, box["y"] + box["height"] / 2 - top / 32)
    clip = {"x": round(x), "y": round(y), "width": 256, "height": 256}
    with Image.open(io.BytesIO(page.screenshot(clip=clip, scale="css"))) as image:
        found = np.asarray(image.convert("RGB"), int)
    assert expected.std() > 10
    assert np.median(np.abs(found - expected)) <= 2


def test_tiles_fill_as_one_pans(open_page, daemon, fresh_standins, pixels, at_rest, view):
    # A place of its own: nothing of it is cached.
    page = open_page("#collection=arcticdem-32m&style=heights&x=-775000&y=2675000&z=10&inventory=off")
    at_rest(page)
    first = pixels(page)
    assert first.std() > 10, "the tiles show terrain"
    before = fresh_standins.counters().requests
    assert before > 0
    page.mouse.move(900, 400)
    page.mouse.down()
    page.mouse.move(500, 400, steps=8)
    page.wait_for_timeout(200)  # at rest: the map would glide on
    page.mouse.up()
    page.wait_for_function("() => !location.hash.includes('x=-775000')")
    at_rest(page)
    after = pixels(page)
    # What was in the middle is further left, and the right is new and filled.
    moved = round((float(view(page)["x"]) + 775000) / 32)
    assert 300 < moved < 590
    kept = np.abs(after[:, : 600 - moved].astype(int) - first[:, moved:])
    assert np.median(kept) <= 2
    assert after[:, 600 - moved :].std() > 10
    assert fresh_standins.counters().requests > before
    daemon.wait_idle()  # what was begun for tiles that were passed over goes on
    fetched = fresh_standins.counters().requests
    page.reload()
    at_rest(page)
    assert fresh_standins.counters().requests == fetched, "what was fetched once is kept"
    assert np.median(np.abs(pixels(page).astype(int) - after)) <= 2


def test_the_inventory_changes_while_a_client_loads(open_page, daemon, at_rest):
    page = open_page("#collection=arcticdem-32m&x=-1700000&y=1750000&z=5&level=0")
    at_rest(page)
    squares = page.locator("[data-figure='squares present']")
    page.locator("[data-figure='squares present']").wait_for()
    before = int(squares.inner_text().replace(",", ""))
    asked = GeoBox.from_bbox((-1751000, 1749000, -1749000, 1751000), crs="EPSG:3413", resolution=32)
    with icehouse.Client(daemon.url, "arcticdem-32m") as client:
        client.load(asked)
    page.wait_for_function(
        "n => Number(document.querySelector(\"[data-figure='squares present']\").textContent) > n", arg=before
    )
    page.get_by_role("checkbox").uncheck()
    squares.wait_for(state="detached")
    assert "inventory=off" in page.url


def test_a_click_gives_the_value(open_page, daemon, at_rest):
    page = open_page(PLACE)
    at_rest(page)
    page.mouse.click(700, 500)
    card = page.get_by_role("region", name="Values at a point")
    card.locator("dd").wait_for()
    x, y = (float(part) for part in card.locator(".where span").inner_text().split(","))
    said = daemon.http.get("/collections/arcticdem-32m/point", params={"x": x, "y": y}).json()
    value = said["values"]["dem"]
    assert card.locator("dd").inner_text() == f"{value:,.3f}".rstrip("0").rstrip(".") + " m"
    lat, lon = (float(part) for part in re.findall(r"[\d.]+", card.locator(".where").first.inner_text()))
    assert Transformer.from_crs(3413, 4326).transform(x, y) == pytest.approx((lat, lon), abs=1e-5)
    page.get_by_role("button", name="Close the values").click()
    card.wait_for(state="detached")


def test_the_keyboard_alone_does(open_page, daemon, at_rest):
    page = open_page(PLACE)
    at_rest(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skip to the map
    page.keyboard.press("Enter")  # the value at its centre
    card = page.get_by_role("region", name="Values at a point")
    card.locator("dd").wait_for()
    said = daemon.http.get("/collections/arcticdem-32m/point", params={"x": -740000, "y": 2640000}).json()
    assert card.locator("dd").inner_text().startswith(f"{said['values']['dem']:.2f}"[:-1])
    page.keyboard.press("-")
    page.wait_for_function("() => location.hash.includes('z=9')")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => !location.hash.includes('x=-740000')")
    page.get_by_text("Or type its coordinates").press("Enter")
    for name, value in zip(
        ("Left", "Bottom", "Right", "Top"), (-741000, 2639000, -739000, 2641000), strict=True
    ):
        page.get_by_label(name, exact=True).fill(str(value))
    page.get_by_label("Top", exact=True).press("Enter")
    page.locator("[data-figure='needed']").wait_for()


def test_back_button_undoes_a_change_of_style_and_projection(open_page, at_rest, pixels):
    page = open_page(PLACE)
    at_rest(page)
    heights = pixels(page)
    page.get_by_label("Style").select_option(label="Shaded relief")
    page.wait_for_function("() => location.hash.includes('style=hillshade')")
    page.get_by_text("Light falls from the upper left").wait_for()
    at_rest(page)
    assert np.abs(pixels(page).astype(int) - heights).mean() > 10
    page.go_back()
    page.wait_for_function("() => location.hash.includes('style=heights')")
    page.locator(".ramp").wait_for()
    at_rest(page)
    assert np.abs(pixels(page).astype(int) - heights).mean() < 1
    page.get_by_label("Map projection").select_option("WebMercatorQuad")
    page.wait_for_function("() => location.hash.includes('tms=WebMercatorQuad')")
    at_rest(page)
    page.get_by_text("Or type its coordinates").click()
    page.get_by_text("Degrees of longitude and latitude.").wait_for()


def test_another_collection_is_chosen_from_the_list(open_page, at_rest, view):
    page = open_page(f"#collection=arcticdem-32m&{VOID}&z=8")
    at_rest(page)
    page.locator(".collections a", has_text="rema-32m").click()
    page.wait_for_function("() => location.hash.includes('EPSG3031Quad')")
    page.wait_for_function("() => document.title.startsWith('REMA')")
    at_rest(page)
    assert view(page)["collection"] == "rema-32m"


def test_what_is_kept_is_found_from_anywhere(open_page, daemon, at_rest, view):
    daemon.http.get("/collections/arcticdem-32m/point", params={"x": -740000, "y": 2640000})
    page = open_page(f"#collection=arcticdem-32m&{VOID}&z=9")
    at_rest(page)
    page.get_by_role("button", name="What is kept here").click()
    page.wait_for_function(
        "() => Number(document.querySelector(\"[data-figure='squares present']\").textContent) > 0"
    )
    assert VOID not in page.url
    page.goto("/#collection=rema-32m")
    page.wait_for_function("() => document.title.startsWith('REMA')")
    page.get_by_role("button", name="What is kept here").click()
    page.get_by_text("Nothing of this collection is kept here.").wait_for()
    # Nor is this one anywhere; the place was one of its own.
    page.goto("/#collection=nope&x=1000&y=2000&z=9")
    page.get_by_role("alert").filter(has_text="nope is not served here").wait_for()
    at_rest(page)
    assert view(page)["collection"] in page.locator(".collections a[aria-current]").inner_text()
    assert view(page)["z"] != "9"


def test_the_address_the_choices_and_the_map_agree(open_page, at_rest):
    page = open_page(f"#collection=arcticdem-32m&style=heights&{VOID}&z=9&inventory=off")
    at_rest(page)
    style, chart = page.get_by_label("Style"), page.locator("#chart")

    def said(pattern):
        page.wait_for_function("pattern => RegExp(pattern).test(location.hash)", arg=pattern)

    # Chosen once more it is seen whole.
    page.locator(".collections a[aria-current]").click()
    said("x=.*z=[0-3]$|z=[0-3]&")
    page.go_back()
    said(f"{VOID}&z=9")
    style.select_option("hillshade")
    said(f"style=hillshade&{VOID}")
    chart.press("ArrowLeft")
    said("style=hillshade&x=(?!3900000)")
    style.select_option("heights")
    said("style=heights")
    page.go_back()
    said("style=hillshade")
    style.locator("option:checked", has_text="Shaded relief").wait_for(state="attached")
    page.go_back()
    said(f"style=heights&{VOID}")
    page.locator(".ramp").wait_for()
    chart.press("Enter")
    page.locator(".where span", has_text="3900000.0, -3900000.0").wait_for()
    # Whoever sees a part sees about the same part through another projection.
    page.get_by_label("Map projection").select_option("WebMercatorQuad")
    said("WebMercatorQuad.*&x=0&y=.*&z=1[01]&")


def test_the_map_goes_on_beyond_180_degrees(open_page, at_rest, watch, curl):
    watch.expected.append("502")
    page = open_page(None)
    asked = set()

    def refuse(route):
        asked.add(route.request.url)
        route.fulfill(status=502, json={"kind": "source-failed", "detail": "it is a test"})

    page.route(re.compile("/tiles/WorldCRS84Quad/"), refuse)
    page.goto("/#collection=cop-dem-glo-30&tms=WorldCRS84Quad&x=179.99&y=-17.5&z=12&inventory=off")
    at_rest(page)
    page.locator(".chip.problem", has_text=f"{len(asked)} tiles failed.").wait_for()
    box = page.locator("#chart").bounding_box()
    x, y = box["x"] + box["width"] / 2 + 200, box["y"] + box["height"] / 2
    page.mouse.click(x, y)
    card = page.get_by_role("region", name="Values at a point")
    card.get_by_text("° W").wait_for()
    card.locator("dd").wait_for()
    page.get_by_role("button", name="Draw a box").click()
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y + 100, steps=4)
    page.mouse.up()
    page.locator("[data-figure='needed']").wait_for()
    line = curl(page)[-1]
    assert "bbox=-179.97" in line
    page.get_by_text("Coordinates of the box").click()
    east = page.get_by_label("East", exact=True)
    east.fill("-179.999")
    east.press("Enter")
    assert east.evaluate("field => field.validationMessage") == "East has to be above west"
    assert curl(page)[-1] == line


def test_what_fails_once_is_asked_for_again(open_page, watch):
    watch.expected.append("500")
    page = open_page(None)
    page.route("**/collections", lambda route: route.fulfill(json={"collections": []}))
    page.goto("/")
    page.get_by_text("No collection is served.").wait_for()
    page.locator("#chart[aria-busy='false']").wait_for()
    page.unroute("**/collections")
    page.route("**/land-*.json", lambda route: route.fulfill(status=500))
    page.goto(f"/#collection=arcticdem-32m&{VOID}&z=9&inventory=off")
    with page.expect_response("**/land-*.json"):
        page.reload()
    page.locator("#chart[aria-busy='false']").wait_for()
    page.unroute("**/land-*.json")
    with page.expect_response("**/land-*.json") as land:
        page.get_by_role("button", name="Dark colours").click()
    assert land.value.ok


@pytest.mark.parametrize(
    ("screen", "dark"),
    [("desktop", False), ("desktop", True), ("phone", False)],
    ids=["light", "dark", "phone"],
)
def test_it_looks_as_it_did(
    open_page, screens, at_rest, axe, looks_like, docs_screenshot, request, screen, dark
):
    place = "#collection=arcticdem-32m&style=hillshade&x=-750000&y=2650000&z=9"
    page = open_page(place, screens[screen], dark=dark)
    at_rest(page)
    page.locator("[data-figure='squares present']").filter(has_text=re.compile("[1-9]")).wait_for()
    axe(page)
    name = request.node.callspec.id
    if not dark:
        docs_screenshot(page, f"page-{name}")
    looks_like(page, name, mask=[page.locator("[data-figure]"), page.locator(".version")])
