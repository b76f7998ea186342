"""One collection's repository on a real folder: what is written, read, leased, damaged and refused."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import icechunk
import numpy as np
import pytest
import rioxarray  # noqa: F401 - the accessor
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import RepositoryForeignError, StoreError, UnknownSnapshotError
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import FilledChunk, Provenance
from icehouse_server.store import (
    CollectionStore,
    DamagedChunksError,
    DecodedCache,
    SidecarDb,
    Store,
    StoreSettings,
)
from icehouse_server.store.disk_quota import DiskQuota
from icehouse_server.store.repository.index import Index
from icehouse_server.store.repository.resources import StoreResources
from icehouse_server.store.usage import Usage
from icehouse_server.testing.fakes import Truth, tiny_spec
from support.stores import open_store

SPEC = tiny_spec(chunk=32)  # noise of 32 x 32 float32 is too long to be stored inline
DEM, MASK = SPEC.bands
WHOLE = SPEC.grid.window


@asynccontextmanager
async def opened(folder, pool, spec=SPEC, decoded=None):
    notes = SidecarDb(Path(":memory:"), pool)
    shared = StoreResources(
        decoded=DecodedCache(10**8) if decoded is None else decoded,
        pool=pool,
        room=DiskQuota(None),
        usage=Usage(notes),
        write_timeout=30,
    )
    try:
        store = await CollectionStore.open(spec, folder, shared)
        try:
            yield store
        finally:
            await store.close()
    finally:
        notes.close()


def filled(row, col, band=DEM, *, seed=0, spec=SPEC, void=False):
    """A chunk of noise (or of nothing), cut at the grid's edge as the downloads cut it."""
    size = spec.grid.chunk
    values = np.full((size, size), band.fill, dtype=band.dtype)
    if not void:
        area = spec.grid.chunk_window(row, col)
        noise = np.random.default_rng([seed, row, col]).integers(1, 250, (area.height, area.width))
        values[: area.height, : area.width] = noise * (1.37 if band.dtype.kind == "f" else 1)
    source = () if void else (Provenance(item=f"scene-{seed}", href="", version=""),)
    return FilledChunk(key=spec.key(band.name, row, col), values=values, void=void, provenance=source)


async def read(store, window=WHOLE, band=DEM, keys=None, snapshot=None):
    under = store.spec.grid.chunks_under(window)
    if keys is None:
        keys = [
            store.spec.key(band.name, row, col)
            for row in range(under.row, under.stop_row)
            for col in range(under.col, under.stop_col)
            if store.index.has(store.spec.key(band.name, row, col))
        ]
    async with store.lease(snapshot) as lease:
        return await store.read(lease, band, window, keys)


def mosaic(chunks, band=DEM, spec=SPEC):
    """What the whole grid must read as."""
    rows, cols = spec.grid.shape
    out = np.full((rows, cols), band.fill, dtype=band.dtype)
    for chunk in chunks:
        area = spec.grid.chunk_window(chunk.key.row, chunk.key.col)
        out[area.slices(spec.grid.window)] = chunk.values[: area.height, : area.width]
    return out


def fingerprint(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def chunk_files(folder):
    return sorted(path for path in (folder / "chunks").rglob("*") if path.is_file())


# Reading and writing


async def test_windows_read_back_what_was_committed(tmp_path, pool):
    chunks = [filled(row, col) for row in range(5) for col in range(7) if (row + col) % 3]
    truth = mosaic(chunks)
    async with opened(tmp_path / "a", pool) as store:
        await store.commit(tuple(chunks))
        for window in (
            WHOLE,
            Window(row=31, col=31, height=2, width=2),
            Window(row=149, col=0, height=1, width=200),
        ):
            got = await read(store, window)
            np.testing.assert_array_equal(got, truth[window.slices(WHOLE)])
            assert got.dtype == DEM.dtype
            assert got.flags.c_contiguous
            assert got.flags.writeable
    async with opened(tmp_path / "a", pool) as store:  # from disk now
        np.testing.assert_array_equal(await read(store), truth)


async def test_an_answer_may_be_written_to_without_harm_to_the_cache(tmp_path, pool):
    chunk = filled(0, 0)
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((chunk,))
        area = SPEC.grid.chunk_window(0, 0)
        (await read(store, area))[...] = 0
        np.testing.assert_array_equal(await read(store, area), chunk.values)


async def test_a_chunk_that_the_snapshot_lacks_is_named_and_never_fill(tmp_path, pool):
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((filled(0, 0),))
        keys = [SPEC.key("dem", 0, 0), SPEC.key("dem", 0, 1)]
        with pytest.raises(DamagedChunksError) as caught:
            await read(store, Window(row=0, col=0, height=4, width=40), keys=keys)
        assert caught.value.keys == (keys[1],)


@settings(max_examples=12)
@given(
    members=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 6), st.booleans(), st.integers(0, 1)),
        max_size=12,
        unique_by=lambda m: (m[0], m[1], m[3]),
    ),
    cuts=st.integers(1, 4),
)
async def test_the_index_is_what_the_repository_says(tmp_path_factory, pool, members, cuts):
    folder = tmp_path_factory.mktemp("index") / "a"
    chunks = [filled(row, col, SPEC.bands[band], void=void) for row, col, void, band in members]
    async with opened(folder, pool) as store:
        await asyncio.gather(*(store.commit(tuple(chunks[i::cuts])) for i in range(cuts) if chunks[i::cuts]))
        async with store.lease() as lease:
            fresh = await Index.load(SPEC, lease.session)
        for band in SPEC.bands:
            assert set(fresh._present[0, band.name, None]) == set(store.index._present[0, band.name, None])
            expected = {(c.key.row, c.key.col) for c in chunks if c.key.band == band.name}
            assert set(fresh._present[0, band.name, None]) == expected
        assert {c.key for c in chunks if store.index.is_void(c.key)} == {c.key for c in chunks if c.void}


