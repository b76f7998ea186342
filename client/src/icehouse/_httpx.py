"""The transport over httpx: https:// URLs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx

from icehouse._errors import ConnectionFailed, ProtocolError
from icehouse._transport import Receiver, Response, buffer_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from icehouse._transport import Deadline, OnBytes

_CONNECT_SECONDS = 10.0


class HttpxTransport:
    """One httpx client for each process."""

    def __init__(self, url: str, *, verify: ssl.SSLContext | bool = True) -> None:
        self._url = url
        self._verify = verify
        # By process. A parent's client is kept unused, not closed: its lock may have been held at the fork.
        self._clients: dict[int, httpx.Client] = {}

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
        on_bytes: OnBytes | None = None,
    ) -> Response:
        """See `Transport.request`."""
        left = deadline.remaining()
        timeout = httpx.Timeout(left, connect=min(_CONNECT_SECONDS, left))
        try:
            with self._client().stream(
                method, self._url + path, headers=dict(headers), content=body, timeout=timeout
            ) as response:
                return Response(
                    status=response.status_code,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=_read(response, deadline, on_bytes),
                )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            deadline.remaining()
            raise ConnectionFailed(
                f"no Icehouse daemon answers at {self._url} ({error}). Start one with `icehouse serve` or "
                "`docker compose up`, or name its address in ICEHOUSE_URL."
            ) from error
        except httpx.TimeoutException as error:
            raise deadline.error() from error
        except httpx.HTTPError as error:
            raise ProtocolError(f"the answer of {self._url} is broken: {error}") from error

    def close(self) -> None:
        """See `Transport.close`."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    def _client(self) -> httpx.Client:
        pid = os.getpid()
        client = self._clients.get(pid)
        if client is None:
            client = self._clients.setdefault(pid, httpx.Client(verify=self._verify, follow_redirects=False))
        return client


def _read(response: httpx.Response, deadline: Deadline, on_bytes: OnBytes | None) -> memoryview:
    length = response.headers.get("content-length", "")
    if not length.isdigit() or "content-encoding" in response.headers:
        data = response.read()
        if on_bytes is not None:
            on_bytes(len(data), len(data))
        body = buffer_of(len(data))
        body[:] = data
        return body
    receiver = Receiver(int(length), on_bytes)
    for piece in response.iter_raw():
        deadline.remaining()
        if len(piece) > receiver.missing:
            raise ProtocolError("the answer is longer than it said")
        receiver.rest()[: len(piece)] = piece
        receiver.advance(len(piece))
    if receiver.missing:
        raise ProtocolError(f"the answer was cut short: {receiver.received} of {length} bytes arrived")
    return receiver.buffer
