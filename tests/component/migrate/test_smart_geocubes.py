"""Cubes laid out as smart-geocubes 0.1.6 does (core/accessor.py, core/backend.py), taken over."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter

import icechunk
import numpy as np
import odc.geo.xr
import pandas as pd
import pytest
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec

from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.errors import BadParameterError, DiskFullError, RepositoryForeignError
from icehouse_server.core.grid import Window
from icehouse_server.migrate.smart_geocubes.cube import SmartGeocube
from icehouse_server.migrate.smart_geocubes.importer import take_over
from icehouse_server.migrate.smart_geocubes.patches import SkipReason, collection_of
from icehouse_server.store import FolderLock, StoreSettings, inspect_repository
from support.stores import open_store

TILED = """
id = "heights"
title = "Heights"
license = "CC-BY-4.0"

[grid]
crs = "EPSG:3413"
resolution = 32
bounds = [-96, -96, 9696, 9696]
chunk = 32

[extent]
bbox = [-180.0, 0.0, 180.0, 90.0]
interval = ["2018-01-01T00:00:00Z", ".."]

[source]
type = "stac"
api = "https://stac.example/"
collection = "heights"

[source.tiling]
origin = [0, 0]
size = 3200
buffer = 96
rows = [1, 3]
columns = [1, 3]
item = "{row:02d}_{col:02d}"

[[bands]]
name = "dem"
dtype = "float32"
nodata = -9999.0
[bands.source]
asset = "dem"

[[bands]]
name = "datamask"
dtype = "uint8"
nodata = 0
[bands.source]
asset = "datamask"

[[bands]]
name = "count"
dtype = "uint8"
nodata = 0
[bands.source]
asset = "count"
"""
"""Tiles of 106 pixels, 100 apart, on 306 x 306 pixels; tile 03_01 is the top left one."""

CELLS = """
id = "trend-2019"
title = "Trend"
license = "CC-BY-4.0"

[grid]
crs = "EPSG:4326"
resolution = 0.5
bounds = [0, 0, 100, 50]
chunk = 16

[extent]
bbox = [-180.0, 0.0, 180.0, 90.0]
interval = ["2018-01-01T00:00:00Z", ".."]

[source]
type = "stac"
api = "https://stac.example/"
collection = "trend"

[[bands]]
name = "slope"
dtype = "uint8"
[bands.source]
asset = "slope"
"""
SHIFT = (7, 10)
"""Rows and columns by which the cube's corner lies above and left of the grid's."""
CHUNK = 90


@pytest.fixture
def tiled():
    return parse_collection(TILED, "heights.toml")


@pytest.fixture
def cells():
    return parse_collection(CELLS, "trend.toml")


class Cube:
    """A cube, made and filled with the calls that smart-geocubes makes."""

    def __init__(self, folder, title, geobox, bands, chunk, times=None):
        self.folder, self.geobox = folder, geobox
        storage = icechunk.local_filesystem_storage(str(folder))
        self.repository = icechunk.Repository.create(storage, spec_version=1)  # of icechunk 1
        session = self.repository.writable_session("main")
        zeros = {
            name: odc.geo.xr.xr_zeros(geobox, chunks=(-1, -1), dtype=dtype, always_yx=True)
            for name, dtype in bands.items()
        }
        dataset = xr.Dataset(zeros, attrs={"title": title, "loaded_patches": []})
        chunks = (chunk, chunk)
        if times is not None:
            dataset = dataset.expand_dims(time=times)
            chunks = (1, chunk, chunk)
        coordinates = [name for name in ("time", "y", "x") if name in dataset.coords]
        encoding = {
            "spatial_ref": {"chunks": None, "dtype": "int32"},
            **{name: {"chunks": dataset[name].shape, "compressors": [BloscCodec()]} for name in coordinates},
            **{
                name: {"chunks": chunks, "compressors": [BloscCodec()], "dtype": dtype}
                for name, dtype in bands.items()
            },
        }
        dataset.to_zarr(
            session.store,
            encoding=encoding,
            compute=False,
            consolidated=False,
            zarr_format=3,
            mode="w-",
        )
        session.commit("Initialize empty datacube")

    def write(self, patch, window, values, *, time=None):
        """Write a patch as smart-geocubes does: NaN leaves what is there, anything else overwrites it."""
        session = self.repository.writable_session("main")
        group = zarr.open_group(session.store, mode="r+")
        place = (slice(window.row, window.stop_row), slice(window.col, window.stop_col))
        place = place if time is None else (time, *place)
        for name, data in values.items():
            mask = np.isnan(data)
            if mask.any():
                data[mask] = group[name][place][mask]
            group[name][place] = data
        self.mark(group, patch)
        session.commit(f"Write patch {patch}")

    @staticmethod
    def mark(group, patch):
        group.attrs["loaded_patches"] = [*group.attrs["loaded_patches"], patch]

    def lose(self, *keys):
        """Take chunks away, as a lost commit of another process does."""
        session = self.repository.writable_session("main")

        async def delete():
            for key in keys:
                await session.store.delete(key)

        asyncio.run(delete())
        session.commit("lost")


def truth(name, row, col):
    """What the source says at rows and columns of the collection's grid, which are arrays."""
    if name == "dem":
        return (row * 1000 + col).astype(np.float32)
    return np.ones(np.broadcast(row, col).shape, bool)


