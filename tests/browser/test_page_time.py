"""Collections of one's own: time steps, three bands as colours, and values that nothing says how to show."""

from __future__ import annotations

import io
import re
import subprocess

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from pyproj import Transformer

pytestmark = pytest.mark.slow

BANDS = ("near", "red", "green")
CELL = 1 / 1024
YEARS = """
id = "years"
title = "Four years in colour"
default_bands = ["near", "red", "green"]
[grid]
crs = "EPSG:4326"
resolution = 0.0009765625
bounds = [10, 45, 10.25, 45.25]
chunk = 64
overviews = 1
[extent]
bbox = [10, 45, 10.25, 45.25]
[time]
start = "2020"
end = "2024"
period = "yearly"
[source]
type = "files"
folder = "years"
datetime = { pattern = '_(\\d{4})', format = "%Y" }
""" + "".join(
    f'[[bands]]\nname = "{name}"\ndtype = "uint8"\nsource = {{ index = {index} }}\n'
    for index, name in enumerate(BANDS, 1)
)
LONG = {"days": "daily", "quarters": "PT6H", "months": "monthly"}
"""Collections with long time axes, of the same files, and their periods."""
DEPTH = """
id = "depth"
title = "Depths without a style"
[grid]
crs = "EPSG:32633"
resolution = 10
bounds = [500000, 5000000, 502560, 5002560]
chunk = 64
[extent]
bbox = [15, 45.14, 15.04, 45.18]
[source]
type = "files"
folder = "depth"
[[bands]]
name = "depth"
dtype = "float32"
nodata = -9999
units = "m"
"""
X, Y = 10.09375, 45.15625
"""The middle of a chunk of ``years``."""
PLACE = f"#collection=years&x={X}&y={Y}&z=10"


def year_of(year):
    """The values of a year: one for each band and chunk, (bands, rows, columns), uint8."""
    chunks = np.arange(16).reshape(4, 4) * 5 + np.arange(3)[:, None, None] * 40 + (year - 2020) * 30
    return np.kron(chunks, np.ones((64, 64))).astype("uint8")


