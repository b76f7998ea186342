"""The queue of blocks: fair between requests and between collections, bounded at once, and never stuck."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

import structlog

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.downloads.block_queue import BlockQueue, HeapEntry
from icehouse_server.downloads.block_task import BlockTask
from icehouse_server.downloads.running_blocks import RunningBlock, RunningBlocks

log = structlog.get_logger(__name__)

_SLOW = 5.0
"""Seconds after which a block that runs counts for its collection alone, no more for the whole."""

_AGEING = 16
"""Blocks that begin while a queued one moves up by one place."""

_LAST = 256
"""Places by which priority 1 stands behind priority 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledBlock:
    """A block that waits or is under way, as it is at a moment."""

    task: BlockTask
    block: ChunkBlock
    running: bool
    since: float
    """When its fetch began, or, where it waits, when it was asked for: monotonic seconds."""


class Schedule:
    """Runs block tasks.

    Order: by a task's place within its request, so that the first block of a small request goes before the
    tenth of a large one that came earlier. Priority 1 stands 256 places behind. While a task waits it moves
    up by one place for each 16 that begin, so whatever comes after it, it has its turn. Equal ones go as they
    came.

    Bounds: a collection has ``per_collection`` blocks under way at most, and all together ``at_once``. A
    collection whose source hangs must not stop others:

    - Where there are others, a collection takes no more places than it leaves free: the first takes half of
      them at most, the next half of what is left.
    - A block that has run for 5 seconds gives its place back to the whole; it counts for its collection
      alone.

    Attributes:
        queue: the blocks that wait.
        under_way: the blocks that have begun.
    """

    def __init__(
        self,
        run: Callable[[BlockTask], Coroutine[object, object, None]],
        *,
        at_once: int,
        per_collection: int,
        collections: int,
        ended: Callable[[BlockTask], None] = lambda _: None,
        slow: float = _SLOW,
    ) -> None:
        """Make a schedule.

        Args:
            run: fetches a block.
            at_once: blocks under way over all collections, those that take long not counted.
            per_collection: blocks under way of one collection.
            collections: how many there are; a single one has all places.
            ended: called with every block that has run.
            slow: seconds after which a block takes long.
        """
        self._run = run
        self._at_once = at_once
        self._per_collection = per_collection
        self._shared = collections > 1
        self._ended = ended
        self._slow = slow
        self._begun = 0
        self.queue = BlockQueue()
        self.under_way = RunningBlocks()

    @property
    def queued(self) -> int:
        """Blocks that have not begun."""
        return len(self.queue)

    @property
    def running(self) -> int:
        """Blocks under way."""
        return len(self.under_way)

    def running_of(self, collection: str) -> int:
        """Return the blocks under way of a collection."""
        return self.under_way.count(collection)

    def foremost(self, most: int) -> list[ScheduledBlock]:
        """Return the blocks under way, the longest first, then those that come next; ``most`` in all."""
        found = [
            ScheduledBlock(task=running.task, block=running.block, running=True, since=running.began)
            for running in self.under_way.longest(most)
        ]
        found += (
            ScheduledBlock(task=task, block=task.block, running=False, since=task.born)
            for task in self.queue.foremost(most - len(found))
        )
        return found

    def put(self, tasks: Sequence[BlockTask]) -> None:
        """Queue the blocks of one request and begin what may begin."""
        for place, task in enumerate(tasks):
            self.queue.put(task, self._rank(task.priority, place))
        self._begin()

    def advance(self, task: BlockTask, priority: int, place: int) -> None:
        """Move a queued block to where another request that needs it would have put it, if that is better."""
        self.queue.advance(task, self._rank(priority, place), priority)

    def drop(self, task: BlockTask) -> None:
        """Take a block out of the queue: no request wants it any more. One that has begun goes on."""
        self.queue.drop(task)

    async def close(self) -> None:
        """Drop what has not begun, cancel what has, and wait for it."""
        self.queue.clear()
        await self.under_way.cancel()

    def _rank(self, priority: int, place: int) -> float:
        return place + _LAST * priority + self._begun / _AGEING

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        while (task := self._next()) is not None:
            priority = self.queue.take(task)
            self._begun += 1
            # A context of its own: many requests may wait for a block, and none of them is to appear in its
            # log lines only because it put the block there, or gave its slot free.
            run = asyncio.create_task(
                self._run(task), name=f"block of {task.spec.id}", context=contextvars.Context()
            )
            lending = loop.call_later(self._slow, self._lend, task)
            self.under_way.add(
                RunningBlock(task=task, block=task.block, priority=priority, run=run, lending=lending)
            )
            run.add_done_callback(lambda run, task=task: self._end(task, run))  # type: ignore[misc]

    def _next(self) -> BlockTask | None:
        """Return the foremost block of the collections that may begin one."""
        free = self._at_once - self.under_way.slots_taken
        heads = [entry for entry in self.queue.heads() if self._may_begin(entry, free)]
        return min(heads)[2] if heads else None

    def _may_begin(self, entry: HeapEntry, free: int) -> bool:
        """Return whether a block's collection may begin one more, where this many slots are free."""
        name = entry[2].spec.id
        if self.under_way.count(name) >= self._per_collection or free <= 0:
            return False
        return not self._shared or self.under_way.slots(name) < free

    def _lend(self, task: BlockTask) -> None:
        """Give the slot of a block that takes long back to the whole."""
        self.under_way.lend(task)
        self._begin()

    def _end(self, task: BlockTask, run: asyncio.Task[None]) -> None:
        """Take out a block that has ended, even if it was cancelled before its first step."""
        self.under_way.remove(task)
        if not run.cancelled() and (error := run.exception()) is not None:
            log.error("a block failed in a way that it should not", exc_info=error)
        self._ended(task)
        self._begin()
