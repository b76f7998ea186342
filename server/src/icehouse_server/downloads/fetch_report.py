"""What is said about fetches: a line each, a line for each retry, and counters."""

import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import structlog

from icehouse_server.aio.fetch_context import FETCH, FetchTally
from icehouse_server.core.blocks import ChunkBlock
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import IcehouseError, SourceError
from icehouse_server.core.histogram import Histogram
from icehouse_server.core.ports import Block
from icehouse_server.downloads.chunk_flights import Flight

log = structlog.get_logger(__name__)

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_NAMED = 8
"""Items and requests that a line names; beyond, a number says how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchCounts:
    """What happened between the start and a moment."""

    blocks_fetched: int
    chunks_fetched: int
    chunks_joined: int
    chunks_backoff: int
    chunks_failed: Mapping[str, int]
    """Chunks that could not be filled, by kind of error."""
    retries: Mapping[str, int]
    """Further tries of blocks, by the kind of error that made them needed."""
    fetch_seconds: Histogram
    """Time from a block's first request to its commit or its failure."""


class Counters:
    """Counts what happens. Used from one event loop."""

    def __init__(self) -> None:
        self._blocks = self._fetched = self._joined = self._left_alone = 0
        self._failed: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._seconds = Histogram(_SECONDS)

    def snapshot(self) -> FetchCounts:
        """Return the counts by now."""
        return FetchCounts(
            blocks_fetched=self._blocks,
            chunks_fetched=self._fetched,
            chunks_joined=self._joined,
            chunks_backoff=self._left_alone,
            chunks_failed=dict(self._failed),
            retries=dict(self._retries),
            fetch_seconds=deepcopy(self._seconds),
        )

    def block_fetched(self, chunks: int) -> None:
        """Count a block that was committed, and its chunks."""
        self._blocks += 1
        self._fetched += chunks

    def joined(self, chunks: int) -> None:
        """Count chunks that were under way for another request."""
        self._joined += chunks

    def left_alone(self) -> None:
        """Count a chunk that was not asked for because it failed a moment before."""
        self._left_alone += 1

    def failed(self, kind: str) -> None:
        """Count a chunk that could not be filled."""
        self._failed[kind] += 1

    def retried(self, kind: str) -> None:
        """Count a further try of a block."""
        self._retries[kind] += 1

    def took(self, seconds: float) -> None:
        """Count the time of a fetch that has ended."""
        self._seconds.observe(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFailure:
    """Why the last block of a collection failed."""

    kind: str
    detail: str
    at: float
    """When, by the clock of the downloads."""


@dataclass(slots=True, kw_only=True)
class FetchNote:
    """Filled in while a block is fetched."""

    counters: Counters
    tries: int = 1
    outcome: str = "cancelled"
    items: tuple[str, ...] = ()
    detail: str = ""

    def retry(self, error: IcehouseError, waited: float) -> None:
        """Note that a further try begins."""
        self.tries += 1
        self.counters.retried(error.kind)
        log.info(
            "retry", attempt=self.tries, kind=error.kind, cause=error.detail, waited_ms=round(waited * 1000)
        )

    def failed(self, error: IcehouseError) -> None:
        """Note what went wrong, and with which item."""
        self.outcome, self.detail = error.kind, error.detail
        if isinstance(error, SourceError) and error.item:
            self.items = (error.item,)

    def got(self, block: Block) -> None:
        """Note which items a block holds pixels of."""
        self.items = tuple(sorted({source.item for source in block.provenance}))


@contextmanager
def fetch_noted(
    spec: CollectionSpec, block: ChunkBlock, flights: Sequence[Flight], counters: Counters
) -> Iterator[FetchNote]:
    """Give a fetch an id that appears in all its log lines, and write its own line at its end."""
    note, tally, begun = (
        FetchNote(counters=counters),
        FetchTally(id=secrets.token_hex(6)),
        time.perf_counter(),
    )
    token = FETCH.set(tally)
    with structlog.contextvars.bound_contextvars(fetch_id=tally.id, collection=spec.id):
        try:
            yield note
        finally:
            FETCH.reset(token)
            seconds = time.perf_counter() - begun
            counters.took(seconds)
            asked_by = list(dict.fromkeys(name for flight in flights for name in flight.asked_by))
            log.info(
                "fetch",
                outcome=note.outcome,
                chunks=block.chunks.pixels * len(block.bands),
                bands=list(block.bands),
                row=block.chunks.row,
                col=block.chunks.col,
                rows=block.chunks.height,
                cols=block.chunks.width,
                level=block.level,
                **({} if block.time is None else {"step": str(spec.step(block.time))}),
                source_requests=tally.requests,
                source_bytes=tally.bytes,
                ms=round(seconds * 1000, 1),
                tries=note.tries,
                items=list(note.items[:_NAMED]),
                items_in_all=len(note.items),
                request_ids=asked_by[:_NAMED],
                requests_in_all=len(asked_by),
                **({"detail": note.detail} if note.detail else {}),
            )
