"""The one writer of a repository: everything that changes it goes through this task, in order."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import icechunk
import structlog
from zarr.core.buffer import cpu

from icehouse_server.core.errors import (
    DiskFullError,
    IcehouseError,
    ShuttingDownError,
    StoreError,
)
from icehouse_server.core.ports import FilledChunk

log = structlog.get_logger(__name__)

MAX_GROUP_CHUNKS = 256
"""Chunks of one commit. Measured: grouping saves four fifths of the time and of the files."""

_NO_ROOM = ("os error 28", "os error 27", "os error 122", "No space left", "File too large", "quota exceeded")
"""How ENOSPC, EFBIG and EDQUOT read in Icechunk's messages (it gives no code)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedChunk:
    """A chunk as it is stored."""

    chunk: FilledChunk
    data: bytes


@dataclass(slots=True, kw_only=True, eq=False)
class _Order:
    chunks: tuple[EncodedChunk, ...]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


type Publish = Callable[[str, tuple[EncodedChunk, ...]], Awaitable[None]]
"""Called in the writer's turn after a commit with the new snapshot and what is in it."""


class Writer:
    """Serialises the commits of one repository and groups what waits.

    Must be the only writer of its repository: on a local folder Icechunk loses concurrent commits silently.
    """

    def __init__(self, repository: icechunk.Repository, *, publish: Publish, timeout: float) -> None:
        self._repository = repository
        self._publish = publish
        self._timeout = timeout
        self._orders: asyncio.Queue[_Order | None] = asyncio.Queue()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="writer")
        self.commits = 0
        self.commit_seconds = 0.0

    @property
    def alive(self) -> bool:
        """True while the task takes orders."""
        return not self._task.done()

    @property
    def waiting(self) -> int:
        """Orders that nobody has taken yet."""
        return self._orders.qsize()

    async def commit(self, chunks: tuple[EncodedChunk, ...]) -> None:
        """Commit chunks and return when they can be read.

        A caller that is cancelled leaves its chunks to be committed: they are fetched and paid for.

        Raises:
            DiskFullError: no room.
            StoreError: the repository did not take them, or not in time.
            ShuttingDownError: the writer takes nothing more.
        """
        if self._closing or not self.alive:
            raise ShuttingDownError("the daemon is stopping and writes nothing more", retry_after=5)
        order = _Order(chunks=chunks)
        self._orders.put_nowait(order)
        try:
            async with asyncio.timeout(2 * self._timeout):  # its own commit, and the one before it
                await asyncio.shield(order.done)
        except TimeoutError:
            raise _timed_out(2 * self._timeout) from None

    async def close(self) -> None:
        """Write what waits, then stop; not waiting for a disk that takes nothing. Safe to call twice."""
        if not self._closing:
            self._closing = True
            self._orders.put_nowait(None)
        await asyncio.wait([self._task], timeout=2 * self._timeout)

    async def _run(self) -> None:
        while (first := await self._orders.get()) is not None:
            group, last = self._gather(first)
            await self._serve(group)
            if last:
                return

    def _gather(self, first: _Order) -> tuple[list[_Order], bool]:
        """Take what waits beside ``first``; also say whether the end mark was among it."""
        group, chunks = [first], len(first.chunks)
        while chunks < MAX_GROUP_CHUNKS and not self._orders.empty():
            order = self._orders.get_nowait()
            if order is None:
                return group, True
            group.append(order)
            chunks += len(order.chunks)
        return group, False

    async def _serve(self, group: list[_Order]) -> None:
        """Commit a group; if it fails, commit its members one by one, so that one bad member fails alone.

        Not after a timeout: it says nothing about a member, and the others would wait for one each.
        """
        try:
            error = await self._try(group)
            if error is None:
                return
            if len(group) == 1 or isinstance(error, _CommitTimedOutError):
                for order in group:
                    _settle(order, error)
                return
            log.warning(
                "group commit failed; its members are tried one by one", members=len(group), error=str(error)
            )
            for order in group:
                alone = await self._try([order])
                if alone is not None:
                    _settle(order, alone)
        finally:  # whatever happens, nobody waits for ever
            for order in group:
                _settle(order, StoreError("the writer was stopped before it came to this"))

    async def _try(self, group: list[_Order]) -> IcehouseError | None:
        """Commit a group; the error is returned, since it is the callers' and not the writer's.

        A commit that takes too long is not cancelled: it may land all the same (measured: 31 of 288 did), and
        a second one beside it is how commits get lost. Its callers are told, and it is waited for.
        """
        begun = time.perf_counter()  # the loop's own clock ticks in milliseconds, as long as a commit takes
        work = asyncio.ensure_future(self._land(tuple(chunk for order in group for chunk in order.chunks)))
        done, _ = await asyncio.wait([work], timeout=self._timeout)
        late = None if done else _timed_out(self._timeout)
        if late is not None:
            log.error("a commit takes too long; nothing else is written until it ends", seconds=self._timeout)
            for order in group:
                _settle(order, late)
        try:
            await work
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the task's edge, and a Rust panic is no Exception
            return late or _typed(error)
        self.commits += 1
        self.commit_seconds += time.perf_counter() - begun
        for order in group:
            _settle(order, None)
        return None

    async def _land(self, chunks: tuple[EncodedChunk, ...]) -> None:
        snapshot = await self._commit(chunks)
        await self._publish(snapshot, chunks)

    async def _commit(self, chunks: tuple[EncodedChunk, ...]) -> str:
        session = await self._repository.writable_session_async("main")
        async with asyncio.TaskGroup() as tasks:
            for chunk in chunks:
                buffer = cpu.Buffer.from_bytes(chunk.data)
                tasks.create_task(session.store.set(chunk.chunk.key.path, buffer))
        return await session.commit_async(message(chunks), metadata=metadata(chunks))


