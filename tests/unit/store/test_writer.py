"""The one writer of a repository: groups, failures that stay local, deadlines, closing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import icechunk
import numpy as np
import pytest

from icehouse_server.core.errors import DiskFullError, ShuttingDownError, StoreError
from icehouse_server.core.ports import FilledChunk, Provenance
from icehouse_server.store.repository.writer import MAX_GROUP_CHUNKS, EncodedChunk, Writer, message, metadata
from icehouse_server.testing.fakes import tiny_spec

SPEC = tiny_spec()


class FakeRepository:
    """Sessions whose writes and commits go as scripted. A session's writes count when it is committed."""

    def __init__(self):
        self.stored = {}
        self.commits = []
        self.on_set = lambda _path: None
        self.on_commit = lambda _paths: None
        self.on_landed = lambda _paths: None
        self.on_look = lambda: None
        self.looks = []
        self.hang = None
        self.committing = self.most_committing = 0

    async def writable_session_async(self, branch):
        assert branch == "main"
        return FakeSession(self)


class FakeSession:
    def __init__(self, repository):
        self.repository = repository
        self.store = self
        self.changes = {}

    async def set(self, path, buffer):
        await asyncio.sleep(0)
        error = self.repository.on_set(path)
        if error is not None:
            raise error
        self.changes[path] = buffer.to_bytes()

    async def commit_async(self, _message, metadata=None):  # noqa: ARG002
        repository = self.repository
        repository.committing += 1
        repository.most_committing = max(repository.most_committing, repository.committing)
        try:
            await asyncio.sleep(0)
            if repository.hang is not None:
                await repository.hang.wait()
            error = repository.on_commit(sorted(self.changes))
            if error is not None:
                raise error
        finally:
            repository.committing -= 1
        repository.stored.update(self.changes)
        repository.commits.append(sorted(self.changes))
        error = repository.on_landed(sorted(self.changes))
        if error is not None:
            raise error
        return f"snapshot-{len(repository.commits)}"


def chunk(number, *, band="dem", item="scene", void=False):
    values = np.full((16, 16), number, dtype="float32")
    source = () if void else (Provenance(item=item, href="", version=""),)
    filled = FilledChunk(key=SPEC.key(band, number, 0), values=values, void=void, provenance=source)
    return EncodedChunk(chunk=filled, data=str(number).encode())


def path(number):
    return f"dem/c/{number}/0"


@asynccontextmanager
async def writing(seconds=5.0):
    repository, published = FakeRepository(), []

    async def publish(snapshot, chunks):
        published.append((snapshot, tuple(entry.chunk.key.path for entry in chunks)))

    async def resume():
        repository.looks.append(sorted(repository.stored))
        repository.on_look()

    async def prepare(session, chunks):
        pass

    writer = Writer(repository, prepare=prepare, publish=publish, resume=resume, timeout=seconds)
    try:
        yield writer, repository, published
    finally:
        if repository.hang is not None:
            repository.hang.set()
        await asyncio.wait_for(writer.close(), 10)


async def test_many_commits_at_once_become_few_snapshots():
    async with writing() as (writer, repository, published):
        await asyncio.gather(*(writer.commit((chunk(n),)) for n in range(100)))
        assert len(repository.commits) <= 3
        assert repository.stored == {path(n): str(n).encode() for n in range(100)}
        assert repository.most_committing == 1
        assert [len(paths) for _, paths in published] == [len(commit) for commit in repository.commits]
        assert writer.commits == len(repository.commits)


async def test_a_group_has_a_bound():
    async with writing() as (writer, repository, _):
        await asyncio.gather(
            *(writer.commit(tuple(chunk(100 * n + m) for m in range(100))) for n in range(9))
        )
        assert max(map(len, repository.commits)) < MAX_GROUP_CHUNKS + 100


async def test_a_chunk_is_published_before_its_caller_goes_on():
    async with writing() as (writer, _, published):
        await writer.commit((chunk(1),))
        assert published == [("snapshot-1", (path(1),))]