async def test_void_chunks_make_no_file_and_are_known_after_a_restart(tmp_path, pool):
    voids = [filled(row, col, band, void=True) for row in range(5) for col in range(7) for band in SPEC.bands]
    keys = [chunk.key for chunk in voids]
    async with opened(tmp_path / "a", pool) as store:
        await store.commit(tuple(voids))
        assert await store.void_scan.count(keys) == len(keys)
        assert chunk_files(tmp_path / "a") == []
        await store.commit((filled(0, 0),))
        assert len(chunk_files(tmp_path / "a")) == 1
        assert await store.void_scan.count(keys) == len(keys) - 1
    decoded = DecodedCache(10**8)
    async with opened(tmp_path / "a", pool, decoded=decoded) as store:
        assert not any(store.index.is_void(key) for key in keys)
        assert (await read(store, SPEC.grid.chunk_window(1, 1)) == DEM.fill).all()
        assert store.index.is_void(SPEC.key("dem", 1, 1)), "noted when it was read"
        assert decoded.bytes < 2000, "and held in no memory"
        assert await store.void_scan.count(keys) == len(keys) - 1, (
            "the others are examined when they are asked for"
        )


async def test_a_band_without_nodata_has_zeros_that_are_values(tmp_path, pool):
    spec = tiny_spec(chunk=32, bands=(BandSpec(name="n", dtype=np.dtype("uint8"), nodata=None),))
    zeros = FilledChunk(
        key=spec.key("n", 0, 0), values=np.zeros((32, 32), np.uint8), void=False, provenance=()
    )
    async with opened(tmp_path / "a", pool, spec=spec) as store:
        await store.commit((zeros,))
    async with opened(tmp_path / "a", pool, spec=spec) as store:
        assert await store.void_scan.count([zeros.key]) == 0


# Snapshots and leases


async def test_a_pinned_snapshot_reads_what_it_held_after_new_commits(tmp_path, pool):
    first, second, third = filled(0, 0), filled(0, 1), filled(0, 0, seed=9)
    area = Window(row=0, col=0, height=32, width=64)
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((first,))
        old = store.snapshot
        async with store.lease() as lease:
            await store.commit((second,))
            await store.commit((third,))  # the same chunk fetched again
            assert lease.snapshot == old != store.snapshot
            assert await store.absent(lease, [second.key]) in {(), (second.key,)}
        np.testing.assert_array_equal(await read(store, area), mosaic([third, second])[:32, :64])
        past = await read(store, SPEC.grid.chunk_window(0, 0), keys=[first.key], snapshot=old)
        np.testing.assert_array_equal(past, first.values)
        async with store.lease(old) as lease:
            assert await store.absent(lease, [first.key, second.key]) == (second.key,)


async def test_a_lease_that_others_overtook_still_reads_one_snapshot(tmp_path, pool):
    """A chunk that is fetched again while a lease is held must not show its new pixels under the old name."""
    first, again = filled(0, 0), filled(0, 0, seed=9)
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((first,))
        async with store.lease() as lease:
            await store.commit((again,))
            got = await store.read(lease, DEM, SPEC.grid.chunk_window(0, 0), [first.key])
            np.testing.assert_array_equal(got, first.values)
        np.testing.assert_array_equal(await read(store, SPEC.grid.chunk_window(0, 0)), again.values)


