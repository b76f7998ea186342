"""Blocks that wait, in the order in which they are to begin."""

import heapq
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from icehouse_server.downloads.block_task import BlockTask

type HeapEntry = tuple[float, int, BlockTask]
"""A rank, a ticket that orders equal ranks as they came, and the block."""

_SLACK = 16
"""Void entries that a collection's heap may hold in any case."""


@dataclass(slots=True, kw_only=True)
class _Queued:
    """Where a block that waits stands now."""

    rank: float
    ticket: int
    """Tells its entry in the heap from older ones, which are void."""
    priority: int


class BlockQueue:
    """Blocks that have not begun: a heap for each collection, lowest rank first. Used from one event loop."""

    def __init__(self) -> None:
        self._queued: dict[BlockTask, _Queued] = {}
        self._heaps: dict[str, list[HeapEntry]] = {}
        self._counts: Counter[str] = Counter()
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._queued)

    def __contains__(self, task: object) -> bool:
        return task in self._queued

    def count(self, collection: str) -> int:
        """Return how many blocks of a collection wait."""
        return self._counts[collection]

    @property
    def oldest(self) -> float:
        """Seconds for which the block has waited that waits longest; 0 where none does."""
        return time.monotonic() - min(task.born for task in self._queued) if self._queued else 0.0

    def put(self, task: BlockTask, rank: float) -> None:
        """Take in a block."""
        self._counts[task.spec.id] += 1
        self._push(task, rank, task.priority)

    def advance(self, task: BlockTask, rank: float, priority: int) -> None:
        """Move a block up to a rank, if it waits and that is better than its own."""
        queued = self._queued.get(task)
        if queued is not None and rank < queued.rank:
            self._push(task, rank, min(queued.priority, priority))

    def drop(self, task: BlockTask) -> None:
        """Take a block out, if it waits."""
        if self._queued.pop(task, None) is None:
            return
        name = task.spec.id
        self._counts[name] -= 1
        if len(self._heaps[name]) > 2 * self._counts[name] + _SLACK:
            self._heaps[name] = [entry for entry in self._heaps[name] if self._valid(entry)]
            heapq.heapify(self._heaps[name])

    def clear(self) -> None:
        """Take out all of them."""
        self._queued.clear()
        self._heaps.clear()
        self._counts.clear()

    def heads(self) -> Iterator[HeapEntry]:
        """List the foremost entry of each collection that has one."""
        for heap in self._heaps.values():
            while heap and not self._valid(heap[0]):
                heapq.heappop(heap)
            if heap:
                yield heap[0]

    def take(self, task: BlockTask) -> int:
        """Take out a block that begins, the foremost of its collection; return its priority by now."""
        heapq.heappop(self._heaps[task.spec.id])
        self._counts[task.spec.id] -= 1
        return self._queued.pop(task).priority

    def foremost(self, most: int) -> Iterable[BlockTask]:
        """Return those that come next, this number at most."""
        entries = ((queued.rank, queued.ticket, task) for task, queued in self._queued.items())
        return [task for *_, task in heapq.nsmallest(most, entries)]

    def _push(self, task: BlockTask, rank: float, priority: int) -> None:
        self._tickets += 1
        self._queued[task] = _Queued(rank=rank, ticket=self._tickets, priority=priority)
        heapq.heappush(self._heaps.setdefault(task.spec.id, []), (rank, self._tickets, task))

    def _valid(self, entry: HeapEntry) -> bool:
        """Return whether an entry stands for its block: it still waits, and was not moved up."""
        _, ticket, task = entry
        queued = self._queued.get(task)
        return queued is not None and queued.ticket == ticket
