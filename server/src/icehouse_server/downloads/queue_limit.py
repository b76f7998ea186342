"""Refuses blocks for which the queue is too short, and says when to come back."""

from collections import defaultdict
from collections.abc import Callable

from icehouse_server.core.errors import BusyError, TooLargeError
from icehouse_server.core.rates import RateEstimator
from icehouse_server.downloads.block_queue import BlockQueue
from icehouse_server.downloads.block_task import BlockTask


class QueueLimit:
    """The bound on the blocks that wait. A collection always has its share of the queue.

    Args:
        limit: blocks that may wait.
        collections: number of collections that share the queue.
        clock: monotonic seconds.
    """

    def __init__(self, limit: int, *, collections: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._share = limit // max(1, collections)
        self._rate = RateEstimator(clock)
        """Of blocks that end, over all collections; ``_rates`` by collection."""
        self._rates: defaultdict[str, RateEstimator] = defaultdict(lambda: RateEstimator(clock))

    def admit(self, queue: BlockQueue, collection: str, blocks: int) -> None:
        """Let a request queue blocks of a collection, or refuse it.

        Raises:
            BusyError: the queue is full.
            TooLargeError: the queue is too short for it even when it is empty.
        """
        limit, queued = self._limit, len(queue)
        over = queued + blocks - limit
        over_share = queue.count(collection) + blocks - self._share
        if not blocks or over <= 0 or over_share <= 0:
            return
        if blocks > limit:
            raise TooLargeError(
                f"{blocks} blocks would have to be fetched, and at most {limit} may wait",
                limit=limit,
                asked=blocks,
                setting="max_queued_blocks",
            )
        raise BusyError(
            f"the download queue is full: {queued} blocks wait, {blocks} more were asked for, and "
            f"at most {limit} may wait",
            retry_after=min(self._rate.seconds_for(over), self._rates[collection].seconds_for(over_share)),
        )

    def ended(self, task: BlockTask) -> None:
        """Note that a block has ended."""
        self._rate.note()
        self._rates[task.spec.id].note()
