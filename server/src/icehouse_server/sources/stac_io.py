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
import urllib3
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.failures import from_status
from icehouse_server.sources.traffic import Traffic
from icehouse_server.sources.urls import host_of, public

_TRIES = 2
"""Further tries of one metadata request; the layer above adds its own for whole blocks."""

_PATIENCE = 5.0
"""Seconds that a Retry-After may ask for and be waited out here; longer ones go up with the error."""

_MAX_BODY = 64 * 1024 * 1024
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

    def __init__(self, *, trusts: Callable[[str], bool], traffic: Traffic, patience: float) -> None:
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
        self._trusts = trusts
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
        host = host_of(url)
        if not self._trusts(url):
            raise SourceRefusedError(f"the API sent us to {host!r}, which is not its host", href=public(url))
        self._traffic.request(host)
        try:
            response = super().send(
                request, stream=True, timeout=timeout, verify=verify, cert=cert, proxies=proxies
            )
            self._read(response, url)
        except SourceError as error:
            self._traffic.error(host, error.kind)
            raise
        except (requests.RequestException, HTTPError, OSError) as error:
            failure = _failure(error, url)
            self._traffic.error(host, failure.kind)
            raise failure from error
        return response

    def _read(self, response: requests.Response, url: str) -> None:
        """Read the body into memory, or raise for the status."""
        with response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                raise AbsentError(url)
            if response.status_code >= HTTPStatus.BAD_REQUEST:
                raise from_status(response.status_code, url, retry_after=_retry_after(response))
            body = self._body(response.raw, url)
        self._traffic.received(host_of(url), len(body))
        response.raw = io.BytesIO(body)

    def _body(self, raw: urllib3.HTTPResponse, url: str) -> bytes:
        end = time.monotonic() + self._patience
        body = bytearray()
        while piece := raw.read1(_PIECE, decode_content=True):
            body += piece
            if len(body) > _MAX_BODY:
                raise SourceCorruptError("the API's answer is absurdly large", href=public(url))
            if time.monotonic() > end:
                raise SourceTimeoutError("the API's answer dragged on", href=public(url))
        return bytes(body)


def _failure(error: Exception, url: str) -> SourceError:
    """Return the error for a connection that failed.

    Once its retries are used up, requests calls a read that timed out a ``ConnectionError``; what it was
    stands in urllib3's reason.
    """
    inner = error.args[0] if error.args else None
    reason = inner.reason if isinstance(inner, MaxRetryError) else error
    if isinstance(reason, requests.Timeout | Urllib3TimeoutError | TimeoutError):
        return SourceTimeoutError("the API did not answer in time", href=public(url))
    return SourceUnavailableError(f"the API can't be reached: {type(reason).__name__}", href=public(url))


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3), in either form."""
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, urllib3.Retry().parse_retry_after(value))
    except HTTPError:
        return None


def make_io(context: SourceContext, trusts: Callable[[str], bool]) -> StacApiIO:
    """Make a transport for one thread.

    Args:
        context: mirrors, time limits, counters.
        trusts: says whether a URL (mirrors applied) may be asked; redirects and links pass through it too.
    """
    stac_io = StacApiIO(
        headers={"User-Agent": context.user_agent},
        request_modifier=modifier(context),
        timeout=(context.connect_timeout, context.read_timeout),
    )
    adapter = _Adapter(trusts=trusts, traffic=context.hosts.traffic, patience=context.read_timeout)
    stac_io.session.mount("http://", adapter)
    stac_io.session.mount("https://", adapter)
    return stac_io


def modifier(context: SourceContext) -> Callable[[requests.Request], requests.Request]:
    """Return the hook that applies mirrors to every URL that pystac-client asks for."""

    def apply(request: requests.Request) -> requests.Request:
        request.url = context.mirrored(str(request.url))
        return request

    return apply
