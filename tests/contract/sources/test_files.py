"""The source for folders of GeoTIFFs: conformance, pixels by rasterio and by arithmetic, what is refused."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.merge
import rasterio.warp
from affine import Affine
from rasterio.enums import Resampling

from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.errors import (
    ConfigurationError,
    SourceCorruptError,
    SourceRefusedError,
    SourceUnavailableError,
)
from icehouse_server.core.grid import Window, tiles
from icehouse_server.core.ports import BlockRequest
from icehouse_server.sources import SourceContext, create_source
from icehouse_server.testing.source_conformance import SourceCase, SourceConformance
from support.source_rig import MemoryDocuments, with_source

FILE = """
id = "mine"
title = "Mine"
[grid]
crs = "EPSG:32622"
resolution = 10
bounds = [500000, 7400000, 506000, 7405000]
chunk = 128
[extent]
bbox = [-52.0, 66.0, -50.0, 67.0]
[source]
type = "files"
folder = "tifs"
[[bands]]
name = "height"
dtype = "float32"
nodata = -9999
resampling = "{resampling}"
[bands.source]
index = 1
[[bands]]
name = "kind"
dtype = "uint8"
nodata = 0
resampling = "nearest"
[bands.source]
index = 2
"""
TOP_LEFT = (500_000, 7_405_000)


def spec_of(home, resampling="nearest", **source):
    text = FILE.replace("{resampling}", resampling)
    return with_source(parse_collection(text, "mine.toml", home), **source)


def write(path, values, left, top, size, *, crs="EPSG:32622", nodata=-9999.0, mask=None, tag=None, **options):
    """Write (bands, rows, columns) as a GeoTIFF whose upper left corner lies at a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2],
        "dtype": values.dtype, "crs": crs, "transform": Affine(size, 0, left, 0, -size, top),
        "nodata": nodata, "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate",
        **options,
    }  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(values)
        if mask is not None:
            file.write_mask(mask)
        if tag is not None:
            file.update_tags(TIFFTAG_DATETIME=tag)
    return path


def noise(shape, seed, holes=0.2):
    """Heights with holes of nodata."""
    draw = np.random.default_rng(seed)
    values = draw.uniform(0, 3000, (1, *shape)).astype("float32")
    values[draw.uniform(size=values.shape) < holes] = -9999
    return values


@pytest.fixture
def context():
    with ThreadPoolExecutor(4) as pool:
        yield SourceContext(documents=MemoryDocuments(), pool=pool)


@pytest.fixture
def folder(tmp_path):
    """Three overlapping files on the grid; beyond column 450 there is nothing."""
    tifs = tmp_path / "tifs"
    write(tifs / "a.tif", noise((200, 220), 1), 500_500, 7_404_500, 10)
    write(tifs / "sub" / "b.tif", noise((180, 200), 2), 502_000, 7_404_000, 10, tiled=False, blockysize=7)
    write(tifs / "c.tif", noise((300, 300), 3), 501_000, 7_403_700, 10)
    return tmp_path


def one_band(spec):
    return replace(spec, bands=spec.bands[:1])


async def read(spec, context, window, step=None, **more):
    source = create_source(spec, context)
    try:
        return await source.read(request(spec, window, step, **more))
    finally:
        await source.close()


def request(spec, window, step=None, **more):
    geobox = spec.grid.geobox_of(window)
    return BlockRequest(
        collection=spec, level=0, bands=spec.bands, window=window, geobox=geobox, step=step, **more
    )


WINDOW = Window(row=20, col=30, height=400, width=440)


class TestOnTheGrid(SourceConformance):
    """Files that lie on the grid are copied; rasterio.merge says what comes out."""

    @pytest.fixture
    def case(self, context, folder):
        spec = one_band(spec_of(folder))

        def truth(_, window):
            bounds = spec.grid.geobox_of(window).boundingbox.bbox
            names = sorted(
                (folder / "tifs").rglob("*.tif"), key=lambda path: path.relative_to(folder).as_posix()
            )
            values = rasterio.merge.merge(names, bounds=bounds, res=10, nodata=-9999.0)[0][0]
            return values, values != -9999

        return SourceCase(
            spec=spec,
            make=lambda: create_source(spec, context),
            truth=truth,
            area=WINDOW,
            void=Window(row=0, col=500, height=60, width=90),
            bands=("height",),
        )