def truth_of(name, window):
    rows, cols = np.mgrid[window.row : window.stop_row, window.col : window.stop_col]
    return truth(name, rows, cols)


def tile_window(row, col):
    """Pixels of the grid under a tile, counted from 1, south to north."""
    return Window(row=300 - 100 * row, col=100 * (col - 1), height=106, width=106)


def on_cube(window):
    return Window(
        row=window.row + SHIFT[0], col=window.col + SHIFT[1], height=window.height, width=window.width
    )


def make_heights(folder, tiles, *, damage=None):
    """A cube of heights with these tiles loaded; `damage` changes a tile's pixels before they are written."""
    left, top = -96 - 32 * SHIFT[1], 9696 + 32 * SHIFT[0]
    geobox = GeoBox.from_bbox((left, -352, 10016, top), "EPSG:3413", resolution=32)
    cube = Cube(folder, "Heights", geobox, {"dem": "float32", "datamask": "bool"}, CHUNK)
    for row, col in tiles:
        window = tile_window(row, col)
        values = {name: truth_of(name, window) for name in ("dem", "datamask")}
        if damage is not None:
            damage((row, col), values)
        cube.write(f"{row:02d}_{col:02d}", on_cube(window), values)
    return cube


async def run(folder, spec, cache, pool, **more):
    cube = await SmartGeocube.open(folder, pool)
    async with open_store(cache, [spec], StoreSettings(decoded_cache_bytes=10**6), pool=pool) as store:
        index = store.collections[spec.id].index
        return await take_over(
            cube, spec, index, pool=pool, store=store, **{"progress": lambda *_: None, **more}
        )


def stored(cache, name):
    """Band of a repository: {(row, col) or (time, row, col): pixels}."""
    repository = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(cache / "collections" / name))
    )
    session = repository.readonly_session("main")
    group = zarr.open_group(session.store, mode="r")

    async def places(band):
        return [tuple(place) async for place in session.chunk_coordinates(f"/{band}")]

    bands = [band for band, array in group.arrays() if array.ndim > 1]
    return {
        band: {place: group[band].get_block_selection(place) for place in asyncio.run(places(band))}
        for band in bands
    }


def alone(row, col):
    """Whether chunk (row, col) lies in one tile and touches no other, said anew from the numbers above."""
    edges = {(first, last) for k in range(3) for first, last in [(100 * k, 100 * k + 106)]}
    inside = []
    for place in (row, col):
        start, stop = 32 * place, min(32 * place + 32, 306)
        touched = [edge for edge in edges if start < edge[1] and stop > edge[0]]
        inside.append(len(touched) == 1)
    return all(inside)


def chunks_of(row, col):
    """Chunks that lie in one tile alone."""
    window = tile_window(row, col)
    return {
        (r, c)
        for r in range(10)
        for c in range(10)
        if alone(r, c)
        and window.row <= 32 * r
        and min(32 * r + 32, 306) <= window.stop_row
        and window.col <= 32 * c
        and min(32 * c + 32, 306) <= window.stop_col
    }


