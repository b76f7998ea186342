"""pystac-client's transport with what it lacks: retries by status, limits in time and size, typed errors.

pystac-client 0.9 never retries a status, retries dropped connections of GET only (a search is a POST), has no
time limit and turns every failure into one ``APIError`` of text. All of that is decided in the adapter below,
which sees the real response.
"""

import io
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Self, override

import requests
import structlog
import urllib3
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from icehouse_server.aio.fetch_context import request_headers
from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.http.allowed_hosts import hint_for
from icehouse_server.sources.http.failures import from_status, seconds_of
from icehouse_server.sources.http.host_traffic import Traffic
from icehouse_server.sources.http.urls import host_of, is_http, public

log = structlog.get_logger(__name__)

_TRIES = 2
"""Further tries of one metadata request; the layer above adds its own for whole blocks."""

_PATIENCE = 5.0
"""Seconds that a Retry-After may ask for and be waited out here; longer ones go up with the error."""

_MAX_BODY = 64 * 1024 * 1024
"""Bytes of all answers to one question, decompressed."""

_MAX_VALUES = 4_000_000
"""Values in one answer; 2000 items of Sentinel-2 have about 3 million."""

_SHOWN = 100
"""Characters of a host that an error repeats."""

_PIECE = 64 * 1024
_STATUSES = (408, 425, 429, 500, 502, 503, 504)


class AbsentError(Exception):
    """The API answered 404: there is no such document."""


class _Retry(urllib3.Retry):
    """Retries of urllib3 that give up where Retry-After asks for more patience than a caller has."""

    def increment(  # the parameters are urllib3's
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """Return the retries left."""
        wait = None if response is None else self.get_retry_after(response)
        if wait is not None and wait > _PATIENCE and _pool is not None:
            raise MaxRetryError(_pool, url or "")
        return super().increment(method, url, response, error, _pool, _stacktrace)


class _Adapter(HTTPAdapter):
    """Sends one request and reads its body within a deadline; raises errors of our tree."""

    def __init__(self, *, reaches: Callable[[str], bool], traffic: Traffic, patience: float) -> None:
        retry = _Retry(
            total=_TRIES,
            status_forcelist=_STATUSES,
            allowed_methods=None,
            backoff_factor=0.2,
            backoff_max=2.0,
            backoff_jitter=0.2,
            raise_on_status=False,
            respect_retry_after_header=True,
        )
        super().__init__(max_retries=retry, pool_maxsize=1)
        self._reaches = reaches
        self.left = _MAX_BODY
        """Bytes that the answers to one question may still have."""
        self._traffic = traffic
        self._patience = patience

    @override
    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send a request; the body is always read here, whatever ``stream`` says."""
        url = request.url or ""
        if not is_http(url) or not self._reaches(url):
            where = repr(host_of(url)[:_SHOWN]) if is_http(url) else "something other than an http URL"
            raise SourceRefusedError(
                f"the API sent us to {where}, which the collection does not name",
                href=public(url) if is_http(url) else "",
                hint=hint_for(url) if is_http(url) else "",
            )
        host = host_of(url)
        self._traffic.request(host)
        request.headers.update(request_headers())
        begun, outcome = time.monotonic(), "ok"
        try:
            response = super().send(
                request, stream=True, timeout=timeout, verify=verify, cert=cert, proxies=proxies
            )
            self._read(response, url)
        except AbsentError:
            outcome = "absent"
            raise
        except SourceError as error:
            outcome = error.kind
            self._traffic.error(host, outcome)
            raise
        except (requests.RequestException, HTTPError, OSError) as error:
            failure = _failure(error, url)
            outcome = failure.kind
            self._traffic.error(host, outcome)
            raise failure from error
        finally:
            log.debug(
                "source_request",
                method=request.method,
                url=public(url),
                outcome=outcome,
                ms=round((time.monotonic() - begun) * 1000, 1),
            )
        return response

    def _read(self, response: requests.Response, url: str) -> None:
        """Read the body into memory, or raise for the status."""
        with response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise AbsentError(url)
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                raise from_status(
                    response.status_code, url, retry_after=seconds_of(response.headers.get("Retry-After"))
                )
            body = self._body(response.raw, url)
        self._traffic.received(host_of(url), len(body))
        response.raw = io.BytesIO(body)

    def _body(self, raw: urllib3.HTTPResponse, url: str) -> bytes:
        end = time.monotonic() + self._patience
        body = bytearray()
        while piece := raw.read1(_PIECE, decode_content=True):
            body += piece
            self.left -= len(piece)
            if self.left < 0:
                raise SourceCorruptError("the API's response exceeds its limit of bytes", href=public(url))
            if time.monotonic() > end:
                raise SourceTimeoutError("the API's response exceeded its time limit", href=public(url))
        # Each value of a JSON text takes dozens of bytes in memory, two in the text.
        if sum(body.count(mark) for mark in b",[{") > _MAX_VALUES:
            raise SourceCorruptError(
                f"the API's response holds more than {_MAX_VALUES} values", href=public(url)
            )
        return bytes(body)


def _failure(error: Exception, url: str) -> SourceError:
    """Return the error for a connection that failed.

    Once its retries are used up, requests calls a read that timed out a ``ConnectionError``; what it was
    is in urllib3's reason.
    """
    inner = error.args[0] if error.args else None
    reason = inner.reason if isinstance(inner, MaxRetryError) else error
    if isinstance(reason, requests.Timeout | Urllib3TimeoutError | TimeoutError):
        return SourceTimeoutError("the API did not answer in time", href=public(url))
    return SourceUnavailableError(f"the API can't be reached: {type(reason).__name__}", href=public(url))


class StacTransport(StacApiIO):
    """pystac-client's transport for one thread."""

    def __init__(self, context: SourceContext, reaches: Callable[[str], bool]) -> None:
        super().__init__(
            headers={"User-Agent": context.user_agent},
            request_modifier=modifier(context),
            timeout=(context.connect_timeout, context.read_timeout),
        )
        self._adapter = _Adapter(
            reaches=reaches, traffic=context.hosts.traffic, patience=context.read_timeout
        )
        for prefix in ("http://", "https://", ""):  # the last for other schemes, which it refuses
            self.session.mount(prefix, self._adapter)

    def begin(self) -> None:
        """Start a question: its answers are bounded together."""
        self._adapter.left = _MAX_BODY


def make_io(context: SourceContext, reaches: Callable[[str], bool]) -> StacTransport:
    """Make a transport for one thread.

    Args:
        context: mirrors, time limits, counters.
        reaches: says whether a URL (mirrors applied) may be asked; redirects and links pass through it too.
    """
    return StacTransport(context, reaches)


def modifier(context: SourceContext) -> Callable[[requests.Request], requests.Request]:
    """Return the hook that applies mirrors to every URL that pystac-client asks for."""

    def apply(request: requests.Request) -> requests.Request:
        request.url = context.mirrored(str(request.url))
        return request

    return apply