class TestOfAnotherSize(SourceConformance):
    """Pixels of 30 m, 7 m off the lattice, two bands and masks of their own: nearest by arithmetic."""

    @pytest.fixture
    def case(self, context, tmp_path):
        spec = spec_of(tmp_path)
        draw = np.random.default_rng(5)
        files = []
        for number, (left, top) in enumerate([(500_507, 7_404_507), (501_807, 7_404_207)]):
            values = draw.integers(1, 200, (2, 70, 80)).astype("uint8")
            mask = (draw.uniform(size=(70, 80)) > 0.3).astype("uint8") * 255
            write(tmp_path / "tifs" / f"{number}.tif", values, left, top, 30, nodata=None, mask=mask)
            files.append((left, top, values, mask))
        heights = replace(spec.bands[0], dtype=np.dtype("uint8"), nodata=255)
        spec = replace(spec, bands=(heights, spec.bands[1]))

        def truth(band, window):
            index = ("height", "kind").index(band)
            out = np.full((window.height, window.width), (255, 0)[index], dtype="uint8")
            valid = np.zeros(out.shape, dtype=bool)
            y = TOP_LEFT[1] - 10 * (np.arange(window.row, window.stop_row) + 0.5)
            x = TOP_LEFT[0] + 10 * (np.arange(window.col, window.stop_col) + 0.5)
            for left, top, values, mask in files:
                row, col = np.floor((top - y) / 30).astype(int), np.floor((x - left) / 30).astype(int)
                inside = ((row >= 0) & (row < 70))[:, None] & ((col >= 0) & (col < 80))[None, :]
                rows, cols = np.clip(row, 0, 69)[:, None], np.clip(col, 0, 79)[None, :]
                new = inside & (mask[rows, cols] != 0) & ~valid
                out[new] = values[index][rows, cols][new]
                valid |= new
            return out, valid

        return SourceCase(
            spec=spec,
            make=lambda: create_source(spec, context),
            truth=truth,
            area=WINDOW,
            void=Window(row=400, col=0, height=100, width=80),
            bands=("height", "kind"),
        )


SMOOTH = 260


def smooth(size=SMOOTH):
    rows, cols = np.mgrid[0:size, 0:size]
    values = (np.sin(rows / 40) * 500 + cols * 3).astype("float32")[None]
    values[0, 100:120, 90:150] = -9999
    return values


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:4326", "EPSG:3031"])
@pytest.mark.parametrize("method", ["nearest", "bilinear", "average"])
async def test_files_of_another_crs_are_warped_once_as_rasterio_does(tmp_path, context, crs, method):
    spec = one_band(spec_of(tmp_path, resampling=method))
    west, south, east, north = rasterio.warp.transform_bounds(
        "EPSG:32622", crs, *spec.grid.geobox.boundingbox.bbox
    )
    size = min(east - west, north - south) / SMOOTH * 1.3
    path = write(tmp_path / "tifs" / "a.tif", smooth(), west, north, size, crs=crs)
    block = await read(spec, context, WINDOW)
    expected = np.full((WINDOW.height, WINDOW.width), -9999, dtype="float32")
    with rasterio.open(path) as file:
        rasterio.warp.reproject(
            rasterio.band(file, 1), expected, dst_transform=spec.grid.geobox_of(WINDOW).affine,
            dst_crs="EPSG:32622", dst_nodata=-9999, resampling=Resampling[method], tolerance=0,
        )  # fmt: skip
    found = block.bands["height"]
    np.testing.assert_array_equal(np.where(found.valid, found.values, -9999), found.values)
    both = found.valid & (expected != -9999)
    assert both.mean() > 0.3
    assert (found.valid == (expected != -9999)).mean() > 0.995  # a hundredth of a pixel off, at the rims
    steps = np.abs(found.values - expected)[both]
    slope = 12.5  # at most, from pixel to pixel of the file
    assert steps.max() < (2 * slope if method == "nearest" else 0.1 * slope)
    assert (steps < 0.02 * slope).mean() > 0.95

    source = create_source(spec, context)  # and no cut of it can be seen
    for part in tiles(WINDOW, 171):
        piece = (await source.read(request(spec, part))).bands["height"]
        inside = part.slices(WINDOW)
        np.testing.assert_array_equal(piece.valid, found.valid[inside])
        np.testing.assert_array_equal(piece.values, found.values[inside])
    await source.close()


