"""The Zarr stores and the repository's files, in process, on a scripted source: keys, levels, errors."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from types import SimpleNamespace

import google_crc32c
import httpx
import numpy as np
import pytest
import uvicorn
import zarr
from fsspec.implementations.http import HTTPFileSystem
from numcodecs import blosc
from obstore.store import HTTPStore
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore
from zarr.testing.store import StoreTests

from icehouse_server.api import Access, create_api
from icehouse_server.core.addresses import HostPattern
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import FetchBudgetError, SourceTimeoutError, SourceUnavailableError
from icehouse_server.core.grid import Window
from icehouse_server.core.time import TimeAxis, TimeStep
from icehouse_server.downloads import DownloadSettings, RetryPolicy
from icehouse_server.service import (
    CubeSettings,
    ServiceSettings,
)
from icehouse_server.service.fetch_budget import FetchBudget
from icehouse_server.store import StoreSettings, make_cube
from icehouse_server.store.layout import layout
from icehouse_server.store.layout.codec import decode, encode
from icehouse_server.store.repository.pins import PINNED, Pins
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec, touches
from support.api_state import make_state
from support.services import open_services

SPEC = tiny_spec()
ACCESS = Access(allowed_hosts=(HostPattern.parse("cube"),))
YEARS = TimeAxis(
    listed=tuple(
        TimeStep(start=datetime(year, 1, 1, tzinfo=UTC), end=datetime(year + 1, 1, 1, tzinfo=UTC))
        for year in (2019, 2020, 2021)
    )
)
SCALED = (
    BandSpec(name="dem", dtype=np.dtype("int16"), nodata=-9999, scale=0.1, offset=5.0),
    BandSpec(name="free", dtype=np.dtype("float64"), nodata=None),
    BandSpec(name="nan", dtype=np.dtype("float32"), nodata=float("nan"), long_name="A band"),
)
SPECS = {
    "tiny": SPEC,
    "timed": tiny_spec("timed", time=YEARS),
    "scaled": tiny_spec("scaled", bands=SCALED),
    "degrees": tiny_spec("degrees", crs="EPSG:4326", resolution=0.01),
    "unnamed": tiny_spec("unnamed", crs="+proj=laea +lat_0=71 +lon_0=-42 +datum=WGS84 +units=m"),
}


@asynccontextmanager
async def served(folder, spec=SPEC, *, fetches=4096, void=()):
    """An application in front of a scripted source; `get(key)` asks its cube."""
    source = ScriptedSource(truth=Truth(spec=spec, void=frozenset(void)))
    allowed = ServiceSettings(disk_floor=0)
    with ThreadPoolExecutor(2) as pool:
        async with open_services(
            folder,
            [spec],
            {spec.id: source},
            pool=pool,
            store=StoreSettings(decoded_cache_bytes=10**6, write_timeout=30),
            downloads=DownloadSettings(block_side=32, failure_ttl=0.0, retry=RetryPolicy(attempts=1)),
            service=allowed,
        ) as made:
            held = made.store.collections[spec.id]
            app = create_api(version="0", max_body_bytes=10**6, access=ACCESS, lifespan=None)
            state = make_state(folder, made, allowed, pool=pool, cubes=CubeSettings(fetches=fetches))
            app.state.icehouse = state
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://cube") as http:

                async def get(key, *, store="cube.zarr", method="GET", **headers):
                    sent = {name.replace("_", "-"): value for name, value in headers.items()}
                    return await http.request(method, f"/collections/{spec.id}/{store}/{key}", headers=sent)

                yield SimpleNamespace(
                    app=app,
                    get=get,
                    source=source,
                    held=held,
                    service=made.service,
                    downloads=made.downloads,
                    spec=spec,
                    folder=held.folder,
                )
            await made.downloads.close()
            state.folder.close()
            assert made.service.admission.budget.held == 0
            assert held.leases == 0


def pixels_of(content, band, chunk=16):
    """Decode a chunk as a reader does, who is sent no checksum."""
    whole = content + google_crc32c.value(content).to_bytes(4, "little")
    return decode(whole, band, chunk)


def truth_of(served, band, row, col, level=0, step=None):
    spec, chunk = served.spec, served.spec.grid.chunk
    grid = spec.grids[level]
    inside = grid.chunk_window(row, col)
    expected = np.full((chunk, chunk), spec.band(band).fill)
    expected[: inside.height, : inside.width] = served.source.truth.pixels(
        spec.band(band), inside, step, level
    )
    return expected


def stored_layout(spec, steps):
    """What the repository has once everything of it was written, in memory."""
    store = MemoryStore()
    layout.create(spec, store, steps)
    layout.add_levels(spec, store, range(len(spec.grids)))
    return store


@pytest.mark.parametrize("name", SPECS)
def test_store_is_the_whole_repository_except_the_checksum(name):
    spec = SPECS[name]
    steps = 0 if spec.time is None else 3
    cube, stored = make_cube(spec, steps), zarr.open_group(stored_layout(spec, steps), mode="r")
    root = json.loads(cube.documents["zarr.json"])["consolidated_metadata"]["metadata"]
    arrays = {path: member for path, member in stored.members(max_depth=None) if hasattr(member, "shape")}
    assert arrays.keys() == {
        path for path in root if root[path]["node_type"] == "array" and not path.startswith("0/")
    }
    for path, array in arrays.items():
        wanted = json.loads(json.dumps(array.metadata.to_dict(), default=lambda value: value.to_dict()))
        wanted["codecs"] = [codec for codec in wanted["codecs"] if codec["name"] != "crc32c"]
        assert json.loads(cube.documents[f"{path}/zarr.json"]) == wanted
        assert root[path] == wanted
        if "/" not in path:
            assert root[f"0/{path}"] == wanted
    for level in range(len(spec.grids)):
        group = json.loads(cube.documents[f"{level}/zarr.json"])
        assert group["attributes"]["spatial:shape"] == list(spec.grids[level].shape)
        below = group["consolidated_metadata"]["metadata"]
        assert {f"{level}/{path}" for path in below} == {
            path for path in root if path.startswith(f"{level}/")
        }


@pytest.mark.parametrize("name", ["tiny", "timed", "degrees"])
def test_coordinates_are_those_of_the_repository(name):
    spec = SPECS[name]
    steps = 0 if spec.time is None else 3
    stored = zarr.open_group(stored_layout(spec, steps), mode="r")
    cube, values = make_cube(spec, steps), {}
    for level, grid in enumerate(spec.grids):
        for axis in ("y", "x"):
            content = cube.find(f"{level}/{axis}/c/0").encoded()
            size = grid.shape[0 if axis == "y" else 1]
            values[f"{level}/{axis}" if level else axis] = content, size
    for path, (content, _) in values.items():
        assert content + encode(stored[path][...])[-4:] == encode(stored[path][...])


async def test_levels_are_filled_from_the_source_at_the_level(tmp_path):
    async with served(tmp_path) as cube:
        for level, row, col in ((0, 9, 12), (0, 0, 0), (1, 4, 6), (2, 1, 2), (len(SPEC.grids) - 1, 0, 0)):
            for prefix in [f"{level}/"] + ([""] if not level else []):
                answer = await cube.get(f"{prefix}dem/c/{row}/{col}")
                assert answer.status_code == 200, answer.text
                found = pixels_of(answer.content, SPEC.band("dem"))
                np.testing.assert_array_equal(found, truth_of(cube, "dem", row, col, level))
        assert set(cube.source.reads.values()) == {1}
        assert {key.level for key in cube.source.reads} == {0, 1, 2, len(SPEC.grids) - 1}


async def test_time_steps_are_part_of_the_key(tmp_path):
    async with served(tmp_path, SPECS["timed"]) as cube:
        for number, step in enumerate(YEARS.listed):
            answer = await cube.get(f"1/dem/c/{number}/2/3")
            found = pixels_of(answer.content, SPEC.band("dem"))
            np.testing.assert_array_equal(found, truth_of(cube, "dem", 2, 3, 1, step))
        for key in ("dem/c/3/0/0", "dem/c/0/0", "time/c/1", "time_bnds/c/0"):
            assert (await cube.get(key)).status_code == 404
        assert (await cube.get("time/c/0")).status_code == 200


@pytest.mark.parametrize(
    "key",
    [".zattrs", ".zgroup", "", "zarr.jso", "nope/zarr.json", "dem", "dem/", "dem/c", "dem/c/0", "dem/c/10/0",
     "dem/c/0/13", "dem/c/-1/0", "dem/c/00/0", "dem/c/0/0/0", "dem/c/0/0/", "nope/c/0/0", "5/dem/c/0/0",
     "99/zarr.json", "1/dem/c/5/0", "0/1/dem/c/0/0", "y/c/1", "y/c/0/0", "9/y/c/0", "time/c/0", "c/0/0",
     "dem/c/" + "9" * 5000 + "/0", "../tiny/zarr.json", "%2e%2e/zarr.json", "dem/c/0/0%00"],
)  # fmt: skip
async def test_what_is_no_key_is_404_and_costs_nothing(tmp_path, key):
    async with served(tmp_path) as cube:
        for store in ("cube.zarr", "cached.zarr"):
            answer = await cube.get(key, store=store)
            assert answer.status_code == 404, answer.text
            assert answer.json()["kind"] in {"unknown-key", "not-found"}
        assert not cube.source.requests


@pytest.mark.parametrize(
    ("make", "status"),
    [(lambda: SourceUnavailableError("it is down"), 502), (lambda: SourceTimeoutError("it is slow"), 504)],
)
async def test_failed_fetch_is_an_error_and_undecodable_for_gdal(tmp_path, make, status):
    async with served(tmp_path) as cube:
        cube.source.faults.append(touches(2, 3, make))
        for method in ("GET", "HEAD"):
            answer = await cube.get("dem/c/2/3", method=method)
            assert answer.status_code == status
            assert answer.headers["cache-control"] == "no-store"
            assert method == "HEAD" or answer.json()["hint"] == "try again later", (
                "fail_on_error is for regions"
            )
        answer = await cube.get("dem/c/2/3", user_agent="GDAL/3.12.2")
        assert answer.status_code == 200
        assert answer.json()["status"] == status
        assert answer.headers["cache-control"] == "no-store"
        with pytest.raises(RuntimeError):
            blosc.decompress(answer.content)
        assert (await cube.get("nope", user_agent="GDAL/3.12.2")).status_code == 404
        assert (await cube.get("dem/c/0/0")).status_code == 200  # a failure stays local


async def test_head_ranges_and_tags(tmp_path):
    async with served(tmp_path) as cube:
        whole = await cube.get("dem/c/1/1")
        assert whole.headers["cache-status"] == "icehouse; fwd=miss; stored"
        size, tag = len(whole.content), whole.headers["etag"]
        head = await cube.get("dem/c/1/1", method="HEAD", range="bytes=0-3")
        assert (head.status_code, head.content) == (200, b"")
        assert (head.headers["content-length"], head.headers["etag"]) == (str(size), tag)
        assert head.headers["cache-status"] == "icehouse; hit"
        for asked, part in (("0-3", slice(0, 4)), ("-5", slice(size - 5, size)), ("7-", slice(7, size))):
            answer = await cube.get("dem/c/1/1", range=f"bytes={asked}")
            assert (answer.status_code, answer.content) == (206, whole.content[part])
        assert (await cube.get("dem/c/1/1", range=f"bytes={size}-")).status_code == 416
        assert (await cube.get("dem/c/1/1", if_none_match=tag)).status_code == 304
        assert (await cube.get("dem/c/1/1", if_none_match='"other"')).content == whole.content
        await cube.get("dem/c/5/5")  # another snapshot
        assert (await cube.get("dem/c/1/1", accept_encoding="gzip, br")).headers["etag"] == tag
        document = await cube.get("zarr.json")
        assert document.headers["content-type"] == "application/json"
        assert (await cube.get("zarr.json", if_none_match=document.headers["etag"])).status_code == 304


async def test_only_cached_chunks_where_that_is_asked_for(tmp_path):
    async with served(tmp_path, void=[(4, 4)]) as cube:
        assert (await cube.get("dem/c/3/3", store="cached.zarr")).status_code == 404
        absent = await cube.get("dem/c/3/3", cache_control="only-if-cached")
        assert (absent.status_code, absent.json()["kind"]) == (504, "not-cached")
        assert not cube.source.requests
        for key in ("dem/c/3/3", "dem/c/4/4"):  # a void chunk is cached as any other
            filled = await cube.get(key)
            assert (await cube.get(key, store="cached.zarr")).content == filled.content
        assert (pixels_of(filled.content, SPEC.band("dem")) == -9999).all()


async def test_a_chunk_that_was_evicted_or_damaged_is_fetched_again(tmp_path):
    async with served(tmp_path) as cube:
        first = await cube.get("dem/c/6/6")
        await cube.held.drop([SPEC.key("dem", 6, 6)], "evict")
        assert (await cube.get("dem/c/6/6")).content == first.content
        assert cube.source.reads[SPEC.key("dem", 6, 6)] == 2
        real, spoilt = cube.held._reader._bytes_of, []

        async def spoil(lease, key):
            data = bytearray(await real(lease, key))
            if not spoilt:
                data[20] ^= 1
                spoilt.append(key)
            return memoryview(data)

        cube.held._reader._bytes_of = spoil
        assert (await cube.get("dem/c/6/6")).content == first.content
        assert cube.source.reads[SPEC.key("dem", 6, 6)] == 3
        assert cube.held.damaged == 1


async def test_the_budget_counts_what_is_fetched_and_nothing_else(tmp_path):
    async with served(tmp_path, fetches=2) as cube:
        for key in ("zarr.json", "x/c/0", "dem/c/0/0", "dem/c/0/0", "mask/c/0/0", "dem/c/0/0"):
            assert (await cube.get(key)).status_code == 200
        answer = await cube.get("dem/c/1/1")
        assert (answer.status_code, answer.json()["kind"]) == (429, "fetch-budget")
        assert int(answer.headers["retry-after"]) > 3500
        assert (await cube.get("dem/c/0/0")).status_code == 200
        assert (await cube.get("dem/c/1/1", user_agent="GDAL/3.12")).json()["status"] == 429


async def test_who_joins_a_fetch_pays_nothing_for_it(tmp_path):
    async with served(tmp_path, fetches=1) as cube:
        cube.source.gate = asyncio.Event()
        readers = [asyncio.create_task(cube.get("dem/c/1/1")) for _ in range(16)]
        while not any(reader.done() for reader in readers):
            await asyncio.sleep(0.001)
            if sum(flight.waiters for flight in cube.downloads._flights.values()) == 16:
                break
        cube.source.gate.set()
        answers = await asyncio.gather(*readers)
        assert {answer.status_code for answer in answers} == {200}
        assert min(answer.headers["cache-status"] for answer in answers).endswith("collapsed")
        assert cube.source.reads == {SPEC.key("dem", 1, 1): 1}


def test_a_budget_ends_with_its_window_and_is_each_clients_own():
    now = [0.0]
    budget = FetchBudget(2, 60.0, clock=lambda: now[0])
    for _ in range(2):
        budget.spend("a")
    now[0] = 20.0
    with pytest.raises(FetchBudgetError) as refused:
        budget.spend("a")
    assert refused.value.retry_after == 40.0
    budget.spend("b")
    now[0] = 60.0
    budget.spend("a")
    for number in range(5000):
        budget.spend(f"client {number}")
    assert len(budget._clients) == 1024


def test_pins_live_on_with_every_request_but_not_for_ever():
    now = [0.0]
    pins = Pins(clock=lambda: now[0])
    pins.touch("A")
    for _ in range(5):
        now[0] += PINNED - 1
        pins.touch()
        assert pins.held() == ("A",)
    now[0] += PINNED
    assert pins.held() == ()
    pins.touch("B")
    for _ in range(100):
        now[0] += 60
        pins.touch()
    assert pins.held() == ()
    for number in range(100):
        pins.touch(f"S{number}")
    assert pins.held() == tuple(f"S{number}" for number in range(68, 100))


async def test_files_of_the_repository_are_given_as_they_are(tmp_path):
    async with served(tmp_path) as cube:
        await cube.get("dem/c/0/0")
        files = [path for path in cube.folder.rglob("*") if path.is_file()]
        assert {path.parent.name for path in files} >= {
            "snapshots",
            "manifests",
            "transactions",
            "overwritten",
        }
        for path in files:
            answer = await cube.get(path.relative_to(cube.folder), store="icechunk")
            assert answer.status_code == 200, path
            assert answer.content == path.read_bytes()
        part = await cube.get("repo", store="icechunk", range="bytes=4-7")
        assert (part.status_code, part.content) == (206, (cube.folder / "repo").read_bytes()[4:8])
        assert (await cube.get("repo", store="icechunk", method="HEAD")).headers["content-length"].isdigit()


@pytest.mark.parametrize(
    "path",
    ["", "snapshots", "snapshots/", "snapshots/%2e%2e", "snapshots/%2e%2e/repo", "..%2f..%2fnotes.sqlite",
     "%2e%2e/%2e%2e/notes.sqlite", "%2e%2e%2ftiny%2frepo", "/etc/passwd", "//etc/passwd", "link", "repo%00",
     "snapshots/00000000000000000000", "config.yaml", "repo/"],
)  # fmt: skip
async def test_no_path_leads_out_of_the_repository(tmp_path, path):
    async with served(tmp_path) as cube:
        (cube.folder / "link").symlink_to("/etc/passwd")
        (cube.folder / "chunks").mkdir(exist_ok=True)
        (cube.folder / "chunks" / ("A" * 20)).symlink_to("/etc/passwd")
        for asked in (path, "chunks/" + "A" * 20):
            assert (await cube.get(asked, store="icechunk")).status_code == 404


async def test_garbage_collection_spares_files_that_a_reader_opened(tmp_path):
    async with served(tmp_path) as cube:
        await cube.get("dem/c/0/0")
        held = cube.held
        opened = held.snapshot
        assert (await cube.get("repo", store="icechunk")).status_code == 200
        session = await held.head.repository.readonly_session_async(snapshot_id=opened)
        await held.drop([SPEC.key("dem", 0, 0)], "evict")
        await cube.get("dem/c/7/7")
        await held.collect(0)
        assert (await cube.get(f"snapshots/{opened}", store="icechunk")).status_code == 200
        found = zarr.open_group(session.store, mode="r")["dem"]
        window = Window(row=0, col=0, height=16, width=16)
        expected = cube.source.truth.pixels(SPEC.band("dem"), window)
        np.testing.assert_array_equal(await _in_thread(found, slice(0, 16)), expected)
        held._leases.pins = Pins()
        await held.collect(0)
        assert (await cube.get(f"snapshots/{opened}", store="icechunk")).status_code == 404
        held._leases.pins.touch(opened)  # of a snapshot that is gone already: no error
        await held.collect(0)


async def _in_thread(array, rows):
    return await asyncio.to_thread(lambda: array[rows, rows])


@pytest.fixture(scope="module")
def on_a_socket(tmp_path_factory):
    """The same application on a socket, in a thread: (URL of its cube, what is under its keys)."""
    folder, started, opened = tmp_path_factory.mktemp("socket"), Event(), []

    async def serve():
        async with served(folder) as cube:
            await cube.get("zarr.json")
            config = uvicorn.Config(cube.app, port=0, lifespan="off", log_config=None, ws="none")
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            documents = cube.app.state.icehouse.cubes._cubes["tiny"].documents
            opened.append((server, f"http://127.0.0.1:{port}/collections/tiny/cube.zarr", documents))
            started.set()
            await task

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    server, url, documents = opened[0]
    yield url, documents
    server.should_exit = True
    thread.join(60)


class TestStoresOfZarr:
    """Of zarr's own tests of stores, those that only read; keys are put under the application's hand."""

    buffer_cls = Buffer

    @pytest.fixture(params=["fsspec", "obstore"])
    async def store(self, request, on_a_socket):
        url, documents = on_a_socket
        before = dict(documents)
        if request.param == "obstore":
            remote = HTTPStore(url, client_options={"allow_http": True})
            yield zarr.storage.ObjectStore(remote, read_only=True)
        else:
            files = HTTPFileSystem(asynchronous=True, skip_instance_cache=True)
            yield zarr.storage.FsspecStore(files, read_only=True, path=url)
            await (await files.set_session()).close()
        documents.clear()
        documents.update(before)

    @pytest.fixture
    def store_not_open(self, store):
        return store

    async def set(self, store, key, value):
        assert store.read_only
        self.documents[key] = value.to_bytes()

    @pytest.fixture(autouse=True)
    def _documents(self, on_a_socket):
        self.documents = on_a_socket[1]

    test_get = StoreTests.test_get
    test_get_not_open = StoreTests.test_get_not_open
    test_get_raises = StoreTests.test_get_raises
    test_get_many = StoreTests.test_get_many
    test_getsize = StoreTests.test_getsize
    test_getsize_raises = StoreTests.test_getsize_raises
    test_get_partial_values = StoreTests.test_get_partial_values

    async def test_exists(self, store):
        assert await store.exists("dem/zarr.json")
        assert not await store.exists("foo/zarr.json")

    async def test_nothing_can_be_written(self, store):
        with pytest.raises(ValueError, match="read-only"):
            await store.set("foo", Buffer.from_bytes(b"bar"))
        with pytest.raises(ValueError, match="read-only"):
            await store.delete("zarr.json")