async def test_what_is_sure_is_taken_and_equals_the_source(tmp_path, tiled, pool):
    await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1), (2, 1), (1, 3)])
    report = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    wanted = chunks_of(3, 1) | chunks_of(2, 1) | chunks_of(1, 3)
    assert len(wanted) > 10
    found = await asyncio.to_thread(stored, tmp_path / "cache", "heights")
    for band in ("dem", "datamask"):
        assert set(found[band]) == wanted
        for (row, col), pixels in found[band].items():
            window = tiled.grid.chunk_window(row, col)
            np.testing.assert_array_equal(pixels, truth_of(band, window))
        assert report.bands[band].taken == len(wanted)
    assert not found["count"]
    assert report.lacking == ("count",)
    assert report.patches == 3
    assert not report.unplaced
    left = report.bands["dem"].left
    touched = {
        (r, c)
        for r in range(10)
        for c in range(10)
        for tile in (tile_window(3, 1), tile_window(2, 1), tile_window(1, 3))
        if tiled.grid.chunk_window(r, c).intersection(tile)
    }
    assert set(left) == {SkipReason.OVERLAP}
    assert left.total() == len(touched) - len(wanted)


async def test_second_run_imports_nothing_and_keeps_existing_chunks(tmp_path, tiled, pool):
    await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1)])
    first = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    again = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    assert first.taken > 0
    assert again.taken == 0
    assert again.bands["dem"].left[SkipReason.CACHED] == first.bands["dem"].taken


async def test_interrupted_run_keeps_its_commits_and_the_next_goes_on(tmp_path, tiled, pool, monkeypatch):
    monkeypatch.setattr("icehouse_server.migrate.smart_geocubes.importer._GROUP_CHUNKS", 2)
    await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1), (1, 3)])

    def end_it(done, cells_of_cube):
        if 2 * done > cells_of_cube:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run(tmp_path / "cube", tiled, tmp_path / "cache", pool, progress=end_it)
    kept = await asyncio.to_thread(stored, tmp_path / "cache", "heights")
    wanted = chunks_of(3, 1) | chunks_of(1, 3)
    assert 0 < len(kept["dem"]) < len(wanted)
    report = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    assert report.bands["dem"].left[SkipReason.CACHED] == len(kept["dem"])
    found = await asyncio.to_thread(stored, tmp_path / "cache", "heights")
    assert set(found["dem"]) == wanted


@pytest.mark.parametrize("hole", [np.nan, -9999.0])
async def test_a_chunk_with_a_pixel_without_a_value_is_left(tmp_path, tiled, pool, hole):
    spoilt = next(iter(sorted(chunks_of(3, 1))))
    window = tiled.grid.chunk_window(*spoilt)

    def damage(_, values):
        values["dem"][window.row + 3 - tile_window(3, 1).row, window.col + 4] = hole

    await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1)], damage=damage)
    report = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    found = await asyncio.to_thread(stored, tmp_path / "cache", "heights")
    assert set(found["dem"]) == chunks_of(3, 1) - {spoilt}
    assert set(found["datamask"]) == chunks_of(3, 1)
    assert report.bands["dem"].left[SkipReason.HOLE] == 1


async def test_of_a_patch_that_is_marked_but_lost_nothing_is_taken(tmp_path, tiled, pool):
    cube = await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1), (1, 3)])
    await asyncio.to_thread(cube.lose, "dem/c/0/0", "dem/c/0/1", "dem/c/1/0", "dem/c/1/1")
    report = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    found = await asyncio.to_thread(stored, tmp_path / "cache", "heights")
    assert set(found["dem"]) == chunks_of(1, 3)
    assert report.bands["dem"].left[SkipReason.MISSING] == len(chunks_of(3, 1))
    assert set(found["datamask"]) == chunks_of(3, 1) | chunks_of(1, 3)


async def test_band_with_failed_write_of_a_marked_patch_is_skipped(tmp_path, tiled, pool):
    """Of smart-geocubes before 0.1.6: chunks exist through the neighbour, and hold what was never written."""
    cube = await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1)])
    window = tile_window(2, 1)
    values = {"datamask": truth_of("datamask", window)}
    await asyncio.to_thread(cube.write, "02_01", on_cube(window), values)
    report = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    found = await asyncio.to_thread(stored, tmp_path / "cache", "heights")
    assert set(found["dem"]) == chunks_of(3, 1)
    assert set(found["datamask"]) == chunks_of(3, 1) | chunks_of(2, 1)
    left = report.bands["dem"].left
    assert left[SkipReason.MISSING] + left[SkipReason.HOLE] == len(chunks_of(2, 1))