@pytest.mark.parametrize("heights", ["EPSG:3413+5773", "EPSG:3413+5703"])
async def test_heights_of_a_crs_move_nothing(tmp_path, context, heights):
    """A vertical datum changes neither the place nor the values of a warp."""
    found = []
    for name, crs in (("flat", "EPSG:3413"), ("high", heights)):
        home = tmp_path / name
        x, y = rasterio.warp.transform("EPSG:32622", crs[:9], [503_000], [7_402_500])
        write(home / "tifs" / "a.tif", smooth(), x[0] - 4000, y[0] + 4000, 8000 / SMOOTH, crs=crs)
        found.append(
            (await read(one_band(spec_of(home, resampling="bilinear")), context, WINDOW)).bands["height"]
        )
    assert found[0].valid.any()
    assert found[0].values.tobytes() == found[1].values.tobytes()


async def test_a_file_in_three_dimensions_is_copied(tmp_path, context):
    text = FILE.replace("EPSG:32622", "EPSG:4326").replace("resolution = 10", "resolution = 0.01")
    text = text.replace("[500000, 7400000, 506000, 7405000]", "[-52, 66, -50, 67]")
    spec = one_band(parse_collection(text.replace("{resampling}", "cubic"), "mine.toml", tmp_path))
    values = np.random.default_rng(3).random((1, 40, 50), dtype="float32")
    write(tmp_path / "tifs" / "a.tif", values, -51, 66.5, 0.01, crs="EPSG:4979")
    block = (await read(spec, context, Window(row=50, col=100, height=40, width=50))).bands["height"]
    assert block.valid.all()
    assert block.values.tobytes() == values.tobytes()


async def test_files_across_the_antimeridian_and_at_the_pole_are_found(tmp_path, context):
    text = FILE.replace("EPSG:32622", "EPSG:4326").replace("resolution = 10", "resolution = 0.25")
    text = text.replace("[500000, 7400000, 506000, 7405000]", "[-180, 60, 180, 90]").replace(
        "{resampling}", "nearest"
    )
    spec = one_band(parse_collection(text, "mine.toml", tmp_path))
    values = np.ones((1, 100, 100), dtype="float32")
    write(tmp_path / "tifs" / "pole.tif", values, -500_000, 500_000, 10_000, crs="EPSG:3413")
    write(tmp_path / "tifs" / "chukotka.tif", values * 2, -1_800_000, 1_900_000, 2_000, crs="EPSG:3413")
    found = (await read(spec, context, spec.grid.window)).bands["height"]
    assert (found.values[0] == 1).all()  # the row below the pole
    two = np.flatnonzero((found.values == 2).any(axis=0))
    assert two[0] == 0
    assert two[-1] == 1439
    for part in (Window(row=0, col=3, height=4, width=5), Window(row=60, col=1430, height=30, width=10)):
        piece = (await read(spec, context, part)).bands["height"]
        np.testing.assert_array_equal(piece.values, found.values[part.slices(spec.grid.window)])
        assert piece.valid.any()


async def test_an_overview_is_used_where_the_grid_is_coarser(tmp_path, context):
    spec = one_band(spec_of(tmp_path))
    values = np.full((1, 2000, 2000), 7, dtype="float32")
    path = write(tmp_path / "tifs" / "a.tif", values, 500_000, 7_404_000, 2.5)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.nearest)
        file.write(np.full((1, 2000, 2000), 9, dtype="float32"))  # so that it shows where pixels come from
    found = (await read(spec, context, Window(row=100, col=0, height=200, width=200))).bands["height"]
    assert (found.values == 7).all()


