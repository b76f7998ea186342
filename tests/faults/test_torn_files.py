"""Files of the cache folder that are torn, flipped, swapped or gone: never wrong pixels, never a hang.

What is not noticed, and not promised: a chunk's file that holds the whole of another chunk, and a manifest in
which a flipped bit makes one chunk's entry another's (2 of 5,488 flips, each bit of two manifests in turn).

A chunk that can't be read back is fetched again. A repository whose metadata can't be read is set aside with
a named error, and the other collections are served. Notes are nice to have.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import structlog

from icehouse_server.core.errors import ConfigurationError, IcehouseError, StoreError
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Region
from icehouse_server.downloads import DownloadSettings, RetryPolicy
from icehouse_server.service import CoverageRequest, ServiceParts, ServiceSettings
from icehouse_server.store import FolderLock, Store, StoreSettings
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec
from support.services import open_services

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SECONDS = 60
"""After which anything counts as hanging."""
SPECS = {name: tiny_spec(name, rows=60, cols=90, chunk=32) for name in ("hurt", "other")}
TRUTHS = {name: Truth(spec=spec, void=frozenset({(0, 0)})) for name, spec in SPECS.items()}
WHOLE = SPECS["hurt"].grid.window
CORNER = Window(row=0, col=0, height=40, width=50)
BANDS = ("dem", "mask")


@dataclass(kw_only=True)
class Daemon:
    """A daemon without HTTP, of two collections."""

    service: ServiceParts
    store: Store
    sources: dict[str, ScriptedSource]

    async def load(self, name, window=WHOLE, **options):
        """The pixels of a window, which are checked; or the error."""
        spec = SPECS[name]
        region = Region(collection=spec, bands=spec.select(BANDS), target=spec.grid.geobox_of(window))
        try:
            async with asyncio.timeout(SECONDS):
                answer = await self.service.coverages.coverage(CoverageRequest(region=region, **options))
        except IcehouseError as error:
            return error
        answer.close()
        for band in BANDS:
            expected = TRUTHS[name].pixels(spec.band(band), window)
            np.testing.assert_array_equal(answer.coverage.bands[band], expected)
        return None


@asynccontextmanager
async def daemon(folder, pool):
    lock = FolderLock(folder)
    lock.acquire()
    try:
        kept = StoreSettings(decoded_cache_bytes=0, write_timeout=SECONDS)
        settings = DownloadSettings(block_side=32, failure_ttl=0, retry=RetryPolicy(attempts=1))
        chosen = ServiceSettings(request_timeout=SECONDS, disk_floor=0)
        sources = {name: ScriptedSource(truth=TRUTHS[name]) for name in SPECS}
        async with open_services(
            folder, SPECS.values(), sources, pool=pool, store=kept, downloads=settings, service=chosen
        ) as made:
            yield Daemon(service=made.service, store=made.store, sources=sources)
    finally:
        lock.release()


@pytest.fixture(scope="module")
def template(tmp_path_factory, pool):
    """A cache folder with both collections cached whole, in several commits."""
    folder = tmp_path_factory.mktemp("torn") / "template"

    async def make():
        async with daemon(folder, pool) as d:
            for name in SPECS:
                assert await d.load(name, CORNER) is None
                assert await d.load(name) is None

    asyncio.run(make())
    return folder


@pytest.fixture
def folder(template, tmp_path):
    shutil.copytree(template, tmp_path / "cache")
    return tmp_path / "cache"


# What becomes of a file


def cut(part):
    def damage(file, _):
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * part)])

    return damage


def flip(place):
    def damage(file, _):
        data = bytearray(file.read_bytes())
        if data:
            data[min(int(len(data) * place), len(data) - 1)] ^= 1 << int(place * 100) % 8
        file.write_bytes(data)

    return damage


def remove(file, _):
    file.unlink()


def swap(file, others):
    """What another file holds, whole and sound."""
    length = file.stat().st_size
    file.write_bytes(next((other for other in others if len(other) != length), b"alone"))


def foreign(file, _):
    file.write_bytes(b"this is the content of another program's file\n" * 20)


def block(file, _):
    """As a file that may not be read: root would read one without permissions."""
    file.unlink()
    file.mkdir()


DAMAGES = {
    "empty": cut(0),
    "half": cut(0.5),
    "a byte short": cut(0.9999),
    **{f"a bit at {place:.0%}": flip(place) for place in (0, 0.03, 0.17, 0.31, 0.5, 0.66, 0.83, 1)},
    "gone": remove,
    "swapped": swap,
    "foreign": foreign,
    "unreadable": block,
}
SURE = {
    name: damage
    for name, damage in DAMAGES.items()
    if not name.startswith("a bit") or name.split()[-1] in {"0%", "3%", "100%"}
}
"""For manifests: a flipped bit at the end or in the header; see above for those in the midst."""
METADATA = ("repo", "snapshots", "manifests", "transactions", "overwritten")


def files_of(folder, kind):
    """The files of a kind in the hurt collection's repository."""
    place = folder / "collections" / "hurt" / kind
    return [place] if place.is_file() else sorted(place.iterdir())


