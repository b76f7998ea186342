"""The one way to bytes of remote files: connections, bounds, deadlines and counters by host."""

import asyncio
import re
import time
from dataclasses import dataclass, field

import aiohttp
import structlog
from yarl import URL

from icehouse_server.aio.fetch_context import request_headers
from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.sources.http.allowed_hosts import AllowedHosts
from icehouse_server.sources.http.failures import from_client, from_status, seconds_of
from icehouse_server.sources.http.host_traffic import Traffic
from icehouse_server.sources.http.urls import host_of, public

log = structlog.get_logger(__name__)

SLOWEST = 64 * 1024
"""Bytes a second below which a source counts as stuck: a deadline grows by size over this."""

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PARTIAL, _OK, _LAST_SUCCESS = 206, 200, 299
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResponse:
    """A range of a remote file."""

    data: memoryview
    size: int
    """Bytes of the whole file."""
    version: str
    """Identity of the content: the ETag, or date and size where the host gives none."""
    etag: str | None
    url: str
    """Where it came from in the end, redirects followed."""


@dataclass(slots=True, kw_only=True)
class Hosts:
    """Fetches ranges of files over HTTP, one attempt a call; the layer above decides about further ones.

    Used from one event loop. Redirects are followed one by one, each judged by the caller's ``AllowedHosts``.
    """

    connect_timeout: float
    read_timeout: float
    max_requests_per_host: int
    user_agent: str
    traffic: Traffic = field(default_factory=Traffic)
    _gates: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _session: aiohttp.ClientSession | None = None
    _users: set[int] = field(default_factory=set)

    async def fetch(
        self, url: str, start: int, stop: int, *, item: str, allowed: AllowedHosts, etag: str | None = None
    ) -> HostResponse:
        """Return bytes ``start:stop`` of a file, fewer only where the file ends before.

        Args:
            url: http or https, mirrors already applied.
            start: first byte.
            stop: first byte not wanted.
            item: id for the error.
            allowed: judges redirects.
            etag: a strong ETag that the file must still have, or None.

        Raises:
            SourceError: by what happened; see ``failures``.
        """
        target = url
        for _ in range(_MAX_REDIRECTS + 1):
            found = await self._guarded(target, start, stop, item, etag)
            if isinstance(found, HostResponse):
                return found
            target = allowed.follow(target, found, item=item)
        raise SourceRefusedError(
            f"the source redirects more than {_MAX_REDIRECTS} times", item=item, href=public(url)
        )

    async def _guarded(
        self, url: str, start: int, stop: int, item: str, etag: str | None
    ) -> HostResponse | str:
        """Ask once, within the host's bound, and count it. A redirect's location comes back as text."""
        host = host_of(url)
        gate = self._gates.setdefault(host, asyncio.Semaphore(self.max_requests_per_host))
        async with gate:
            self.traffic.request(host)
            begun, outcome = time.monotonic(), "cancelled"
            try:
                found = await self._within(url, start, stop, item, etag)
                outcome = "ok" if isinstance(found, HostResponse) else "redirect"
            except SourceError as error:
                outcome = error.kind
                self.traffic.error(host, outcome)
                raise
            finally:
                log.debug(
                    "source_request",
                    method="GET",
                    url=public(url),
                    start=start,
                    stop=stop,
                    item=item,
                    outcome=outcome,
                    ms=round((time.monotonic() - begun) * 1000, 1),
                )
            return found

    async def _within(
        self, url: str, start: int, stop: int, item: str, etag: str | None
    ) -> HostResponse | str:
        """Ask once within the deadline, and give failures their type."""
        deadline = self.connect_timeout + self.read_timeout + (stop - start) / SLOWEST
        try:
            async with asyncio.timeout(deadline):
                return await self._ask(url, start, stop, item, etag)
        except TimeoutError as error:
            raise SourceTimeoutError(
                f"the source did not send {stop - start} bytes in time", item=item, href=public(url)
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise from_client(error, url, item=item) from error

    async def _ask(self, url: str, start: int, stop: int, item: str, etag: str | None) -> HostResponse | str:
        headers = {
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
            **request_headers(),
        }
        if etag is not None:
            headers["If-Match"] = etag
        session = self._opened()
        async with session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as response:
            if response.status in _REDIRECTS and "Location" in response.headers:
                return response.headers["Location"]
            size = _checked(response, start, stop, item, url)
            body = await _body(response, min(stop, size) - start, item, url)
        self.traffic.received(host_of(url), len(body))
        tag = response.headers.get("ETag")
        version = tag or f"{response.headers.get('Last-Modified', '')} {size}"
        return HostResponse(data=memoryview(body), size=size, version=version, etag=tag, url=url)

    def _opened(self) -> aiohttp.ClientSession:
        if not self._users:  # a thread of GDAL goes on for a while after its reader has gone
            raise SourceUnavailableError("the source was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The bounds are ours: one gate a host.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self.connect_timeout, sock_read=self.read_timeout
                ),
                headers={"User-Agent": self.user_agent},
                auto_decompress=False,  # a range of a compressed body can't be decompressed
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,  # proxies
            )
        return self._session

    def enter(self, user: object) -> None:
        """Note that a caller fetches, before it does; the same one may note it again."""
        self._users.add(id(user))

    async def leave(self, user: object) -> None:
        """Let connections go once the last user has left; nothing is fetched until another has come."""
        self._users.discard(id(user))
        if self._session is not None and not self._users:
            session, self._session = self._session, None
            await session.close()


def _checked(response: aiohttp.ClientResponse, start: int, stop: int, item: str, url: str) -> int:
    """Check that an answer is the range that was asked for; return the size of the whole file."""
    href = public(url)
    if _OK <= response.status <= _LAST_SUCCESS and response.status != _PARTIAL:
        raise SourceRefusedError(
            "the source does not answer range requests (a page in place of the file, or a plain server)",
            item=item,
            href=href,
        )
    if response.status != _PARTIAL:
        wait = seconds_of(response.headers.get("Retry-After"))
        raise from_status(response.status, url, item=item, retry_after=wait)
    range_ = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if range_ is None:
        raise SourceCorruptError("the source does not say which range it sends", item=item, href=href)
    first, last, size = (int(number) for number in range_.groups())
    if size <= start:
        raise SourceCorruptError("the file is shorter than its header says", item=item, href=href)
    length = response.content_length
    if (first, last + 1) != (start, min(stop, size)) or length not in {None, last + 1 - first}:
        raise SourceUnavailableError("the source sent another range than asked for", item=item, href=href)
    return size


async def _body(response: aiohttp.ClientResponse, expected: int, item: str, url: str) -> bytearray:
    """Read a body of exactly the given size in bytes; what is longer is not held, let alone used."""
    body = bytearray(expected)
    at = 0
    async for data in response.content.iter_any():
        if at + len(data) > expected:
            at += len(data)
            break
        body[at : at + len(data)] = data
        at += len(data)
    if at != expected:
        raise SourceUnavailableError(
            f"the source did not send the {expected} bytes that were asked for", item=item, href=public(url)
        )
    return body