# Time


TIMED = '\n[time]\nstart = "2020"\nperiod = "P1M"\nend = "2021"\n'


def timed(folder, **source):
    text = (FILE + TIMED).replace("{resampling}", "nearest")
    return one_band(with_source(parse_collection(text, "mine.toml", folder), **source))


@pytest.mark.parametrize(
    ("given", "names", "tags"),
    [
        ("tag", ["a.tif", "b.tif"], ["2020:01:31 23:59:59", "2020:02:01 00:00:00"]),
        ("tag", ["a.tif", "b.tif"], ["2020-01-31T23:59:59Z", "2020-02-01T00:00:00.5Z"]),
        ("tag", ["a.tif", "b.tif"], ["2020-02-01T00:30:00+01:00", "2020-02-01 00:00:00"]),
        ("tag", ["a.tif", "b.tif"], ["2020:01:31", "2020-02-01"]),
        ({"pattern": r"_(\d{8})"}, ["x_20200131.tif", "x_20200201.tif"], [None, None]),
        ({"pattern": r"^(\d{4}-\d{3})", "format": "%Y-%j"}, ["2020-031.tif", "2020-032.tif"], [None, None]),
    ],
)
async def test_a_file_belongs_to_the_step_that_holds_its_date(tmp_path, context, given, names, tags):
    for number, (name, tag) in enumerate(zip(names, tags, strict=True), 1):
        values = np.full((1, 100, 100), number, dtype="float32")
        write(tmp_path / "tifs" / name, values, 500_000, 7_405_000, 10, tag=tag)
    spec = timed(tmp_path, datetime=given)
    window = Window(row=0, col=0, height=50, width=50)
    for number in (0, 1):
        found = await read(spec, context, window, spec.time.step(number))
        assert (found.bands["height"].values == number + 1).all()
    assert not (await read(spec, context, window, spec.time.step(2))).bands["height"].valid.any()


async def test_a_file_without_a_date_fails_what_may_need_it(tmp_path, context):
    values = np.ones((1, 100, 100), dtype="float32")
    write(tmp_path / "tifs" / "spring.tif", values, 500_000, 7_405_000, 10)
    spec = timed(tmp_path, datetime={"pattern": r"(\d{8})"})
    with pytest.raises(SourceCorruptError, match=r"spring\.tif.*no date"):
        await read(spec, context, Window(row=0, col=0, height=50, width=50), spec.time.step(0))
    await read(spec, context, Window(row=400, col=400, height=50, width=50), spec.time.step(0))


# The folder changes


async def test_new_files_and_other_content_are_seen(folder, context, monkeypatch):
    spec = one_band(spec_of(folder))
    window = Window(row=0, col=500, height=50, width=50)
    source = create_source(spec, context)
    assert not (await source.read(request(spec, window))).bands["height"].valid.any()
    path = folder / "tifs" / "new.tif"
    write(path, np.full((1, 50, 50), 5, dtype="float32"), 505_000, 7_405_000, 10)
    found = await source.read(request(spec, window, not_before=float("inf")))
    assert (found.bands["height"].values == 5).all()
    monkeypatch.setattr("icehouse_server.sources.files.folder_index.FRESH", 0.0)
    write(path, np.full((1, 50, 50), 6, dtype="float32"), 505_000, 7_405_000, 10)
    assert ((await source.read(request(spec, window))).bands["height"].values == 6).all()
    path.unlink()
    assert not (await source.read(request(spec, window))).bands["height"].valid.any()
    await source.close()


async def test_a_file_that_changes_meanwhile_is_worth_another_try(folder, context):
    spec = one_band(spec_of(folder))
    source = create_source(spec, context)
    await source.read(request(spec, WINDOW))
    write(folder / "tifs" / "a.tif", noise((50, 50), 9), 500_500, 7_404_500, 10)
    with pytest.raises(SourceUnavailableError, match=r"a\.tif.*changed"):
        await source.read(request(spec, WINDOW))
    assert (await source.read(request(spec, WINDOW))).bands["height"].valid.any()
    await source.close()


