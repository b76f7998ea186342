"""How Earth Engine's library reaches the network: bounded in time and size, and counted.

The library takes an object with the ``request`` method of httplib2. Its own one has no deadline for an
answer that drips, holds ten connections, and follows redirects wherever they lead.
"""

import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

import httplib2
import requests
import structlog
import urllib3
from requests.adapters import HTTPAdapter

from icehouse_server.aio.fetch_context import request_headers
from icehouse_server.core.errors import SourceError, SourceTimeoutError, SourceUnavailableError
from icehouse_server.sources.http.host_traffic import Traffic
from icehouse_server.sources.http.urls import host_of, public

log = structlog.get_logger(__name__)

_PIECE = 1024 * 1024
_FIRST_ERROR = 400


@dataclass(slots=True)
class Call:
    """What one call of the library may take."""

    until: float
    """Monotonic seconds at which it ends."""
    max_bytes: int
    """Of one answer; what is longer is not held."""
    given_up: threading.Event = field(default_factory=threading.Event)
    """Set when no caller waits for it any more."""

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            SourceTimeoutError: none.
        """
        left = self.until - time.monotonic()
        if left <= 0 or self.given_up.is_set():
            raise SourceTimeoutError("Earth Engine did not answer in time")
        return left


CALL: ContextVar[Call] = ContextVar("icehouse-earthengine-call")
"""The call for which the present thread works."""


class EarthEngineTransport:
    """Makes requests of the library. Safe from any thread.

    Args:
        connections: kept open at most.
        connect_timeout: seconds that a connection may take.
        read_timeout: seconds in which the host must send something.
        traffic: counts by host.
    """

    def __init__(
        self, *, connections: int, connect_timeout: float, read_timeout: float, traffic: Traffic
    ) -> None:
        self._timeouts = connect_timeout, read_timeout
        self._traffic = traffic
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=connections))

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        redirections: int | None = None,  # noqa: ARG002 - httplib2's; redirects are not followed
        connection_type: object = None,  # noqa: ARG002 - httplib2's
    ) -> tuple[httplib2.Response, bytes]:
        """Ask once; any status is an answer.

        Raises:
            SourceUnavailableError: there is no whole answer.
            SourceTimeoutError: none in time.
        """
        host, begun, outcome = host_of(uri), time.monotonic(), "cancelled"
        self._traffic.request(host)
        try:
            response, content = self._within(uri, method, body, {**(headers or {}), **request_headers()})
            outcome = str(response.status_code)
        except SourceError as error:
            outcome = error.kind
            self._traffic.error(host, outcome)
            raise
        finally:
            seconds = time.monotonic() - begun
            log.debug(
                "source_request", method=method, url=public(uri), outcome=outcome, ms=round(seconds * 1e3, 1)
            )
        self._traffic.received(host, len(content))
        if response.status_code >= _FIRST_ERROR:
            self._traffic.error(host, f"status-{response.status_code}")
        return httplib2.Response({**response.headers, "status": str(response.status_code)}), content

    def _within(
        self, uri: str, method: str, body: str | bytes | None, headers: Mapping[str, str]
    ) -> tuple[requests.Response, bytes]:
        call = CALL.get()
        left = call.left()
        timeouts = min(self._timeouts[0], left), min(self._timeouts[1], left)
        try:
            with self._session.request(
                method, uri, data=body, headers=headers, timeout=timeouts, stream=True, allow_redirects=False
            ) as response:
                return response, _content(response, call)
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise SourceTimeoutError("Earth Engine did not answer in time") from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise SourceUnavailableError(
                f"the connection to Earth Engine broke off: {type(error).__name__}"
            ) from error

    def close(self) -> None:
        """Let connections go; those in use end with their answers."""
        self._session.close()


def _content(response: requests.Response, call: Call) -> bytes:
    """Read a body in the pieces in which it comes: one that drips must not hide the deadline."""
    content = bytearray()
    while piece := response.raw.read1(_PIECE, decode_content=True):
        call.left()
        content += piece
        if len(content) > call.max_bytes:
            raise SourceUnavailableError(f"Earth Engine's answer is longer than {call.max_bytes} bytes")
    return bytes(content)
