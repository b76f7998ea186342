"""Reading one remote file: the store that async-tiff sees, with its header remembered."""

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.single_flight import SingleFlight
from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceUnavailableError,
)
from icehouse_server.sources.http.allowed_hosts import AllowedHosts
from icehouse_server.sources.http.failures import LinkExpiredError
from icehouse_server.sources.http.hosts import HostResponse, Hosts
from icehouse_server.sources.http.shared_ranges import SharedRanges
from icehouse_server.sources.http.urls import public

HEADER = 64 * 1024
"""Bytes asked for first: one request opens ArcticDEM's files at 2 m.

Those have 25,100 x 25,100 pixels, 2,500 blocks and six overviews; the header measures 56,484 bytes.
"""

GAP = 4096
"""Unwanted bytes that are always read to save a request: about what its headers cost both ways."""

_WASTE = 4
"""A wider gap is read too where all that is read for nothing stays below this share of what is wanted.

Requests run at once, so one saved saves a host's work and no round trip; the bar is 1.3 times the blocks.
"""

MAX_REQUEST = 8 * 1024 * 1024
"""Bytes of one request at most: parts come at once, and one that fails costs little."""

_MAX_SINGLE = 32 * 1024 * 1024
"""Bytes at most that one read asks for range by range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first bytes of a file, and which version of the file they belong to."""

    prefix: bytes
    size: int
    version: str
    etag: str | None
    url: str
    """Where the file is: redirects followed. Further ranges are asked for there."""
    born: float
    directory: bytes = b""
    """A TIFF's directories in one piece, once looked for; ``prefix`` itself where that holds them."""
    pieces: tuple[tuple[int, bytes], ...] = ()
    """(first byte, bytes) of what was asked for beyond ``prefix`` to find the directories."""

    @property
    def held(self) -> int:
        """Bytes of memory that it takes."""
        copied = 0 if self.directory is self.prefix else len(self.directory)
        return len(self.prefix) + copied + sum(len(data) for _, data in self.pieces)


@dataclass(slots=True, kw_only=True)
class HeaderCache:
    """Headers by URL, least recently used ones dropped."""

    max_bytes: int = 64 * 1024 * 1024
    max_age: float = 3600.0
    """Seconds; a changed file is noticed at once where the host sends ETags, and after this where not."""
    flights: SingleFlight[str, Header] = field(default_factory=SingleFlight)
    """Headers that are being asked for: neighbouring chunks open the same file at once."""
    _headers: OrderedDict[str, Header] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, url: str, not_before: float = -math.inf) -> Header | None:
        """Return a header that is young enough, and not from before a moment."""
        header = self._headers.get(url)
        if header is None:
            return None
        if time.monotonic() - header.born > self.max_age or header.born < not_before:
            self.drop(url)
            return None
        self._headers.move_to_end(url)
        return header

    def put(self, url: str, header: Header) -> None:
        """Remember a header."""
        self.drop(url)
        self._headers[url] = header
        self._bytes += header.held
        while self._bytes > self.max_bytes and len(self._headers) > 1:
            self.drop(next(iter(self._headers)))

    def drop(self, url: str) -> None:
        """Forget a header, if there is one."""
        header = self._headers.pop(url, None)
        if header is not None:
            self._bytes -= header.held


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """One request that serves several wanted ranges."""

    start: int
    stop: int
    wanted: int
    """Bytes that a caller asked for."""
    members: tuple[int, ...]
    """Positions of the ranges it serves."""


def coalesce(ranges: Sequence[tuple[int, int]]) -> list[ByteRange]:
    """Merge (start, stop) ranges that lie close together into few requests, none longer than it must be.

    A single range above ``MAX_REQUEST`` stays whole; its size is bounded where it is asked for.
    """
    requests: list[ByteRange] = []
    for index in sorted(range(len(ranges)), key=lambda position: ranges[position]):
        start, stop = ranges[index]
        single = ByteRange(start=start, stop=stop, wanted=stop - start, members=(index,))
        if requests and (merged := _merged(requests[-1], single)) is not None:
            requests[-1] = merged
        else:
            requests.append(single)
    return requests


def _merged(last: ByteRange, single: ByteRange) -> ByteRange | None:
    """Return both in one request, or None where that reads too much."""
    both = ByteRange(
        start=last.start,
        stop=max(last.stop, single.stop),
        wanted=last.wanted + single.wanted,
        members=last.members + single.members,
    )
    size = both.stop - both.start
    near = single.start - last.stop <= GAP
    return both if size <= MAX_REQUEST and (near or (size - both.wanted) * _WASTE <= both.wanted) else None