# What is refused


async def test_a_broken_file_fails_those_who_need_it_by_its_name(folder, context):
    path = write(folder / "tifs" / "z.tif", noise((128, 128), 4, holes=0), 505_000, 7_405_000, 10)
    path.write_bytes(path.read_bytes()[:-2000])
    spec = one_band(spec_of(folder))
    await read(spec, context, Window(row=50, col=50, height=100, width=100))
    with pytest.raises(SourceCorruptError, match=r"'z\.tif'") as caught:
        await read(spec, context, Window(row=0, col=500, height=100, width=100))
    assert caught.value.item == "z.tif"


async def test_a_file_whose_place_is_unknown_may_be_anywhere(folder, context):
    (folder / "tifs" / "torn.tif").write_bytes(b"II*\0 and no more")
    with pytest.raises(SourceCorruptError, match=r"'torn\.tif'"):
        await read(one_band(spec_of(folder)), context, Window(row=0, col=500, height=50, width=50))


VALUES = np.ones((1, 60, 60), dtype="float32")
HERE = (500_000, 7_405_000, 10)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: write(path, VALUES.astype("int16"), *HERE), ["int16", "height", 'dtype = "int16"']),
        (lambda path: write(path, VALUES, *HERE, crs=None), ["CRS", "gdal_edit"]),
        (
            lambda path: write(path, VALUES, *HERE, transform=Affine(10, 1, 5e5, 0, -10, 7405000)),
            ["north up"],
        ),
        (lambda path: write(path, VALUES * -9999, *HERE, nodata=0), ["-9999", "nodata is 0"]),
        (
            lambda path: write(path, VALUES, *HERE, crs='LOCAL_CS["site",UNIT["metre",1]]'),
            ["CRS is 'site' (Engineering CRS)", "nothing leads to the collection's", "gdal_edit"],
        ),
        (lambda path: write(path, VALUES, *HERE, crs="IAU_2015:30135"), ["Moon", "not of the earth"]),
        (lambda path: write(path, VALUES, *HERE, crs="EPSG:4978"), ["Geocentric CRS"]),
    ],
    ids=["dtype", "no CRS", "rotated", "nodata", "local CRS", "lunar CRS", "geocentric CRS"],
)
async def test_what_does_not_fit_is_said_with_the_file(tmp_path, context, make, said):
    make(tmp_path / "tifs" / "a.tif")
    with pytest.raises(SourceCorruptError) as caught:
        await read(one_band(spec_of(tmp_path)), context, Window(row=0, col=0, height=60, width=60))
    for word in ["a.tif", *said]:
        assert word in f"{caught.value.detail} {caught.value.hint}"


async def test_a_band_that_the_file_does_not_have(tmp_path, context):
    write(tmp_path / "tifs" / "a.tif", VALUES, *HERE)
    with pytest.raises(SourceCorruptError, match=r"1 band.*band 2"):
        await read(spec_of(tmp_path), context, Window(row=0, col=0, height=60, width=60))


async def test_no_folder_and_no_file_are_no_void(tmp_path, context):
    spec = one_band(spec_of(tmp_path))
    window = Window(row=0, col=0, height=60, width=60)
    with pytest.raises(SourceRefusedError, match="no folder"):
        await read(spec, context, window)
    (tmp_path / "tifs").mkdir()
    with pytest.raises(SourceRefusedError, match=r"no file.*matches"):
        await read(spec, context, window)


