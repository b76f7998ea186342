"""The one way to bytes of remote files: connections, bounds, deadlines and counters by host."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import HTTPStore

from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.sources.failures import from_obstore
from icehouse_server.sources.traffic import Traffic
from icehouse_server.sources.urls import host_of, is_http, public

if TYPE_CHECKING:  # these names exist in obstore's type stubs only
    from obstore import GetOptions, GetResult

SLOWEST = 64 * 1024
"""Bytes a second below which a source counts as stuck: a deadline grows by size over this."""

_MAX_STORES = 64
"""Connections pools kept; links signed by query strings make one each."""

_SETTLE = 0.3
"""Seconds between the last answer and the end of the process.

obstore 0.12's threads may still hold the interpreter: 12 of 40 processes that exited at once crashed, none of
30 that waited this long.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A range of a remote file."""

    data: memoryview
    size: int
    """Bytes of the whole file."""
    version: str
    """Identity of the content: the ETag, or date and size where the host gives none."""
    etag: str | None


@dataclass(slots=True, kw_only=True)
class Hosts:
    """Fetches ranges of files over HTTP, one attempt a call; the layer above decides about further ones.

    Used from one event loop. obstore follows redirects and has no option against it (0.12); only hosts that a
    collection file or a mirror names are asked in the first place.
    """

    connect_timeout: float
    read_timeout: float
    max_requests_per_host: int
    user_agent: str
    traffic: Traffic = field(default_factory=Traffic)
    _stores: OrderedDict[str, HTTPStore] = field(default_factory=OrderedDict)
    _gates: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _last: float = 0.0

    async def fetch(self, url: str, start: int, stop: int, *, item: str, etag: str | None = None) -> Answer:
        """Return bytes ``start:stop`` of a file, fewer only where the file ends before.

        Args:
            url: http or https, mirrors already applied.
            start: first byte.
            stop: first byte not wanted.
            item: id for the error.
            etag: a strong ETag that the file must still have, or None.

        Raises:
            SourceError: by what happened; see ``failures``.
        """
        host = host_of(url)
        gate = self._gates.setdefault(host, asyncio.Semaphore(self.max_requests_per_host))
        async with gate:
            self.traffic.request(host)
            try:
                return await self._ask(url, start, stop, item, etag)
            except SourceError as error:
                self.traffic.error(host, error.kind)
                raise
            finally:
                self._last = time.monotonic()

    async def _ask(self, url: str, start: int, stop: int, item: str, etag: str | None) -> Answer:
        store, path = self._store(url), unquote(urlsplit(url).path.lstrip("/"))
        deadline = self.connect_timeout + self.read_timeout + (stop - start) / SLOWEST
        options: GetOptions = {"range": (start, stop)}
        if etag is not None:
            options["if_match"] = etag
        try:
            async with asyncio.timeout(deadline):
                result = await obstore.get_async(store, path, options=options)
                body = await result.bytes_async()
        except TimeoutError as error:
            raise SourceTimeoutError(
                f"the source did not send {stop - start} bytes within {deadline:.0f} s",
                item=item,
                href=public(url),
            ) from error
        except Exception as error:  # obstore's classes share no documented base with the built-in ones
            raise from_obstore(error, url, item=item) from error
        self.traffic.received(host_of(url), len(body))
        return _checked(result, memoryview(body), start, stop, item, url)

    def _store(self, url: str) -> HTTPStore:
        parts = urlsplit(url)
        if not is_http(url):
            raise SourceRefusedError("only http and https are read", href=public(url))
        base = f"{parts.scheme}://{parts.netloc}" + (f"?{parts.query}" if parts.query else "")
        store = self._stores.pop(base, None)
        if store is None:
            store = HTTPStore(
                base,
                client_options={
                    "allow_http": parts.scheme == "http",
                    "connect_timeout": timedelta(seconds=self.connect_timeout),
                    "read_timeout": timedelta(seconds=self.read_timeout),
                    # The real limit is asyncio's, which grows with the size; this one must not undercut it.
                    "timeout": timedelta(hours=1),
                    "user_agent": self.user_agent,
                },
                retry_config={"max_retries": 0},
            )
        self._stores[base] = store
        while len(self._stores) > _MAX_STORES:
            self._stores.popitem(last=False)
        return store

    async def settle(self) -> None:
        """Wait until a process may exit safely; at most a fraction of a second after the last answer."""
        left = self._last + _SETTLE - time.monotonic()
        if self._last and left > 0:
            await asyncio.sleep(left)


def _checked(result: "GetResult", body: memoryview, start: int, stop: int, item: str, url: str) -> Answer:
    """Check that what came is what was asked for, byte by count."""
    size = int(result.meta["size"])
    expected = min(stop, size) - start
    if expected <= 0:
        raise SourceCorruptError("the file is shorter than its header says", item=item, href=public(url))
    if tuple(result.range) != (start, start + expected) or len(body) != expected:
        raise SourceUnavailableError(
            f"the source sent {len(body)} bytes in place of {expected}", item=item, href=public(url)
        )
    etag = result.meta["e_tag"]
    version = etag or f"{result.meta['last_modified'].isoformat()} {size}"
    return Answer(data=body, size=size, version=version, etag=etag)