async def test_a_chunk_of_the_cube_that_does_not_decode_is_left(tmp_path, tiled, pool):
    await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1)])
    for file in (tmp_path / "cube" / "chunks").iterdir():
        file.write_bytes(b"\0" * file.stat().st_size)
    report = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    assert report.taken < 2 * len(chunks_of(3, 1))
    assert report.bands["dem"].left[SkipReason.DAMAGED] > 0


async def test_ids_that_say_no_place_are_named(tmp_path, tiled, pool):
    cube = await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1)])
    await asyncio.to_thread(cube.write, "elsewhere", Window(row=0, col=0, height=1, width=1), {})
    report = await run(tmp_path / "cube", tiled, tmp_path / "cache", pool)
    assert report.unplaced == ("elsewhere",)
    assert report.bands["dem"].taken == len(chunks_of(3, 1))


def make_trend(folder, title, *, dtype="uint8", times=None):
    geobox = GeoBox.from_bbox((-5, -10, 105, 60), "EPSG:4326", resolution=0.5)
    return Cube(folder, title, geobox, {"slope": dtype}, 40, times)


def slopes(window, low=1):
    rows, cols = np.mgrid[window.row : window.stop_row, window.col : window.stop_col]
    return (rows * 7 + cols) % 200 + low


async def test_cells_of_the_cube_that_lie_together_are_one_patch(tmp_path, cells, pool):
    cube = make_trend(tmp_path / "cube", "TCTrend2019")
    for row, col in [(1, 1), (1, 2), (2, 4)]:
        window = Window(row=40 * row, col=40 * col, height=40, width=40)
        cube.write(f"{row}-{col}", window, {"slope": slopes(window).astype("uint8")})
    report = await run(tmp_path / "cube", cells, tmp_path / "cache", pool)
    assert report.invented
    found = (await asyncio.to_thread(stored, tmp_path / "cache", "trend-2019"))["slope"]
    covered = np.zeros((140, 220), bool)
    covered[40:80, 40:120] = covered[80:120, 160:200] = True
    covered = covered[20:120, 10:210]
    wanted = {
        (r, c)
        for r in range(7)
        for c in range(13)
        if covered[16 * r : min(16 * r + 16, 100), 16 * c : min(16 * c + 16, 200)].all()
    }
    assert set(found) == wanted
    assert len(wanted) > 6
    for (row, col), pixels in found.items():
        window = cells.grid.chunk_window(row, col)
        shifted = Window(row=window.row + 20, col=window.col + 10, height=window.height, width=window.width)
        np.testing.assert_array_equal(pixels, slopes(shifted))


async def test_unwritten_part_of_a_partly_written_cell_is_skipped(tmp_path, cells, pool):
    cube = make_trend(tmp_path / "cube", "TCTrend2019")
    part = Window(row=40, col=40, height=40, width=30)  # chunk (2, 3) reaches beyond it
    cube.write("1-1", part, {"slope": slopes(part).astype("uint8")})
    report = await run(tmp_path / "cube", cells, tmp_path / "cache", pool)
    found = (await asyncio.to_thread(stored, tmp_path / "cache", "trend-2019"))["slope"]
    assert set(found) == {(2, 2)}
    assert report.bands["slope"].left[SkipReason.HOLE] == 1


async def test_values_that_the_band_can_not_hold_are_not_bent(tmp_path, cells, pool):
    cube = make_trend(tmp_path / "cube", "TCTrend2019", dtype="int16")
    window = Window(row=40, col=40, height=40, width=40)
    cube.write("1-1", window, {"slope": slopes(window, low=200).astype("int16")})
    report = await run(tmp_path / "cube", cells, tmp_path / "cache", pool)
    assert report.bands["slope"].left[SkipReason.MISFIT] > 0
    found = (await asyncio.to_thread(stored, tmp_path / "cache", "trend-2019"))["slope"]
    assert all((pixels <= 255).all() for pixels in found.values())


