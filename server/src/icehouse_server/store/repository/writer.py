"""The one writer of a repository: everything that changes it goes through this task, in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import icechunk
import structlog
from zarr.core.buffer import cpu

from icehouse_server.core.errors import IcehouseError, ShuttingDownError, StoreError
from icehouse_server.core.ports import FilledChunk
from icehouse_server.store.repository.checked_changes import CheckedChanges, Resume
from icehouse_server.store.repository.commit_figures import CommitFigures
from icehouse_server.store.translate_errors import is_cancellation, translate_errors, translated_error

log = structlog.get_logger(__name__)

MAX_GROUP_CHUNKS = 256
"""Chunks of one commit. Measured: grouping saves four fifths of the time and of the files."""

_NOT_TAKEN = "the repository did not take a commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedChunk:
    """A chunk as it is stored."""

    chunk: FilledChunk
    data: bytes


@dataclass(slots=True, kw_only=True, eq=False)
class _Order:
    """Chunks to be committed."""

    chunks: tuple[EncodedChunk, ...]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True, kw_only=True, eq=False)
class _Turn:
    """Other work on the repository, during which nothing is written."""

    work: Callable[[], Awaitable[None]]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _End:
    """The end mark of the queue."""


type Prepare = Callable[[icechunk.Session, tuple[EncodedChunk, ...]], Awaitable[None]]
"""Called before chunks are set in a session, to make the place that they need."""

type Publish = Callable[[str, tuple[EncodedChunk, ...]], Awaitable[None]]
"""Called in the writer's turn after a commit with the new snapshot and what is in it."""