@pytest.mark.parametrize("where", ["set", "commit"])
async def test_one_bad_member_of_a_group_fails_alone(where):
    async with writing() as (writer, repository, published):
        if where == "set":
            repository.on_set = lambda at: OSError("bad sector") if at == path(3) else None
        else:
            repository.on_commit = lambda paths: icechunk.IcechunkError("no") if path(3) in paths else None
        results = await asyncio.gather(
            *(writer.commit((chunk(n),)) for n in range(8)), return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None)] * 3 + [StoreError] + [type(None)] * 4
        assert set(repository.stored) == {path(n) for n in range(8) if n != 3}
        assert {at for _, paths in published for at in paths} == set(repository.stored)
        repository.on_set = repository.on_commit = lambda _: None
        await writer.commit((chunk(3),))


@pytest.mark.parametrize(
    "text",
    [
        "storage error: Generic LocalFileSystem error: No space left on device (os error 28)",
        "Generic LocalFileSystem error: Unable to copy data to file: File too large (os error 27)",
        "Disk quota exceeded (os error 122)",
    ],
)
async def test_a_full_disk_has_a_name_of_its_own(text):
    async with writing() as (writer, repository, _):
        repository.on_set = lambda _: OSError(text)
        with pytest.raises(DiskFullError):
            await writer.commit((chunk(1),))
        repository.on_set = lambda _: None
        await writer.commit((chunk(1),))


async def test_hung_commit_ends_by_its_deadline_and_the_writer_goes_on():
    async with writing(seconds=0.1) as (writer, repository, published):
        repository.hang = asyncio.Event()
        with pytest.raises(StoreError, match="within"):
            await asyncio.wait_for(writer.commit((chunk(1),)), 5)
        assert writer.alive
        assert not published
        repository.hang.set()
        await writer.commit((chunk(2),))
        assert path(2) in repository.stored


async def test_a_group_that_hangs_is_not_tried_member_by_member():
    """Fifty members with a deadline each would keep everybody waiting fifty times as long."""
    async with writing(seconds=0.2) as (writer, repository, _):
        repository.hang = asyncio.Event()
        begun = asyncio.get_running_loop().time()
        results = await asyncio.wait_for(
            asyncio.gather(*(writer.commit((chunk(n),)) for n in range(50)), return_exceptions=True), 15
        )
        assert all(isinstance(result, StoreError) for result in results)
        assert asyncio.get_running_loop().time() - begun < 2


async def test_close_writes_what_waits_and_may_be_called_again():
    async with writing() as (writer, repository, _):
        orders = [asyncio.ensure_future(writer.commit((chunk(n),))) for n in range(20)]
        await asyncio.sleep(0)
        await asyncio.gather(writer.close(), writer.close())
        await writer.close()
        assert all(order.done() and order.exception() is None for order in orders)
        assert len(repository.stored) == 20
        assert not writer.alive
        with pytest.raises(ShuttingDownError):
            await writer.commit((chunk(99),))


async def test_chunks_of_a_caller_that_left_are_written():
    async with writing() as (writer, repository, _):
        repository.hang = asyncio.Event()
        orders = [asyncio.ensure_future(writer.commit((chunk(n),))) for n in range(3)]
        await asyncio.sleep(0.01)
        for order in orders:
            order.cancel()
        await asyncio.wait(orders)
        repository.hang.set()
        await writer.close()
        assert len(repository.stored) == 3


async def test_a_failure_whose_caller_left_troubles_nobody():
    async with writing() as (writer, repository, _):
        repository.on_set = lambda _: OSError("no")
        order = asyncio.ensure_future(writer.commit((chunk(1),)))
        await asyncio.sleep(0)
        order.cancel()
        await asyncio.wait([order])
        repository.on_set = lambda _: None
        await writer.commit((chunk(2),))


