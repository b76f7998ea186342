"""Why a daemon is not ready: each reason, brought about on a real store with a scripted source."""

from __future__ import annotations

import asyncio
import errno
import tempfile
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from icehouse_server.api.routes.health import CODES, readiness
from icehouse_server.core.errors import SourceRefusedError
from icehouse_server.core.ports import FilledChunk
from icehouse_server.downloads import DownloadSettings, RetryPolicy
from icehouse_server.service import (
    LoopLagMonitor,
    ServiceSettings,
    monitors,
)
from icehouse_server.store import StoreSettings
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec, touches
from support.api_state import make_state
from support.services import open_services

SPEC = tiny_spec()
TRUTH = Truth(spec=SPEC)


@asynccontextmanager
async def daemon(folder, pool, *, disk_floor=0, write_timeout=20.0, **limits):
    """The state of a daemon, with its source and its folder."""
    source = ScriptedSource(truth=TRUTH)
    allowed = ServiceSettings(disk_floor=disk_floor)
    limited = {"block_side": SPEC.grid.chunk, "failure_ttl": 0.0, "retry": RetryPolicy(attempts=1), **limits}
    async with open_services(
        folder,
        [SPEC],
        {"tiny": source},
        pool=pool,
        store=StoreSettings(decoded_cache_bytes=10**6, write_timeout=write_timeout),
        downloads=DownloadSettings(**limited),
        service=allowed,
    ) as made:
        state = make_state(folder, made, allowed, pool=pool)
        try:
            yield SimpleNamespace(
                state=state,
                source=source,
                downloads=made.downloads,
                collection=made.store.collections["tiny"],
            )
        finally:
            if source.gate is not None:
                source.gate.set()
            await made.downloads.close()
            state.folder.close()


async def codes(d):
    document = await readiness(d.state)
    assert document["ready"] is not document["reasons"]
    assert document["ready"] is (not document["reasons"])
    for reason in document["reasons"]:
        assert reason["detail"].startswith(CODES[reason["code"]])
    return [(reason["code"], reason.get("collection")) for reason in document["reasons"]]


def keys(count):
    return [SPEC.key("dem", 0, col) for col in range(count)]