# Chunks


@pytest.mark.parametrize("when", ["while the daemon is down", "while it runs"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_torn_chunk_is_detected_dropped_logged_and_fetched_again(folder, pool, damage, when):
    files = files_of(folder, "chunks")
    data = {file: file.read_bytes() for file in files}

    def hurt():
        for file in files[::2]:
            DAMAGES[damage](file, [path.read_bytes() for path in files_of(folder, "manifests")])

    if when == "while the daemon is down":
        hurt()
    with structlog.testing.capture_logs() as logs:
        async with daemon(folder, pool) as d:
            if when == "while it runs":
                assert await d.load("hurt", CORNER) is None
                hurt()
            answers = await asyncio.gather(d.load("hurt"), d.load("hurt", CORNER), d.load("other"))
            assert answers == [None, None, None]
            touched = {file for file in files[::2] if not file.is_file() or file.read_bytes() != data[file]}
            assert sum(d.sources["hurt"].reads.values()) == len(touched)
            assert not d.sources["other"].requests
            assert await d.load("hurt", only_if_cached=True) is None, "mended for good"
    said = [line for line in logs if line["event"].startswith("a stored chunk ")]
    assert {line["log_level"] for line in said} <= {"warning"}
    assert len({line["chunk"] for line in said}) == len(touched)
    async with daemon(folder, pool) as d:
        assert await d.load("hurt", only_if_cached=True) is None


# Metadata


@pytest.mark.timeout(3600 if LONG else 180)
@pytest.mark.parametrize("kind", METADATA)
async def test_torn_metadata_is_a_named_error_in_its_collection_only(template, tmp_path, pool, kind):
    """Or it goes unnoticed, because the file is not needed for the latest snapshot; or costs chunks."""
    noticed = 0
    for number in range(len(files_of(template, kind))):
        damages = list((SURE if kind == "manifests" else DAMAGES).items())
        for name, damage in damages if LONG or kind == "repo" else damages[number % 4 :: 4]:
            folder = tmp_path / f"{number}-{name}"
            shutil.copytree(template, folder)
            files = files_of(folder, kind)
            damage(files[number], [file.read_bytes() for file in files])
            try:
                noticed += await opens_or_is_set_aside(folder, pool)
            except BaseException as error:
                error.add_note(f"{kind} file {number} of {len(files)}: {name}")
                raise
            shutil.rmtree(folder)
    assert noticed or kind in {"transactions", "overwritten"}


async def opens_or_is_set_aside(folder, pool):
    """Whether the damage was noticed at the start."""
    async with asyncio.timeout(SECONDS), daemon(folder, pool) as d:
        assert await d.load("other", only_if_cached=True) is None
        got = await d.load("hurt")
        if "hurt" not in d.store.set_aside:
            assert got is None
            return False
        assert isinstance(got, StoreError)
        assert "'hurt' is set aside" in got.detail
        why = d.store.set_aside["hurt"]
        assert "hurt" in why.detail
        assert "move" in why.hint
        assert "\n" not in why.detail
        return True


async def test_a_torn_repository_that_is_moved_away_is_fetched_again(folder, pool):
    files_of(folder, "repo")[0].write_bytes(b"")
    async with daemon(folder, pool) as d:
        assert list(d.store.set_aside) == ["hurt"]
    shutil.move(folder / "collections" / "hurt", folder.parent / "aside")
    async with daemon(folder, pool) as d:
        assert not d.store.set_aside
        assert await d.load("hurt") is None


# What lies next to the repositories


@pytest.mark.parametrize("name", ["notes.sqlite", "notes.sqlite-wal", "icehouse.lock", "daemon.json"])
async def test_damage_next_to_the_repositories_fails_no_request(template, tmp_path, pool, name):
    for what, damage in DAMAGES.items():
        folder = tmp_path / what
        shutil.copytree(template, folder)
        file = folder / name
        if not file.exists():  # what a daemon that was killed leaves
            file.write_bytes(
                b'{"pid": 1, "url": null}' if name == "daemon.json" else b"\x37\x7f\x06\x82" * 500
            )
        damage(file, [(folder / "notes.sqlite").read_bytes()])
        if (name, what) == ("icehouse.lock", "unreadable"):
            with pytest.raises(ConfigurationError, match=r"cache_dir = .* can't be used: Is a directory"):
                FolderLock(folder).acquire()
            continue
        try:
            async with asyncio.timeout(SECONDS), daemon(folder, pool) as d:
                for collection in SPECS:
                    assert await d.load(collection, only_if_cached=True) is None
                await d.store.maintenance.run_once()
        except BaseException as error:
            error.add_note(what)
            raise