async def test_a_lease_that_others_overtook_knows_what_it_lacks(tmp_path, pool):
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((filled(0, 0),))
        async with store.lease() as lease:
            await store.commit((filled(0, 1),))
            assert await store.absent(lease, [SPEC.key("dem", 0, 1)]) == (SPEC.key("dem", 0, 1),)


async def test_leases_are_counted_also_when_their_holder_fails(tmp_path, pool):
    async with opened(tmp_path / "a", pool) as store:
        async with store.lease(), store.lease(store.snapshot):
            assert store.leases == 2

        async def fail():
            async with store.lease():
                assert store.leases == 1
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert store.leases == 0
        assert not store._leases._held


@pytest.mark.parametrize("name", ["nope", "0000000000000000000G", "../x", "", "main"])
async def test_an_unknown_snapshot_is_named(tmp_path, pool, name):
    async with opened(tmp_path / "a", pool) as store:
        with pytest.raises(UnknownSnapshotError):
            async with store.lease(name):
                pass
        assert store.leases == 0


async def test_a_tag_names_a_snapshot(tmp_path, pool):
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((filled(0, 0),))
        store.head.repository.create_tag("v1", store.snapshot)
        async with store.lease("v1") as lease:
            assert lease.snapshot == store.snapshot


# Damage


@pytest.mark.parametrize("how", ["flip", "cut", "delete", "empty"])
async def test_a_damaged_chunk_file_is_absent_not_wrong(tmp_path, pool, how):
    chunks = [filled(0, col) for col in range(3)]
    async with opened(tmp_path / "a", pool) as store:
        for chunk in chunks:
            await store.commit((chunk,))
    files = chunk_files(tmp_path / "a")
    assert len(files) == 3
    for file in files:
        if how == "flip":
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 16
            file.write_bytes(bytes(data))
        elif how == "delete":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: 100 if how == "cut" else 0])
    keys = tuple(chunk.key for chunk in chunks)
    area = Window(row=0, col=0, height=32, width=96)
    async with opened(tmp_path / "a", pool) as store:
        with pytest.raises(DamagedChunksError) as caught:
            await read(store, area)
        assert set(caught.value.keys) == set(keys)
        store.forget(caught.value.keys)
        assert not any(store.index.has(key) for key in keys)
        await store.commit(tuple(chunks))
        np.testing.assert_array_equal(await read(store, area), mosaic(chunks)[:32, :96])


async def test_forgotten_chunks_leave_the_cache_of_decoded_ones(tmp_path, pool):
    decoded = DecodedCache(10**8)
    async with opened(tmp_path / "a", pool, decoded=decoded) as store:
        await store.commit((filled(0, 0), filled(0, 1)))
        assert len(decoded) == 2
        store.forget([SPEC.key("dem", 0, 0)])
        assert len(decoded) == 1


async def test_read_begun_before_a_chunk_was_dropped_restores_nothing(tmp_path, pool):
    void = filled(0, 0, void=True)
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((void,))
    async with opened(tmp_path / "a", pool) as store, store.lease() as lease:
        reading = asyncio.ensure_future(store.read(lease, DEM, SPEC.grid.chunk_window(0, 0), [void.key]))
        await asyncio.sleep(0)
        store.forget([void.key])
        await reading
        assert not store.index.has(void.key)


# The repository as others see it


async def test_xarray_opens_the_repository(tmp_path, pool):
    chunks = [filled(row, col, band) for row in range(5) for col in range(6) for band in SPEC.bands]
    async with opened(tmp_path / "a", pool) as store:
        await store.commit(tuple(chunks))
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path / "a")))
    dataset = xr.open_zarr(repository.readonly_session("main").store, consolidated=False, chunks=None)
    assert set(dataset.data_vars) == {"dem", "mask"}
    raw = mosaic([c for c in chunks if c.key.band == "dem"])
    np.testing.assert_array_equal(dataset.dem.to_numpy(), np.where(raw == DEM.nodata, np.nan, raw))
    counts = mosaic([c for c in chunks if c.key.band == "mask"], MASK)
    np.testing.assert_array_equal(
        dataset.mask.to_numpy(), np.where(counts == 0, np.nan, counts.astype("float32"))
    )
    rows, cols = SPEC.grid.shape
    affine = SPEC.grid.geobox.affine
    np.testing.assert_array_equal(dataset.x, [(affine * (col + 0.5, 0.5))[0] for col in range(cols)])
    np.testing.assert_array_equal(dataset.y, [(affine * (0.5, row + 0.5))[1] for row in range(rows)])
    assert dataset.rio.crs.to_epsg() == 3413
    assert dataset.rio.transform() == affine
    assert dataset.dem.attrs["units"] == "m"