@dataclass(slots=True, kw_only=True, repr=False)  # async-tiff asks for it at each open: 1 ms of header
class RangeReader:
    """Bytes of one file for one read; implements obspec's ``GetRangeAsync`` and ``GetRangesAsync``.

    Errors lose their type on their way through async-tiff (they arrive as ``TypeError``), so the first one
    stays here for the caller. That is why a reader serves one read only.
    """

    hosts: Hosts
    headers: HeaderCache
    shared: SharedRanges
    url: str
    item: str
    allowed: AllowedHosts = field(default_factory=AllowedHosts)
    """Judges redirects."""
    not_before: float = -math.inf
    """Monotonic seconds: a header from before is not considered fresh."""
    failure: SourceError | None = None
    """The first typed error that this reader raised."""
    fetched: int = 0
    """Bytes that were asked for range by range."""
    header: Header | None = None

    async def open(self) -> Header:
        """Return the header, from memory or by one request."""
        if self.header is None:
            self.header = self.headers.get(self.url, self.not_before)
        if self.header is None:
            try:
                self.header = await self.headers.flights.run(f"{self.not_before} {self.url}", self._first)
            except SourceError as error:
                raise self._failed(error) from error.__cause__
        return self.header

    async def _first(self) -> Header:
        answer = await self.hosts.fetch(self.url, 0, HEADER, item=self.item, allowed=self.allowed)
        header = Header(
            prefix=bytes(answer.data),
            size=answer.size,
            version=answer.version,
            etag=answer.etag,
            url=answer.url,
            born=time.monotonic(),
        )
        self.headers.put(self.url, header)
        return header

    def remember(self, header: Header) -> Header:
        """Put a header in place of the former one, for this read and further ones; returns it."""
        self.header = header
        self.headers.put(self.url, header)
        return header

    async def get_range_async(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> memoryview:
        """Return a range; ``path`` is ignored, a reader has one file."""
        del path
        stop = start + (length or 0) if end is None else end
        header = await self.open()
        if stop <= len(header.prefix) or len(header.prefix) == header.size:
            return memoryview(header.prefix)[start:stop]
        self.fetched += stop - start
        if self.fetched > _MAX_SINGLE:
            raise self._failed(
                SourceCorruptError(
                    f"its metadata exceed {_MAX_SINGLE} bytes", item=self.item, href=public(self.url)
                )
            )
        return (await self._fetch(start, stop)).data

    async def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[memoryview]:
        """Return several ranges by as few requests as is sensible; ``path`` is ignored."""
        del path
        if ends is None:
            ends = [start + length for start, length in zip(starts, lengths or (), strict=True)]
        ranges = list(zip(starts, ends, strict=True))
        version = (await self.open()).version
        keys = [(self.url, version, start, stop) for start, stop in ranges]

        async def fetch(positions: Sequence[int]) -> Sequence[memoryview]:
            return await self._coalesced([ranges[position] for position in positions])

        try:
            return await self.shared.get(keys, fetch)
        except SourceError as error:
            raise self._failed(error) from error.__cause__

    async def _coalesced(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        requests = coalesce(ranges)
        answers = await gather_or_cancel(self._fetch(request.start, request.stop) for request in requests)
        found: list[memoryview] = [memoryview(b"")] * len(ranges)
        for request, answer in zip(requests, answers, strict=True):
            for index in request.members:
                start, stop = ranges[index]
                found[index] = answer.data[start - request.start : stop - request.start]
        return found

    async def _fetch(self, start: int, stop: int) -> HostResponse:
        header = self.header
        etag = header.etag if header and header.etag and not header.etag.startswith("W/") else None
        try:
            answer = await self._ask(start, stop, etag)
        except SourceError as error:
            raise self._failed(error) from error.__cause__
        if header is not None and answer.version != header.version:
            raise self._failed(
                SourceUnavailableError(
                    "the file changed while it was read", item=self.item, href=public(self.url)
                )
            )
        if header is not None and answer.data.nbytes != stop - start:
            raise self._failed(
                SourceCorruptError(
                    "the file is shorter than its header says", item=self.item, href=public(self.url)
                )
            )
        return answer

    async def _ask(self, start: int, stop: int, etag: str | None) -> HostResponse:
        """Ask where the file was found, and at its own URL where that one refuses: signed links expire."""
        url = self.header.url if self.header else self.url
        ask = partial(
            self.hosts.fetch, start=start, stop=stop, item=self.item, allowed=self.allowed, etag=etag
        )
        try:
            return await ask(url)
        except (SourceRefusedError, LinkExpiredError):
            if url == self.url:
                raise
            return await ask(self.url)

    def _failed(self, error: SourceError) -> SourceError:
        self.failure = self.failure or error
        return error