def write(path, values, crs, transform, **options):
    path.parent.mkdir(exist_ok=True)
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **options) as file:
        file.write(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Collection files, and their files next to them."""
    made = tmp_path_factory.mktemp("collections")
    for year in range(2020, 2024):
        write(
            made / "years" / f"map_{year}.tif",
            year_of(year),
            "EPSG:4326",
            Affine(CELL, 0, 10, 0, -CELL, 45.25),
        )
    depths = np.tile(np.linspace(0, 100, 256, dtype="float32"), (1, 256, 1))
    write(
        made / "depth" / "map.tif", depths, "EPSG:32633", Affine(10, 0, 500000, 0, -10, 5002560), nodata=-9999
    )
    (made / "years.toml").write_text(YEARS)
    (made / "depth.toml").write_text(DEPTH)
    for name, period in LONG.items():
        text = YEARS.replace('"years"', f'"{name}"', 1).replace("Four years", name.title())
        text = text.replace("yearly", period)
        (made / f"{name}.toml").write_text(
            text.replace('start = "2020"', 'start = "1920-01-15"') if name == "months" else text
        )
    return made


@pytest.fixture(scope="module")
def daemon(start_daemon, folder):
    """One that serves collections of one's own."""
    with start_daemon(collections_dir=folder, collections=",".join(("years", "depth", *LONG))) as started:
        yield started


def colour(page):
    """The colour of the map next to its middle."""
    box = page.locator("#chart").bounding_box()
    clip = {
        "x": box["x"] + box["width"] / 2 + 20,
        "y": box["y"] + box["height"] / 2 + 20,
        "width": 4,
        "height": 4,
    }
    with Image.open(io.BytesIO(page.screenshot(clip=clip, scale="css"))) as image:
        return np.asarray(image.convert("RGB")).mean(axis=(0, 1))


def value_of(year):
    """What the file of a year has in the middle of the map."""
    return year_of(year)[:, 96, 96]


def test_step_and_values_are_chosen(open_page, folder, at_rest, view, curl, tmp_path):
    page = open_page(f"{PLACE}&inventory=off")
    at_rest(page)
    steps = page.get_by_label("Time step")
    assert steps.locator("option").all_inner_texts() == [f"{year}-01-01" for year in (2023, 2022, 2021, 2020)]
    assert view(page)["datetime"] == "2023-01-01T00:00:00Z"
    assert view(page)["tms"] == "WorldCRS84Quad", "the grid's own"
    np.testing.assert_allclose(colour(page), value_of(2023), atol=1)
    page.locator("#chart").press("Enter")
    card = page.get_by_role("region", name="Values at a point")
    card.locator("dd").first.wait_for()
    assert card.locator("dd").all_inner_texts() == [str(value) for value in value_of(2023)]
    page.get_by_text("Or type its coordinates").click()
    for name, edge in (("West", "10.05"), ("South", "45.1"), ("East", "10.1"), ("North", "45.2")):
        page.get_by_label(name, exact=True).fill(edge)
    page.get_by_role("button", name="Plan this box").click()
    page.get_by_label("curl line", exact=True).filter(has_text="datetime=2023").wait_for()
    steps.select_option("2022-01-01")
    # All that says something of the step follows.
    card.get_by_text("Time step 2022-01-01").wait_for()
    card.locator("dd").first.wait_for()
    assert card.locator("dd").all_inner_texts() == [str(value) for value in value_of(2022)]
    assert view(page)["datetime"] == "2022-01-01T00:00:00Z"
    at_rest(page)
    np.testing.assert_allclose(colour(page), value_of(2022), atol=1)
    page.get_by_label("curl line", exact=True).filter(has_text="datetime=2022").wait_for()
    subprocess.run(curl(page), cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with (
        rasterio.open(tmp_path / "years.tif") as file,
        rasterio.open(folder / "years" / "map_2022.tif") as truth,
    ):
        found = file.read()
        np.testing.assert_array_equal(found, truth.read(window=truth.window(*file.bounds)))
    made: dict = {}
    exec(page.get_by_label("Python line", exact=True).inner_text(), made)
    np.testing.assert_array_equal(np.squeeze(made["ds"].to_dataarray().values), found)
    made["client"].close()
    # The colours are said, and can be other ones.
    legend = page.get_by_role("figure", name="Legend")
    said = zip(("Red", "Green", "Blue"), BANDS, strict=True)
    lines = [line.strip(" -") for line in legend.aria_snapshot().splitlines()]
    assert lines[1:] == [
        line for term, band in said for line in (f"term: {term}", f"definition: {band} 0 to 255")
    ]
    page.get_by_text("Values that are shown").click()
    page.get_by_label("Highest value").fill("300")
    page.get_by_label("Highest value").press("Enter")
    legend.get_by_text("near 0 to 300").wait_for()
    # The address is all there is to share.
    page.reload()
    at_rest(page)
    assert steps.input_value() == "2022-01-01T00:00:00Z"
    assert page.get_by_label("Highest value").input_value() == "300"
    np.testing.assert_allclose(colour(page), value_of(2022) * (255 / 300), atol=1)


def test_the_inventory_is_of_the_step(open_page, daemon, at_rest):
    # So far out that tiles need level 1 alone: no other test asks for these years.
    page = open_page(f"#collection=years&x={X}&y={Y}&z=8&level=0&datetime=2020-01-01T00:00:00Z")
    squares = page.locator("[data-figure='squares present']")
    at_rest(page)
    squares.filter(has_text=re.compile("^0$")).wait_for()
    said = daemon.http.get("/collections/years/point", params={"x": X, "y": Y, "datetime": "2020"}).json()
    assert np.ravel([said["values"][name] for name in BANDS]).tolist() == value_of(2020).tolist()
    squares.filter(has_text=re.compile("^1$")).wait_for()
    page.get_by_label("Time step").select_option("2021-01-01")
    squares.filter(has_text=re.compile("^0$")).wait_for()
    page.get_by_label("Time step").select_option("2020-01-01")
    squares.filter(has_text=re.compile("^1$")).wait_for()


def test_a_step_of_many_is_chosen_by_its_date(open_page, screens, at_rest, view, axe):
    """By the keyboard, by buttons, from the address, on a phone."""
    page = open_page(PLACE.replace("years", "days") + "&inventory=off")
    at_rest(page)
    steps, said = page.get_by_label("Time step", exact=True), page.locator(".steps [role=status]")
    assert (steps.input_value(), view(page)["datetime"]) == ("2023-12-31", "2023-12-31T00:00:00Z")
    assert said.inner_text() == "Step 1,461 of 1,461, which start from 2020-01-01 to 2023-12-31."
    assert page.get_by_role("button", name="Later step").is_disabled()
    steps.focus()
    page.keyboard.type("01012022")
    said.filter(has_text="Step 732 of").wait_for()
    assert view(page)["datetime"] == "2022-01-01T00:00:00Z"
    page.get_by_role("button", name="Earlier step").click()
    said.filter(has_text="Step 731 of").wait_for()
    assert (steps.input_value(), view(page)["datetime"]) == ("2021-12-31", "2021-12-31T00:00:00Z")
    page.get_by_role("button", name="Later step").press("Enter")
    said.filter(has_text="Step 732 of").wait_for()
    assert (steps.input_value(), view(page)["datetime"]) == ("2022-01-01", "2022-01-01T00:00:00Z")
    at_rest(page)
    np.testing.assert_allclose(colour(page), value_of(2022), atol=1)
    # There is no such step, and the page does not move to another one.
    for outside in ("2030-01-01", "1999-12-31"):
        steps.fill(outside)
        steps.blur()
        assert (steps.input_value(), view(page)["datetime"]) == ("2022-01-01", "2022-01-01T00:00:00Z")
    axe(page)
    page.go_back()
    said.filter(has_text="Step 731 of").wait_for()
    assert steps.input_value() == "2021-12-31"
    phone = open_page("#collection=days&inventory=off&datetime=2020-01-01T00:00:00Z", screens["phone"])
    at_rest(phone)
    field = phone.get_by_label("Time step", exact=True)
    field.scroll_into_view_if_needed()
    assert field.input_value() == "2020-01-01"
    assert phone.get_by_role("button", name="Earlier step").is_disabled()
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("name", "label", "typed", "step", "number"),
    [
        ("quarters", "Time step (UTC)", "2022-02-28T13:05", "2022-02-28T12:00:00Z", "3,159"),
        ("months", "Time step", "1956-03-14", "1956-02-15T00:00:00Z", "434"),
    ],
)
def test_what_is_typed_stands_for_the_step_that_holds_it(
    open_page, daemon, view, name, label, typed, step, number
):
    page = open_page(f"#collection={name}&inventory=off")
    field, said = page.get_by_label(label, exact=True), page.locator(".steps [role=status]")
    field.fill(typed)
    said.filter(has_text=f"Step {number} of").wait_for()
    assert view(page)["datetime"] == step
    field.blur()
    assert step.startswith(field.input_value())
    # The page counts as the daemon does.
    times = daemon.http.get(f"/collections/{name}/cube.zarr/time/zarr.json").json()["shape"]
    assert f"of {times[0]:,}," in said.inner_text()
    found = daemon.http.get(f"/collections/{name}/point", params={"x": X, "y": Y, "datetime": step}).json()
    assert found["datetime"][0].startswith(step)


def test_what_has_no_range_says_so_and_takes_one(open_page, at_rest, view, pixels, axe):
    page = open_page("#collection=depth&inventory=off")
    page.get_by_text("Nothing says which values of depth to show.").first.wait_for()
    at_rest(page)
    assert page.get_by_label("Time step").count() == 0
    page.locator("#chart").press("Enter")  # a click works without a picture
    easting, _ = Transformer.from_crs(4326, 32633).transform(45.16, 15.02)
    said = f"{int((easting - 500000) / 10) * 100 / 255:.3f} m"
    page.get_by_role("region", name="Values at a point").locator("dd", has_text=said).wait_for()
    empty = pixels(page)
    page.get_by_role("button", name="Give them").click()
    low, high = page.get_by_label("Lowest value"), page.get_by_label("Highest value")
    page.keyboard.type("100")
    high.fill("0")
    high.press("Enter")
    assert high.evaluate("field => field.validationMessage") == "It has to be above the lowest value"
    assert "rescale" not in view(page)
    low.fill("0")
    high.fill("100")
    high.press("Enter")
    page.get_by_role("figure", name="Legend").get_by_text("100 m").wait_for()
    assert view(page)["rescale"] == "0,100"
    at_rest(page)
    assert page.get_by_text("No picture yet").count() == 0
    assert np.abs(pixels(page).astype(int) - empty).mean() > 10
    axe(page)
    page.get_by_role("button", name="Forget them").click()
    page.get_by_text("No picture yet").wait_for()
    assert "rescale" not in view(page)
