"""Every example of the documentation runs, from top to bottom of its page, against a real daemon."""

from __future__ import annotations

import os
import tomllib

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject

from icehouse_server.collections.loader import parse_collection
from icehouse_server.demo.standins import StandIns
from icehouse_server.settings import load_settings
from icehouse_server.sources.earthengine import settings as earthengine_settings
from icehouse_server.sources.files import settings as files_settings
from icehouse_server.sources.stac import settings as stac_settings
from support.earthengine.truth import truth
from support.earthengine.world import SRTM

LANGUAGES = {"python", "sh", "toml", "json", "yaml", "text", "js", "nginx"}
"""Of the last five nothing is run: they show answers, and files of other programs."""
TABLES = {"earthengine": earthengine_settings, "files": files_settings, "stac": stac_settings}
"""Which module checks the tables of a kind of source."""
ELSEWHERE = {
    "docs/how-to/docker.md": "needs Docker",
    "docs/explanation/benchmarks.md": "the benchmarks run for minutes",
}
"""Pages of which nothing is run, and why."""
MARKS = ("not run: ", "refused", "installed as pip would", "the daemon is stopped here")
"""What a comment above a block may say; see `Runner.run`. The second: the daemon is meant to refuse."""


def read(path):
    """The first band of a GeoTIFF, its mask and its geobox."""
    with rasterio.open(path) as file:
        geobox = GeoBox(file.shape, file.transform, str(file.crs))
        return file.read(1), file.read_masks(1) != 0, geobox


def check_added(folder):
    """The three collections of "Add a collection" hold what their sources hold."""
    values, _, geobox = read(folder / "peninsula.tif")
    expected = StandIns.truth("rema", "32m", "dem", geobox.affine, geobox.shape)[0]
    np.testing.assert_array_equal(values, expected)
    assert (values != -9999).mean() > 0.5

    values, valid, geobox = read(folder / "alps.tif")
    expected, there = truth(SRTM, "elevation", geobox)
    np.testing.assert_array_equal(valid, there)
    np.testing.assert_array_equal(values[valid], expected[valid])
    assert valid.mean() > 0.5

    values, valid, geobox = read(folder / "mine.tif")
    warped = np.full(values.shape, -9999, dtype="float32")
    with rasterio.open(folder / "dems" / "north.tif") as file:
        reproject(
            rasterio.band(file, 1), warped, dst_transform=geobox.affine, dst_crs=str(geobox.crs),
            dst_nodata=-9999, resampling=Resampling.bilinear,
        )  # fmt: skip
    assert (valid & (warped != -9999)).mean() > 0.5
    # Warped twice here, to the collection's grid and to the region: near, and not the same.
    assert np.median(np.abs(values - warped)[valid & (warped != -9999)]) < 10


def check_ripples(folder):
    """The source of "Write a source" computes what its formula says."""
    values, _, geobox = read(folder / "ripples.tif")
    x, y = geobox.coordinates["x"].values, geobox.coordinates["y"].values
    distance = np.hypot(x[None, :], y[:, None])
    expected = np.where(distance > 1500, (100 * np.cos(distance / 1500)).astype("float32"), -9999)
    np.testing.assert_allclose(values, expected, atol=1e-3)


OUTCOMES = {
    "docs/how-to/add-a-collection.md": check_added,
    "docs/how-to/write-a-source.md": check_ripples,
}
"""What must have come out of a page, in its folder."""


def test_every_block_has_a_known_language_and_a_known_mark(page):
    for block in page.blocks():
        assert not block.language or block.language in LANGUAGES, f"{page}:{block.line}: {block.language!r}"
        assert not block.code or block.language, f"{page}:{block.line}: the block names no language"
        known = not block.code or not block.mark or block.mark.startswith(MARKS)
        assert known, f"{page}:{block.line}: {block.mark!r}"


@pytest.mark.slow
def test_the_examples_of_a_page_run(page, runner):
    if str(page) in ELSEWHERE:
        return  # nothing of it is run, for the reason given there
    for block in page.blocks():
        runner.run(block, str(page))
    OUTCOMES.get(str(page), lambda _: None)(runner.folder)


def test_toml_is_what_the_daemon_reads(page, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("ICEHOUSE_")]:
        monkeypatch.delenv(name)
    for block in page.blocks():
        if block.language != "toml" or block.mark.startswith(("not run:", "installed")):
            continue
        place = f"{page}:{block.line}"
        if "grid" in tomllib.loads(block.code):
            spec = parse_collection(block.code, place)
            if spec.source_type not in TABLES:
                assert f'\n{spec.source_type} = "' in page.text, (
                    f"{place}: no package of the page has this source"
                )
                continue
            tables = TABLES[spec.source_type]
            tables.parse_source(spec)
            for band in spec.bands:
                tables.parse_band(spec, band)
        else:
            file = tmp_path / "icehouse.toml"
            file.write_text(block.code)
            load_settings(config=file)