async def test_a_cube_in_degrees_says_so(tmp_path, pool):
    spec = tiny_spec(crs="EPSG:4326", resolution=0.001)
    async with opened(tmp_path / "a", pool, spec=spec):
        pass
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(tmp_path / "a")))
    dataset = xr.open_zarr(repository.readonly_session("main").store, consolidated=False, chunks=None)
    assert dataset.x.attrs["units"] == "degrees_east"
    assert dataset.rio.crs.to_epsg() == 4326


# Other people's folders


async def refused(folder, pool, spec=SPEC, error=RepositoryForeignError):
    before = fingerprint(folder)
    with pytest.raises(error) as caught:
        async with opened(folder, pool, spec=spec):
            pass
    assert fingerprint(folder) == before, "byte for byte as it was"
    return caught.value


async def test_a_folder_that_is_no_repository_is_left_alone(tmp_path, pool):
    folder = tmp_path / "a"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "cat.jpg").write_bytes(b"meow")
    assert "not a repository" in (await refused(folder, pool)).detail


@pytest.mark.parametrize("root", ["group", "array", "nothing"])
async def test_a_repository_of_another_program_is_left_alone(tmp_path, pool, root):
    folder = tmp_path / "a"
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)))
    session = repository.writable_session("main")
    if root == "group":
        zarr.create_group(session.store, attributes={"mine": 1})
    elif root == "array":
        zarr.create_array(session.store, shape=(2,), dtype="u1")
    session.commit("mine", allow_empty=True)
    assert "not written by Icehouse" in (await refused(folder, pool)).detail


async def ours(folder, pool, spec=SPEC):
    async with opened(folder, pool, spec=spec) as store:
        await store.commit((filled(0, 0, spec.bands[0], spec=spec),))


async def test_a_later_layout_is_left_alone(tmp_path, pool):
    folder = tmp_path / "a"
    await ours(folder, pool)
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))
    session = repository.writable_session("main")
    root = zarr.open_group(session.store)
    root.attrs["icehouse"] = {**root.attrs["icehouse"], "layout": 2}
    session.commit("from the future")
    assert "layout 2" in (await refused(folder, pool)).detail


@pytest.mark.parametrize(
    "change",
    [{"rows": 151}, {"cols": 201}, {"chunk": 16}, {"resolution": 32.5}, {"crs": "EPSG:3995"}, {"name": "b"}],
)
async def test_another_grid_is_refused(tmp_path, pool, change):
    await ours(tmp_path / "a", pool)
    error = await refused(tmp_path / "a", pool, tiny_spec(**{"chunk": 32, **change}))
    assert "untouched" in error.detail
    assert error.hint


@pytest.mark.parametrize("change", [{"dtype": np.dtype("float64")}, {"nodata": -1.0}, {"nodata": None}])
async def test_another_dtype_or_nodata_is_refused(tmp_path, pool, change):
    await ours(tmp_path / "a", pool)
    other = (dataclasses.replace(DEM, **change), MASK)
    assert "'dem'" in (await refused(tmp_path / "a", pool, tiny_spec(chunk=32, bands=other))).detail


async def test_nodata_that_equals_the_fill_of_none_is_another_nodata(tmp_path, pool):
    """Without nodata a 0 is a value; with nodata 0 it is not: stored chunks do not tell which was meant."""
    plain = BandSpec(name="n", dtype=np.dtype("uint8"), nodata=None)
    await ours(tmp_path / "a", pool, tiny_spec(chunk=32, bands=(plain,)))
    changed = tiny_spec(chunk=32, bands=(dataclasses.replace(plain, nodata=0),))
    await refused(tmp_path / "a", pool, changed)


async def test_floats_that_were_stored_with_0_for_holes_are_refused(tmp_path, pool):
    """So were bands without nodata before they had NaN: a 0 that is stored may be a hole or a height."""
    plain = BandSpec(name="n", dtype=np.dtype("float32"), nodata=None)
    before = dataclasses.replace(plain)
    object.__setattr__(before, "nodata", None)
    await ours(tmp_path / "a", pool, tiny_spec(chunk=32, bands=(before,)))
    error = await refused(tmp_path / "a", pool, tiny_spec(chunk=32, bands=(plain,)))
    assert "'n'" in error.detail