class Panic(BaseException):
    """As Rust panics come through PyO3: no Exception."""


@pytest.mark.parametrize("where", ["set", "commit"])
async def test_panic_in_the_storage_library_is_an_error_not_a_hang(where):
    async with writing() as (writer, repository, _):
        if where == "set":
            repository.on_set = lambda _: Panic("index out of bounds")
        else:
            repository.on_commit = lambda _: Panic("index out of bounds")
        results = await asyncio.wait_for(
            asyncio.gather(*(writer.commit((chunk(n),)) for n in range(3)), return_exceptions=True), 5
        )
        assert all(isinstance(result, StoreError) for result in results)
        repository.on_set = repository.on_commit = lambda _: None
        await asyncio.wait_for(writer.commit((chunk(9),)), 5)


async def test_a_publisher_that_fails_fails_its_callers_only():
    repository, fail = FakeRepository(), [True]

    async def publish(_snapshot, _chunks):
        if fail.pop():
            raise icechunk.IcechunkError("gone")
        fail.append(False)

    fail[:] = [False, True]

    async def resume():
        pass

    async def prepare(session, chunks):
        pass

    writer = Writer(repository, prepare=prepare, publish=publish, resume=resume, timeout=5)
    with pytest.raises(StoreError):
        await writer.commit((chunk(1),))
    await writer.commit((chunk(1),))
    await writer.close()


async def test_after_a_failed_commit_the_writer_checks_then_reports():
    async with writing() as (writer, repository, _):
        repository.on_landed = lambda _paths: icechunk.StorageError("the answer was lost")
        with pytest.raises(StoreError):
            await writer.commit((chunk(1),))
        assert repository.looks == [[path(1)]]
        repository.on_landed = lambda _paths: None
        await writer.commit((chunk(2),))
        assert len(repository.looks) == 1, "it is sure again"


async def test_nothing_is_written_before_the_repository_state_is_known():
    async with writing() as (writer, repository, _):

        def blind():
            raise StoreError("the disk is away")

        repository.on_landed, repository.on_look = lambda _paths: icechunk.StorageError("lost"), blind
        with pytest.raises(StoreError):
            await writer.commit((chunk(1),))
        with pytest.raises(StoreError, match="the disk is away"):
            await writer.commit((chunk(2),))
        with pytest.raises(StoreError, match="the disk is away"):
            await writer.turn(lambda: asyncio.sleep(0))
        assert sorted(repository.stored) == [path(1)]
        repository.on_landed, repository.on_look = lambda _paths: None, lambda: None
        await writer.commit((chunk(2),))
        assert sorted(repository.stored) == [path(1), path(2)]


async def test_a_chunk_that_was_fetched_twice_is_what_came_last():
    async with writing() as (writer, repository, published):
        old, new = chunk(1), chunk(1)
        repository.hang = asyncio.Event()
        first = asyncio.ensure_future(writer.commit((chunk(0),)))
        await asyncio.sleep(0.01)
        rest = [
            asyncio.ensure_future(writer.commit((EncodedChunk(chunk=each.chunk, data=data),)))
            for each, data in ((old, b"old"), (new, b"new"))
        ]
        sets = []
        repository.on_set = sets.append
        await asyncio.sleep(0.01)
        repository.hang.set()
        await asyncio.gather(first, *rest)
        assert repository.stored[path(1)] == b"new"
        assert sets == [path(1)], "not one next to the other"
        assert [paths for _, paths in published] == [(path(0),), (path(1), path(1))]


def test_a_commit_says_what_is_in_it():
    chunks = (chunk(1, item="b"), chunk(2, item="a"), chunk(3, void=True))
    assert message(chunks) == "fill 3 chunk(s) of dem from a, b"
    assert metadata(chunks) == {"items": {"a": [path(2)], "b": [path(1)]}, "void": [path(3)]}
    many = tuple(chunk(n, item=f"i{n}") for n in range(20))
    assert message(many).endswith("and more")