async def test_steps_meet_by_the_moment_they_start(tmp_path, pool):
    text = CELLS.replace(
        "[source]", '[time]\nsteps = [["2018", "2019"], ["2019", "2020"], ["2021", "2022"]]\n\n[source]'
    )
    spec = parse_collection(text, "years.toml")
    times = pd.date_range("2017-01-01", "2020-01-01", freq="YS")
    cube = make_trend(tmp_path / "cube", "Embeddings", times=times)
    window = Window(row=40, col=40, height=40, width=40)
    for number in range(4):
        cube.write(f"{number}-1-1", window, {"slope": (slopes(window) + number).astype("uint8")}, time=number)
    report = await run(tmp_path / "cube", spec, tmp_path / "cache", pool)
    assert report.unplaced == ("0-1-1", "3-1-1"), "2017 and 2020 are no steps of the collection"
    found = (await asyncio.to_thread(stored, tmp_path / "cache", "trend-2019"))["slope"]
    assert Counter(place[0] for place in found) == Counter({0: 2, 1: 2})
    for (time, row, col), pixels in found.items():
        part = spec.grid.chunk_window(row, col)
        shifted = Window(row=part.row + 20, col=part.col + 10, height=16, width=16)
        np.testing.assert_array_equal(pixels.reshape(16, 16), slopes(shifted) + time + 1)


async def test_the_title_says_the_collection_or_the_caller_must(tmp_path, tiled, cells, pool):
    make_trend(tmp_path / "named", "TCTrend2019")
    make_trend(tmp_path / "vague", "TCTrend")
    spec = parse_collection(CELLS.replace("trend-2019", "tctrend-2019"), "t.toml")
    named = await SmartGeocube.open(tmp_path / "named", pool)
    assert collection_of(named, [tiled, spec]) is spec
    vague = await SmartGeocube.open(tmp_path / "vague", pool)
    with pytest.raises(BadParameterError, match="TCTrend") as refused:
        collection_of(vague, [tiled, cells])
    assert "trend-2019" in refused.value.hint
    assert "heights" not in refused.value.hint
    with pytest.raises(BadParameterError, match="same grid"):
        await take_over(
            vague, tiled, await inspect_repository(tiled, tmp_path / "none", pool), pool=pool, progress=print
        )


async def test_what_is_no_cube_is_refused(tmp_path, pool):
    with pytest.raises(RepositoryForeignError, match="not an Icechunk repository"):
        await SmartGeocube.open(tmp_path / "nothing", pool)
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "empty")))
    with pytest.raises(RepositoryForeignError, match="never created"):
        await SmartGeocube.open(tmp_path / "empty", pool)
    other = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "other")))
    session = other.writable_session("main")
    zarr.create_group(session.store)
    session.commit("a group")
    with pytest.raises(RepositoryForeignError, match="no cube"):
        await SmartGeocube.open(tmp_path / "other", pool)


async def test_the_disk_is_not_filled(tmp_path, tiled, pool):
    await asyncio.to_thread(make_heights, tmp_path / "cube", [(3, 1)])
    with pytest.raises(DiskFullError, match="disk_floor"):
        await run(tmp_path / "cube", tiled, tmp_path / "cache", pool, disk_floor=2**60)


def command(folder, cache, *words):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ICEHOUSE_")}
    return subprocess.run(
        [
            *(sys.executable, "-m", "icehouse_server", "import-smart-geocubes"),
            *(str(folder), "--cache-dir", str(cache), *words),
        ],
        env={**kept, "ICEHOUSE_COLLECTIONS_DIR": str(folder.parent), "HOME": str(folder.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_the_command_line(tmp_path):
    make_heights(tmp_path / "cube", [(3, 1)])
    before = {path: path.read_bytes() for path in (tmp_path / "cube").rglob("*") if path.is_file()}
    (tmp_path / "heights.toml").write_text(TILED)
    cache = tmp_path / "cache"
    vague = command(tmp_path / "cube", cache)
    assert vague.returncode == 1
    assert "--collection" in vague.stderr
    assert "heights" in vague.stderr
    dry = command(tmp_path / "cube", cache, "--collection", "heights", "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert not cache.exists(), "a dry run leaves nothing behind"
    lock = FolderLock(cache)
    lock.acquire()
    held = command(tmp_path / "cube", cache, "--collection", "heights")
    assert held.returncode == 1
    assert "another Icehouse daemon" in held.stderr
    lock.release()
    done = command(tmp_path / "cube", cache, "--collection", "heights", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == {**json.loads(dry.stdout), "dry_run": False}
    assert report["bands"]["dem"]["taken"] == len(chunks_of(3, 1)) == len(stored(cache, "heights")["dem"])
    reported = command(tmp_path / "cube", cache, "--collection", "heights", "--dry-run")
    assert "left: cached already" in reported.stdout
    after = {path: path.read_bytes() for path in (tmp_path / "cube").rglob("*") if path.is_file()}
    assert after == before, "the cube is only read"
