"""Drafts of folders: conformance, and each thing that headers say against what was written into them."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from icehouse_server.collections.draft_text import draft_text
from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.drafts.draft import Inquiry
from icehouse_server.core.errors import BadParameterError, SourceCorruptError, SourceRefusedError
from icehouse_server.sources import SourceContext, create_source
from icehouse_server.sources.files.inspection import FolderInspector
from icehouse_server.testing.inspector_conformance import InspectorCase, InspectorConformance
from support.source_rig import MemoryDocuments

LEFT, TOP = 500_000, 7_405_000


def write(path, *, left=LEFT, top=TOP, size=10, shape=(40, 50), dtypes=("float32",), nodata=None, **more):
    """A small GeoTIFF; `tags`, `names`, `units`, `scales`, `colours` as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = {key: more.pop(key, None) for key in ("names", "units", "scales", "colours", "tags")}
    profile = {
        "driver": "GTiff", "count": len(dtypes), "height": shape[0], "width": shape[1], "dtype": dtypes[0],
        "crs": "EPSG:32622", "transform": Affine(size, 0, left, 0, -size, top), "nodata": nodata, **more,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as made:
        made.write(np.ones((len(dtypes), *shape), dtype=dtypes[0]))
        made.descriptions = described["names"] or made.descriptions
        made.units = described["units"] or made.units
        made.scales = described["scales"] or made.scales
        if described["colours"]:
            made.colorinterp = described["colours"]
        made.update_tags(**(described["tags"] or {}))


@pytest.fixture(scope="module")
def context():
    with ThreadPoolExecutor(4) as pool:
        yield SourceContext(documents=MemoryDocuments(), pool=pool)


@pytest.fixture
def look(tmp_path, context):
    async def run(address=None, **more):
        inspector = FolderInspector(context=context)
        return await inspector.inspect(Inquiry(address=str(address or tmp_path / "dems"), **more))

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "dems"


class TestFolderInspector(InspectorConformance):
    @pytest.fixture
    def case(self, folder, context):
        write(folder / "a.tif", nodata=-9999)
        write(folder / "b.tif", left=LEFT + 500, nodata=-9999)
        return InspectorCase(
            make=lambda: FolderInspector(context=context),
            inquiry=Inquiry(address=str(folder)),
            missing=str(folder / "none"),
            foreign=("https://example.org/collections/x", "USGS/SRTMGL1_003", "projects/a/assets/b"),
            make_source=lambda spec: create_source(spec, context),
        )


async def test_the_grid_is_the_union_on_the_lattice_of_most(folder, look):
    write(folder / "a.tif")
    write(folder / "sub" / "b.tif", left=LEFT + 1500, top=TOP + 400)
    write(folder / "c.tif", left=LEFT + 3, top=TOP, size=20)
    write(folder / "d.tif", crs="EPSG:32623", left=237_150, top=7_417_410, shape=(9, 9))
    draft = await look()
    grid = draft.grid
    assert (grid.crs, grid.resolution) == ("EPSG:32622", 10)
    assert grid.bounds[0] == LEFT
    assert grid.bounds[3] == TOP + 400
    for edge, corner in zip(grid.bounds, (LEFT, TOP, LEFT, TOP), strict=True):
        assert (edge - corner) % 10 == 0
    remark = next(one for one in draft.remarks if one.where == "grid")
    assert "2 files lie on this grid" in remark.text
    assert "c.tif, d.tif" in remark.text


async def test_bands_are_what_headers_say(folder, look):
    write(
        folder / "a.tif", dtypes=("int16",) * 2, nodata=-32768, names=("Surface height", "2nd"),
        units=("metre", ""), scales=(0.1, 1.0), tags={"TIFFTAG_COPYRIGHT": "The Lake Survey"},
    )  # fmt: skip
    draft = await look()
    first, second = draft.bands
    assert (first.name, first.dtype, first.nodata) == ("Surface_height", "int16", -32768)
    assert (first.long_name, first.units, first.scale) == ("Surface height", "m", 0.1)
    assert (first.resampling, first.source) == ("bilinear", {"index": 1})
    assert (second.name, second.scale, second.source) == ("b2nd", 1.0, {"index": 2})
    assert draft.attribution == "The Lake Survey"
    assert draft.id == "dems"
    spec = parse_collection(draft_text(draft), "x")
    assert spec.source["folder"] == str(folder)


@pytest.mark.parametrize(
    ("dtype", "nodata", "found"),
    [("float32", None, math.nan), ("float32", -9999, -9999), ("uint8", None, None), ("uint8", 255, 255)],
)
async def test_nodata(folder, look, dtype, nodata, found):
    write(folder / "a.tif", dtypes=(dtype,), nodata=nodata)
    band = (await look()).bands[0]
    assert repr(band.nodata) == repr(found if found is None or dtype == "uint8" else float(found))


async def test_a_picture_shows_its_colours_and_drops_alpha(folder, look):
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    write(folder / "a.tif", dtypes=("uint8",) * 4, colours=colours)
    draft = await look()
    assert [band.name for band in draft.bands] == ["red", "green", "blue"]
    assert draft.default_bands == ("red", "green", "blue")
    assert any(remark.fill_in and "nodata" in remark.text for remark in draft.remarks)


@pytest.mark.parametrize(
    ("names", "table", "moment"),
    [
        (("2020", "2021", "2023"), {"start": "2020", "period": "yearly", "end": "2024"}, "2020-01-01"),
        (("202001", "202002"), {"start": "2020-01", "period": "monthly", "end": "2020-03"}, "2020-01-01"),
        (
            ("S2_20200130_x", "S2_20200131_x"),
            {"start": "2020-01-30", "period": "daily", "end": "2020-02-01"},
            "2020-01-30",
        ),
    ],
)
async def test_dates_of_one_place_make_a_time_axis(folder, look, names, table, moment):
    for name in names:
        write(folder / f"{name}.tif")
    draft = await look()
    assert draft.time == table
    assert draft.moment.startswith(moment)
    assert draft.interval[0].startswith(moment)
    spec = parse_collection(draft_text(draft), "x")
    assert spec.time is not None


async def test_dates_of_different_places_are_a_suggestion(folder, look):
    write(folder / "20200101.tif")
    write(folder / "20210101.tif", left=LEFT + 500)
    draft = await look()
    assert draft.time == {}
    assert "datetime" not in draft.source
    (remark,) = [one for one in draft.remarks if one.where == "time"]
    assert ' period = "yearly"' in remark.text


async def test_dates_of_tags(folder, look):
    for day in (1, 2):
        write(folder / f"{'ab'[day - 1]}.tif", tags={"TIFFTAG_DATETIME": f"2020:03:0{day} 10:00:00"})
    draft = await look()
    assert draft.source["datetime"] == "tag"
    assert draft.time == {"start": "2020-03-01", "period": "daily", "end": "2020-03-03"}


async def test_files_that_differ_or_fail_are_named(folder, look):
    write(folder / "a.tif")
    write(folder / "b.tif")
    write(folder / "c.tif", dtypes=("int16",))
    (folder / "d.tif").write_bytes(b"no TIFF")
    write(folder / "e.tif", crs=None)
    draft = await look()
    said = [(remark.where, remark.text) for remark in draft.remarks if remark.fill_in]
    assert any(where == "bands" and "c.tif" in text for where, text in said)
    assert any(
        where == "source" and "d.tif" in text and "e.tif: it has no CRS" in text for where, text in said
    )
    assert draft.bands[0].dtype == "float32"


async def test_one_file_is_a_folder_with_its_name_as_pattern(folder, look):
    write(folder / "a.tif")
    write(folder / "b.tif", left=LEFT + 500)
    draft = await look(folder / "b.tif")
    assert draft.id == "b"
    assert draft.source == {"type": "files", "folder": str(folder), "pattern": "b.tif"}
    assert draft.grid.bounds[0] == LEFT + 500


async def test_names_of_another_suffix(folder, look):
    write(folder / "a.TIFF")
    assert (await look()).source["pattern"] == "**/*.TIFF"


async def test_files_of_another_format(folder, look):
    folder.mkdir()
    with rasterio.open(
        folder / "a.jp2", "w", driver="JP2OpenJPEG", count=1, width=64, height=64, dtype="uint16",
        crs="EPSG:32622", transform=Affine(10, 0, LEFT, 0, -10, TOP),
    ) as made:  # fmt: skip
        made.write(np.ones((1, 64, 64), dtype="uint16"))
    draft = await look()
    assert draft.source["pattern"] == "**/*.jp2"
    assert (draft.grid.crs, draft.bands[0].dtype) == ("EPSG:32622", "uint16")


async def test_nothing_to_look_at(folder, look):
    with pytest.raises(BadParameterError, match="no folder"):
        await look()
    folder.mkdir()
    with pytest.raises(SourceRefusedError, match="holds no raster"):
        await look()
    write(folder / "a.tif", crs=None)
    with pytest.raises(SourceCorruptError, match="no CRS"):
        await look()