async def test_a_band_gained_later_is_added_and_the_rest_stays(tmp_path, pool):
    chunk = filled(1, 1)
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((chunk,))
    slope = BandSpec(name="slope", dtype=np.dtype("int16"), nodata=-1)
    spec = tiny_spec(chunk=32, bands=(*SPEC.bands, slope))
    async with opened(tmp_path / "a", pool, spec=spec) as store:
        np.testing.assert_array_equal(await read(store, SPEC.grid.chunk_window(1, 1)), chunk.values)
        await store.commit((filled(2, 2, slope, spec=spec),))
        assert (await read(store, SPEC.grid.chunk_window(2, 2), slope) != -1).all()
    async with opened(tmp_path / "a", pool) as store:  # and the older file works on
        np.testing.assert_array_equal(await read(store, SPEC.grid.chunk_window(1, 1)), chunk.values)


async def test_a_daemon_killed_while_it_creates_a_repository_recovers(tmp_path, pool):
    half = tmp_path / ".a.creating"
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(half)))
    await ours(tmp_path / "a", pool)
    assert not half.exists()


async def test_an_empty_repository_of_somebody_else_is_refused(tmp_path, pool):
    icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "a")))
    await refused(tmp_path / "a", pool)


async def test_a_file_in_the_folders_place_is_named(tmp_path, pool):
    (tmp_path / "a").write_text("not a folder")
    with pytest.raises(StoreError, match="tiny"):
        async with opened(tmp_path / "a", pool):
            pass
    assert (tmp_path / "a").read_text() == "not a folder"


async def test_a_damaged_repository_is_named_with_what_to_do(tmp_path, pool):
    await ours(tmp_path / "a", pool)
    for path in (tmp_path / "a" / "snapshots").iterdir():
        path.write_bytes(b"\0" * 50)
    error = await refused(tmp_path / "a", pool, error=StoreError)
    assert "tiny" in error.detail
    assert "move" in error.hint


async def test_several_collections_open_and_close_together(tmp_path, pool):
    specs = [tiny_spec(name, chunk=32) for name in ("one", "two")]
    async with open_store(tmp_path, specs, StoreSettings(decoded_cache_bytes=10**7), pool=pool) as store:
        await store.collections["one"].commit((filled(0, 0, spec=specs[0]),))
        assert store.collections["one"].index.has(specs[0].key("dem", 0, 0))
        assert len(store.collections["two"].index) == 0
        await asyncio.gather(store.close(), store.close())
    assert not any(c.writer.alive for c in store.collections.values())


async def test_unreadable_repository_is_set_aside_and_the_rest_served(tmp_path, pool):
    (tmp_path / "collections" / "two").mkdir(parents=True)
    (tmp_path / "collections" / "two" / "x").touch()
    async with open_store(
        tmp_path, [tiny_spec("one"), tiny_spec("two")], StoreSettings(decoded_cache_bytes=0), pool=pool
    ) as store:
        assert list(store.collections) == ["one"]
        assert isinstance(store.set_aside["two"], RepositoryForeignError)


async def test_a_start_that_is_broken_off_closes_what_was_opened(tmp_path, pool, monkeypatch):
    before = {task for task in asyncio.all_tasks() if task.get_name() == "writer"}
    real = CollectionStore.open

    async def once(spec, *args):
        if spec.id == "two":
            raise KeyboardInterrupt
        return await real(spec, *args)

    monkeypatch.setattr(CollectionStore, "open", once)
    with pytest.raises(KeyboardInterrupt):
        await Store.open(
            tmp_path,
            [tiny_spec("one"), tiny_spec("two")],
            StoreSettings(decoded_cache_bytes=0),
            notes=None,
            pool=pool,
        )
    assert {task for task in asyncio.all_tasks() if task.get_name() == "writer"} == before


async def test_a_copy_of_the_folder_is_a_whole_cache(tmp_path, pool):
    """What a crash leaves behind: nothing is kept outside of the repository."""
    truth = Truth(spec=SPEC)
    values = truth.pixels(DEM, SPEC.grid.chunk_window(0, 0))
    chunk = FilledChunk(key=SPEC.key("dem", 0, 0), values=values, void=False, provenance=())
    async with opened(tmp_path / "a", pool) as store:
        await store.commit((chunk,))
        await asyncio.to_thread(shutil.copytree, tmp_path / "a", tmp_path / "b")
    async with opened(tmp_path / "b", pool) as store:
        np.testing.assert_array_equal(await read(store, SPEC.grid.chunk_window(0, 0)), values)