async def until(condition, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def test_ready(tmp_path, pool):
    async with daemon(tmp_path / "c", pool) as d:
        assert await codes(d) == []
        await d.downloads.ensure(SPEC, keys(2), timeout=10)
        document = await readiness(d.state)
        assert document["collections"]["tiny"]["chunks"] == 2
        assert document["disk"]["free_bytes"] > 0


async def test_disk_low(tmp_path, pool):
    async with daemon(tmp_path / "c", pool, disk_floor=2**62) as d:
        assert await codes(d) == [("disk-low", None)]


@pytest.mark.parametrize("replaced", [False, True])
async def test_cache_folder_gone(tmp_path, pool, replaced):
    folder = tmp_path / "c"
    async with daemon(folder, pool) as d:
        folder.rename(tmp_path / "elsewhere")
        if replaced:
            folder.mkdir()
        assert await codes(d) == [("cache-folder-gone", None), ("repository-unreadable", "tiny")]
        if replaced:
            folder.rmdir()
        (tmp_path / "elsewhere").rename(folder)


async def test_cache_folder_not_writable(tmp_path, pool, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(errno.EROFS, "read only")

    async with daemon(tmp_path / "c", pool) as d:
        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # whoever runs as root may write everywhere
        assert await codes(d) == [("cache-folder-not-writable", None)]


async def test_disk_silent_and_back(tmp_path, pool, monkeypatch):
    answer, look = threading.Event(), monitors._look

    def hang(folder, identity):
        answer.wait(20)
        return look(folder, identity)

    async with daemon(tmp_path / "c", pool) as d:
        monkeypatch.setattr(monitors, "_PATIENCE", 0.05)
        monkeypatch.setattr(monitors, "_look", hang)
        try:
            for _ in range(3):  # however often it is asked for, one thread waits for the disk
                assert await codes(d) == [("disk-silent", None)]
            assert threading.active_count() < 20
        finally:
            answer.set()
        monkeypatch.setattr(monitors, "_PATIENCE", 5)
        assert await codes(d) == []


async def test_many_who_ask_share_one_look(tmp_path, pool, monkeypatch):
    looks, look = [], monitors._look

    def count(folder, identity):
        looks.append(folder)
        return look(folder, identity)

    monkeypatch.setattr(monitors, "_look", count)
    async with daemon(tmp_path / "c", pool) as d:
        states = await asyncio.gather(*(d.state.folder.look() for _ in range(20)))
        assert len(looks) == 1
        assert len(set(states)) == 1


async def test_repository_unreadable(tmp_path, pool):
    async with daemon(tmp_path / "c", pool) as d:
        file = Path(d.collection.folder) / "repo"
        kept = file.read_bytes()
        file.write_bytes(b"nonsense")
        assert await codes(d) == [("repository-unreadable", "tiny")]
        file.write_bytes(kept)
        assert await codes(d) == []


async def test_writer_ended(tmp_path, pool):
    async with daemon(tmp_path / "c", pool) as d:
        d.collection.writer._task.cancel()
        await asyncio.wait([d.collection.writer._task])
        assert await codes(d) == [("writer-ended", "tiny")]


async def test_writer_stuck_until_its_commit_ends(tmp_path, pool, monkeypatch):
    async with daemon(tmp_path / "c", pool, write_timeout=0.05) as d:
        writer, go, land = d.collection.writer, asyncio.Event(), d.collection.writer._land

        async def hang(chunks):
            await go.wait()
            return await land(chunks)

        monkeypatch.setattr(writer, "_land", hang)
        chunk = FilledChunk(
            key=keys(1)[0],
            values=TRUTH.pixels(SPEC.bands[0], SPEC.grid.chunk_window(0, 0)),
            void=False,
            provenance=(),
        )
        commit = asyncio.ensure_future(d.collection.commit((chunk,)))
        await until(lambda: writer.overdue)
        assert await codes(d) == [("writer-stuck", "tiny")]
        await asyncio.wait([commit])
        assert type(commit.exception()).kind == "store-failed"
        assert writer.figures.failed == {"store-failed": 1}
        go.set()
        await until(lambda: not writer.overdue)
        assert await codes(d) == []
        assert writer.commits == 1  # it did land, and no caller got two errors


async def test_queue_full(tmp_path, pool):
    limits = {"blocks_at_once": 1, "blocks_per_collection": 1, "max_queued_blocks": 2}
    async with daemon(tmp_path / "c", pool, **limits) as d:
        d.source.gate = asyncio.Event()
        asks = []
        for key in keys(3):
            asks.append(asyncio.ensure_future(d.downloads.ensure(SPEC, [key], timeout=20)))
            await asyncio.sleep(0)
        await until(lambda: d.downloads.snapshot().queued == 2)
        assert await codes(d) == [("queue-full", None)]
        assert d.downloads.snapshot().oldest > 0
        assert d.downloads.snapshot().flights == 3
        assert d.downloads.snapshot().running_by_collection == {"tiny": 1}
        d.source.gate.set()
        await asyncio.gather(*asks)
        assert await codes(d) == []
        assert (d.downloads.snapshot().oldest, d.downloads.snapshot().flights) == (0, 0)


async def test_loop_late(tmp_path, pool):
    async with daemon(tmp_path / "c", pool) as d:
        d.state.loop.note(4.9)
        assert await codes(d) == []
        d.state.loop.note(6.0)
        assert await codes(d) == [("loop-late", None)]


async def test_shutting_down(tmp_path, pool):
    async with daemon(tmp_path / "c", pool) as d:
        await d.downloads.close()
        assert await codes(d) == [("shutting-down", None)]


async def test_refusing_source_degrades_its_collection_until_it_gives(tmp_path, pool):
    async with daemon(tmp_path / "c", pool) as d:
        d.source.faults.append(touches(0, 0, lambda: SourceRefusedError("the source asks for credentials")))
        await d.downloads.ensure(SPEC, keys(1), timeout=10)
        document = await readiness(d.state)
        assert document["ready"] is True
        degraded = {"code": "source-refused", "detail": "the source asks for credentials"}
        assert document["collections"]["tiny"]["degraded"] == [degraded]
        await d.downloads.ensure(SPEC, keys(2), timeout=10)
        d.source.faults.clear()
        await d.downloads.ensure(SPEC, keys(1), timeout=10)
        assert (await readiness(d.state))["collections"]["tiny"]["degraded"] == []


async def test_metrics_can_be_read_while_everything_is_wrong(tmp_path, pool):
    folder = tmp_path / "c"
    async with daemon(folder, pool) as d:
        folder.rename(tmp_path / "elsewhere")
        await d.state.folder.look()
        text = d.state.metrics.render().decode()
        assert "icehouse_disk_free_bytes NaN" in text
        assert 'icehouse_commits_total{collection="tiny"} 0.0' in text
        (tmp_path / "elsewhere").rename(folder)


async def test_the_loops_delay_is_measured():
    loop = LoopLagMonitor()
    task = asyncio.create_task(loop.run())
    await asyncio.sleep(0)
    threading.Event().wait(0.4)  # a block of the loop, as a defect would be
    await until(lambda: loop.worst() > 0)
    task.cancel()
    assert loop.worst() >= 0.1
    assert sum(loop.delays.counts) == 1
    assert loop.worst(within=0.0) == 0.0