async def test_links_are_not_followed(tmp_path, context):
    outside = write(tmp_path / "outside" / "secret.tif", VALUES * 9, *HERE)
    write(tmp_path / "tifs" / "far.tif", VALUES, 505_000, 7_401_000, 10)
    (tmp_path / "tifs" / "a.tif").symlink_to(outside)
    (tmp_path / "tifs" / "b").symlink_to(outside.parent, target_is_directory=True)
    os.mkfifo(tmp_path / "tifs" / "pipe.tif")
    window = Window(row=0, col=0, height=60, width=60)
    for pattern in ("**/*.tif", "b/*.tif", "*/*.tif", "b/secret.tif"):
        spec = one_band(spec_of(tmp_path, pattern=pattern))
        try:
            assert not (await read(spec, context, window)).bands["height"].valid.any()
        except SourceRefusedError as error:
            assert "no file" in error.detail  # noqa: PT017 - one of the two


async def test_only_geotiffs_are_opened_whatever_their_name(tmp_path, context):
    write(tmp_path / "secret" / "a.tif", VALUES * 9, *HERE)
    write(tmp_path / "tifs" / "far.tif", VALUES, 505_000, 7_401_000, 10)
    vrt = f"""<VRTDataset rasterXSize="60" rasterYSize="60"><SRS>EPSG:32622</SRS>
<GeoTransform>500000,10,0,7405000,0,-10</GeoTransform>
<VRTRasterBand dataType="Float32" band="1"><SimpleSource>
<SourceFilename>{tmp_path}/secret/a.tif</SourceFilename>
</SimpleSource></VRTRasterBand></VRTDataset>"""
    (tmp_path / "tifs" / "vrt.tif").write_text(vrt)
    with pytest.raises(SourceCorruptError, match=r"vrt\.tif"):
        await read(one_band(spec_of(tmp_path)), context, Window(row=0, col=0, height=60, width=60))
    (tmp_path / "tifs" / "vrt.tif").unlink()
    (tmp_path / "tifs" / "far.tif.ovr").write_text(vrt)
    (tmp_path / "tifs" / "far.tif.msk").write_text(vrt)
    await read(one_band(spec_of(tmp_path)), context, Window(row=400, col=500, height=60, width=60))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": None}, ["'folder'", "missing"]),
        ({"folder": ""}, ["folder"]),
        ({"folders": "x"}, ["unknown key 'folders'", "folder"]),
        ({"pattern": "../*.tif"}, ["pattern", "out of the folder"]),
        ({"pattern": "/etc/*.tif"}, ["pattern", "out of the folder"]),
        ({"datetime": "tag"}, ["[time]", "come together"]),
    ],
)
def test_a_wrong_table_is_answered_with_the_key(tmp_path, context, change, said):
    with pytest.raises(ConfigurationError) as caught:
        create_source(spec_of(tmp_path, **change), context)
    for word in ["mine", *said]:
        assert word in f"{caught.value.detail} {caught.value.hint}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "come together"),
        ("mtime", "datetime"),
        ({"pattern": "("}, "regular expression"),
        ({"pattern": "x"}, "0 groups"),
        ({"pattern": "(a)(b)"}, "2 groups"),
        ({"format": "%Y"}, "datetime"),
    ],
)
def test_a_wrong_datetime_is_answered_with_the_key(tmp_path, context, given, said):
    with pytest.raises(ConfigurationError, match="datetime") as caught:
        create_source(timed(tmp_path, datetime=given), context)
    assert said in f"{caught.value.detail} {caught.value.hint}"


def test_where_a_relative_folder_lies(tmp_path, context, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for home, folder, root in [
        (tmp_path, "tifs", tmp_path / "tifs"),
        (None, "tifs", tmp_path / "tifs"),
        (tmp_path, "/data", "/data"),
        (tmp_path, "~/tifs", tmp_path / "home" / "tifs"),
    ]:
        spec = replace(spec_of(tmp_path, folder=folder), home=None if home is None else str(home))
        assert str(create_source(spec, context).folder.root) == str(root)


async def test_provenance_names_files_as_the_folder_does(folder, context):
    block = await read(one_band(spec_of(folder)), context, WINDOW)
    assert [origin.item for origin in block.provenance] == ["a.tif", "c.tif", "sub/b.tif"]
    assert all(str(folder) not in f"{origin.href}{origin.version}" for origin in block.provenance)
