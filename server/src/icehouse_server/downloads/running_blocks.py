"""Blocks under way, and what they count for."""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.downloads.block_task import BlockTask


@dataclass(slots=True, kw_only=True, eq=False)
class RunningBlock:
    """A block under way. Written by ``RunningBlocks`` alone."""

    task: BlockTask
    block: ChunkBlock
    """What is fetched of it: less than the task says where some chunks are wanted no more."""
    priority: int
    run: asyncio.Task[None]
    lending: asyncio.TimerHandle | None
    """While the block counts for the whole: what ends that."""
    giving_up: asyncio.TimerHandle | None = None
    """While no request waits for it: what ends it."""
    began: float = field(default_factory=time.monotonic)


class RunningBlocks:
    """The blocks under way of all collections. Used from one event loop."""

    def __init__(self) -> None:
        self._blocks: dict[BlockTask, RunningBlock] = {}
        self._counts: Counter[str] = Counter()
        self._slots: Counter[str] = Counter()
        """Blocks that count for the whole, by collection."""

    def __len__(self) -> int:
        return len(self._blocks)

    def count(self, collection: str) -> int:
        """Return how many blocks of a collection are under way."""
        return self._counts[collection]

    def slots(self, collection: str) -> int:
        """Return how many of them count for the whole."""
        return self._slots[collection]

    @property
    def slots_taken(self) -> int:
        """Blocks of all collections that count for the whole."""
        return self._slots.total()

    def add(self, running: RunningBlock) -> None:
        """Take in a block that begins; it counts for the whole."""
        name = running.task.spec.id
        self._blocks[running.task] = running
        self._counts[name] += 1
        self._slots[name] += 1

    def lend(self, task: BlockTask) -> None:
        """Let a block count for the whole no more."""
        running = self._blocks[task]
        if running.lending is not None:
            running.lending.cancel()
            running.lending = None
            self._slots[task.spec.id] -= 1

    def remove(self, task: BlockTask) -> None:
        """Take out a block that has ended, with its timers."""
        self.lend(task)
        self.keep(task)
        del self._blocks[task]
        self._counts[task.spec.id] -= 1

    def priority(self, task: BlockTask) -> int:
        """Return the priority at which a block has begun."""
        return self._blocks[task].priority

    def narrow(self, task: BlockTask, block: ChunkBlock) -> None:
        """Note that only a part of a block is fetched."""
        self._blocks[task].block = block

    def abandon(self, task: BlockTask, seconds: float, give_up: Callable[[], None]) -> None:
        """End a block after some time, unless ``keep`` is called before; no-op where that was said already.

        Args:
            task: the block; one that is not under way is passed over.
            seconds: how long it may go on.
            give_up: called before it is cancelled.
        """
        running = self._blocks.get(task)
        if running is None or running.giving_up is not None:
            return

        def end() -> None:
            give_up()
            running.run.cancel()

        running.giving_up = asyncio.get_running_loop().call_later(seconds, end)

    def keep(self, task: BlockTask) -> None:
        """Let a block go on after all, if it is under way."""
        running = self._blocks.get(task)
        if running is not None and running.giving_up is not None:
            running.giving_up.cancel()
            running.giving_up = None

    def longest(self, most: int) -> Iterable[RunningBlock]:
        """Return those that run longest, this number at most, the longest first."""
        return heapq.nsmallest(most, self._blocks.values(), key=lambda running: running.began)

    async def cancel(self) -> None:
        """Cancel all of them, and wait for it."""
        runs = [running.run for running in self._blocks.values()]
        for run in runs:
            run.cancel()
        if runs:
            await asyncio.wait(runs)