def _settle(order: _Order, error: IcehouseError | None) -> None:
    if order.done.done():
        return
    if error is None:
        order.done.set_result(None)
    else:
        order.done.set_exception(error)
        order.done.exception()  # read here: the caller may be gone


class _CommitTimedOutError(StoreError):
    """The repository did not take a commit in time."""


def _timed_out(seconds: float) -> _CommitTimedOutError:
    return _CommitTimedOutError(f"the repository did not take a commit within {seconds:.0f} s")


def _typed(error: BaseException) -> IcehouseError:
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, IcehouseError):
        return error
    text = str(error)
    if any(sign in text for sign in _NO_ROOM):
        return DiskFullError(
            "the disk of the cache folder is full", hint="make room, or point cache_dir at a larger disk"
        )
    log.error("a commit failed", error=text)
    return StoreError("the repository did not take a commit", hint="the daemon's log says why")


def message(chunks: tuple[EncodedChunk, ...]) -> str:
    """Return a commit's message: how many chunks of which bands, from which items."""
    bands = sorted({chunk.chunk.key.band for chunk in chunks})
    items = sorted({source.item for chunk in chunks for source in chunk.chunk.provenance})
    origin = f" from {', '.join(items[:8])}{' and more' if len(items) > 8 else ''}" if items else ""  # noqa: PLR2004
    return f"fill {len(chunks)} chunk(s) of {', '.join(bands)}{origin}"


def metadata(chunks: tuple[EncodedChunk, ...]) -> dict[str, object]:
    """Return a commit's metadata: each item with the chunks that hold pixels of it; void chunks apart."""
    items: dict[str, list[str]] = {}
    for chunk in chunks:
        for source in chunk.chunk.provenance:
            items.setdefault(source.item, []).append(chunk.chunk.key.path)
    void = [chunk.chunk.key.path for chunk in chunks if chunk.chunk.void]
    return {"items": {item: sorted(set(paths)) for item, paths in sorted(items.items())}, "void": void}