class Writer:
    """Serialises the commits of one repository and groups what waits.

    Must be the only writer of its repository: on a local folder Icechunk loses concurrent commits silently.
    """

    def __init__(
        self,
        repository: icechunk.Repository,
        *,
        prepare: Prepare,
        publish: Publish,
        resume: Resume,
        timeout: float,
    ) -> None:
        self._repository = repository
        self._prepare = prepare
        self._publish = publish
        self._changes = CheckedChanges(resume)
        self._timeout = timeout
        self._orders: deque[_Order | _Turn | _End] = deque()
        self._news = asyncio.Event()
        self._closing = False
        self._in_turn = False
        self._task = asyncio.create_task(self._run(), name="writer")
        self.commits = 0
        self.figures = CommitFigures()

    @property
    def alive(self) -> bool:
        """True while the task takes orders."""
        return not self._task.done()

    @property
    def overdue(self) -> bool:
        """True while a commit is under way that should have ended: nothing is written until it does."""
        return self.figures.under_way > self._timeout

    @property
    def waiting(self) -> int:
        """Orders that were not taken yet."""
        return len(self._orders)

    async def commit(self, chunks: tuple[EncodedChunk, ...]) -> None:
        """Commit chunks and return when they can be read.

        A caller that is cancelled leaves its chunks to be committed: they are fetched and paid for.

        Raises:
            DiskFullError: no room.
            StoreError: the repository did not take them, or not in time.
            ShuttingDownError: the writer takes nothing more.
        """
        order = _Order(chunks=chunks)
        self._put(order)
        # Its own commit, and the one before it; what else goes on in the repository takes the time it takes.
        while not (await asyncio.wait([order.done], timeout=2 * self._timeout))[0]:
            if not self._in_turn:
                raise _timed_out(2 * self._timeout)
        order.done.result()

    async def turn[T](self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something to the repository while nothing is written, and return what came of it.

        Work that was begun is never cancelled: half of it may have happened.

        Raises:
            StoreError: Icechunk or the disk refused; other errors come as they are.
            ShuttingDownError: the writer takes nothing more.
        """
        results: list[T] = []

        async def keep() -> None:
            results.append(await work())

        entry = _Turn(work=keep)
        self._put(entry)
        await asyncio.shield(entry.done)
        return results[0]

    async def close(self) -> None:
        """Write what waits, then stop; not waiting for a disk that takes nothing. Safe to call twice."""
        if not self._closing and self.alive:
            self._put(_End())
        self._closing = True
        await asyncio.wait([self._task], timeout=2 * self._timeout)

    def _put(self, entry: _Order | _Turn | _End) -> None:
        if self._closing:
            raise ShuttingDownError("the daemon is stopping and writes nothing more", retry_after=5)
        if not self.alive:
            raise StoreError("the writer of the collection has ended", hint="restart the daemon")
        self._orders.append(entry)
        self._news.set()

    async def _run(self) -> None:
        try:
            while True:
                while not self._orders:
                    self._news.clear()
                    await self._news.wait()
                match self._orders.popleft():
                    case _Order() as first:
                        await self._serve(self._gather(first))
                    case _Turn() as turn:
                        await self._take(turn)
                    case _End():
                        return
        finally:  # whatever ends the writer, no caller waits for ever
            for entry in self._orders:
                if not isinstance(entry, _End):
                    _settle(entry, StoreError("the writer was stopped before it came to this"))

    def _gather(self, first: _Order) -> list[_Order]:
        """Take the orders that wait behind ``first``."""
        group, chunks = [first], len(first.chunks)
        while chunks < MAX_GROUP_CHUNKS and self._orders:
            order = self._orders[0]
            if not isinstance(order, _Order):
                break
            self._orders.popleft()
            group.append(order)
            chunks += len(order.chunks)
        return group

    async def _take(self, turn: _Turn) -> None:
        error: IcehouseError | None = StoreError("the writer was stopped in the midst of this")
        self._in_turn = True
        try:
            with translate_errors("the repository or its disk refused"):
                await self._changes.make(turn.work)
            error = None
        except IcehouseError as found:
            error = found
        finally:
            self._in_turn = False
            _settle(turn, error)

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
        finally:  # whatever happens, no caller waits for ever
            for order in group:
                _settle(order, StoreError("the writer was stopped before it came to this"))

    async def _try(self, group: list[_Order]) -> IcehouseError | None:
        """Commit a group; the error is returned, since it is the callers' and not the writer's.

        A commit that takes too long is not cancelled: it may land all the same (measured: 31 of 288 did), and
        a second one at the same time is how commits get lost. Its callers get the error, and it is waited
        for.
        """
        chunks = tuple(chunk for order in group for chunk in order.chunks)
        self.figures.begin()
        work = asyncio.ensure_future(self._land(chunks))
        done, _ = await asyncio.wait([work], timeout=self._timeout)
        late = None if done else _timed_out(self._timeout)
        if late is not None:
            log.error("a commit takes too long; nothing else is written until it ends", seconds=self._timeout)
            self.figures.failed[late.kind] += 1
            for order in group:
                _settle(order, late)
        try:
            await work
        except BaseException as error:
            if is_cancellation(error):
                raise
            self.figures.end()
            if late is not None:
                return late
            typed = translated_error(error, _NOT_TAKEN)
            self.figures.failed[typed.kind] += 1
            return typed
        seconds = self.figures.end()
        self.figures.landed(seconds, len(chunks))
        self.commits += 1
        log.debug(
            "commit",
            collection=chunks[0].chunk.key.collection,
            orders=len(group),
            chunks=len(chunks),
            ms=round(seconds * 1000, 2),
        )
        for order in group:
            _settle(order, None)
        return None

    async def _land(self, chunks: tuple[EncodedChunk, ...]) -> None:
        async def commit() -> None:
            await self._publish(await self._commit(chunks), chunks)

        await self._changes.make(commit)

    async def _commit(self, chunks: tuple[EncodedChunk, ...]) -> str:
        latest = {entry.chunk.key: entry for entry in chunks}  # one that was fetched twice: what came last
        with translate_errors(_NOT_TAKEN):
            session = await self._repository.writable_session_async("main")
            await self._prepare(session, chunks)
            async with asyncio.TaskGroup() as tasks:
                for chunk in latest.values():
                    tasks.create_task(_set(session, chunk))
            return await session.commit_async(message(chunks), metadata=metadata(chunks))


async def _set(session: icechunk.Session, chunk: EncodedChunk) -> None:
    with translate_errors(
        _NOT_TAKEN
    ):  # here: a task group would pass over a call that ends in a CancelledError
        await session.store.set(chunk.chunk.key.path, cpu.Buffer.from_bytes(chunk.data))


def _settle(order: _Order | _Turn, error: IcehouseError | None) -> None:
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
