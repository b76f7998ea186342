"""One daemon: retries, deadlines, statuses. Below the client, above the transport."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from icehouse._errors import BadParameter, Busy, IcehouseError, OutsideCollection, ProtocolError
from icehouse._plan import Plan
from icehouse._problems import REQUEST_ID, error_of
from icehouse._token import check_token, environment_token
from icehouse._transport import Deadline, Response, Transport

if TYPE_CHECKING:
    from icehouse._asgi import AsgiApp
    from icehouse._request import Query
    from icehouse._transport import OnBytes

_log = logging.getLogger("icehouse")
_ERROR = 400
_OK = 200
_OUTSIDE = 204
_JSON = "application/json"
_PROBLEM = "application/problem+json"
_FIRST_WAIT = 0.25
_LONGEST_WAIT = 10.0


def normal_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        BadParameter: it is not an http:// or https:// address, or carries a password, a query or a fragment.
    """
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = None
    if not usable or parts.query or parts.fragment:
        raise BadParameter(f"url: expected an address such as http://127.0.0.1:4326, got {url!r}")
    if parts.username is not None or parts.password is not None:
        raise BadParameter("url: must not carry a user or password; pass token=")
    return url.strip().rstrip("/")


def collection_path(collection: str) -> str:
    """Path of one collection below the daemon's URL."""
    return f"/collections/{quote(collection, safe='')}"


class Session:
    """Sends requests to one daemon, turns its problems into errors, and waits where it is busy."""

    def __init__(self, url: str, *, timeout: float, token: str | None) -> None:
        self.url = url
        self._timeout = _positive(timeout)
        self._token = None if token is None else check_token(token, "token")
        self._transport: Transport | None = None
        self._in_process = False

    def authorization(self) -> dict[str, str]:
        """The header that shows the token, if there is one."""
        token = environment_token() if self._token is None else self._token
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def run_app(self, app: AsgiApp) -> None:
        """Use an ASGI application of this process in place of the address."""
        from icehouse._asgi import AsgiTransport  # noqa: PLC0415 - brings in asyncio and httpx

        self._transport = AsgiTransport(app, self.url)
        self._in_process = True

    def deadline(self, timeout: float | None) -> Deadline:
        """The end of a call that starts now; None takes the client's timeout."""
        return Deadline(self._timeout if timeout is None else _positive(timeout), self.url)

    def get_json(
        self, path: str, *, timeout: float | None = None, accept_status: int | None = None
    ) -> dict[str, Any]:  # Any: JSON
        """GET a JSON object."""
        deadline = self.deadline(timeout)
        return _object(self.send("GET", path, accept=_JSON, deadline=deadline, accept_status=accept_status))

    def ask_json(
        self, method: str, path: str, *, body: bytes | None = None, timeout: float | None = None
    ) -> dict[str, Any]:  # Any: JSON
        """Ask for a JSON object by any method.

        Raises:
            OutsideCollection: the region lies outside the collection.
        """
        answer = self.send(method, path, accept=_JSON, body=body, deadline=self.deadline(timeout))
        if answer.status == _OUTSIDE:
            raise OutsideCollection(
                "the region lies outside the collection",
                status=_OUTSIDE,
                request_id=answer.header(REQUEST_ID),
            )
        return _object(answer)

    def plan(self, collection: str, query: Query, *, timeout: float | None) -> Plan:
        """POST a query to `/plan`."""
        answer = self.post(collection, "plan", query, accept=_JSON, deadline=self.deadline(timeout))
        return Plan.from_json(_object(answer))

    def post(
        self,
        collection: str,
        what: str,
        query: Query,
        *,
        accept: str,
        deadline: Deadline,
        on_bytes: OnBytes | None = None,
    ) -> Response:
        """POST a query to one of the collection's endpoints.

        Raises:
            OutsideCollection: the region lies outside the collection.
        """
        path = f"{collection_path(collection)}/{what}"
        answer = self.send(
            "POST", path, accept=accept, body=query.to_body(), deadline=deadline, on_bytes=on_bytes
        )
        if answer.status == _OUTSIDE:
            raise OutsideCollection(
                f"the geobox lies outside the collection {collection}: they share no pixel",
                status=_OUTSIDE,
                request_id=answer.header(REQUEST_ID),
            )
        return answer

    def send(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        deadline: Deadline,
        body: bytes | None = None,
        accept_status: int | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Response:
        """Send one request; while the daemon is busy, wait as it says and send it again.

        Raises:
            IcehouseError: the answer's problem; Busy only when the deadline leaves no time to wait.
        """
        # os.urandom: every process of a pool of forked workers makes ids of its own.
        request_id = os.urandom(6).hex()
        headers = {"Accept": f"{accept}, {_PROBLEM}", "Icehouse-Request-Id": request_id}
        if body is not None:
            headers["Content-Type"] = _JSON
        headers |= self.authorization()
        attempt = 0
        try:
            while True:
                answer = self._get_transport().request(
                    method, path, headers=headers, body=body, deadline=deadline, on_bytes=on_bytes
                )
                if answer.status < _ERROR or answer.status == accept_status:
                    return answer
                error = error_of(answer, self.url + path)
                if not isinstance(error, Busy):
                    raise error
                _wait(error, attempt, deadline)
                attempt += 1
        except IcehouseError as failure:
            failure.request_id = failure.request_id or request_id
            raise

    def close(self) -> None:
        """Drop the connections of this process."""
        if self._transport is not None:
            self._transport.close()

    def __getstate__(self) -> dict[str, Any]:  # Any: the instance's own attributes
        if self._in_process:
            raise TypeError(
                "a client made by from_app can't be pickled: its application lives in this process"
            )
        return {**self.__dict__, "_transport": None}

    def _get_transport(self) -> Transport:
        transport = self._transport
        if transport is None:
            transport = self._transport = _make_transport(self.url)
        return transport


def _make_transport(url: str) -> Transport:
    # Imported at the first request: a process that only passes a client on needs neither.
    if url.startswith("http://"):
        from icehouse._native import NativeTransport  # noqa: PLC0415

        return NativeTransport(url)
    from icehouse._httpx import HttpxTransport  # noqa: PLC0415

    return HttpxTransport(url)


def _wait(error: Busy, attempt: int, deadline: Deadline) -> None:
    asked = error.retry_after
    seconds = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) if asked is None else asked
    # Jitter, so that the workers of one pool do not all come back at the same instant.
    seconds *= 1 + 0.25 * random.random()  # noqa: S311 - no secret
    if seconds >= deadline.left():
        raise error
    _log.info("%s is busy (%s); asking again in %.2f s", deadline.url, error.kind, seconds)
    time.sleep(max(seconds, 0.01))


def _object(answer: Response) -> dict[str, Any]:
    try:
        document = json.loads(bytes(answer.body))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(
            f"expected JSON, got {bytes(answer.body[:80])!r}",
            status=answer.status,
            request_id=answer.header(REQUEST_ID),
        ) from error
    if not isinstance(document, dict):
        raise ProtocolError(
            f"expected a JSON object, got {type(document).__name__}",
            status=answer.status,
            request_id=answer.header(REQUEST_ID),
        )
    return document


def _positive(timeout: float) -> float:
    if not timeout > 0:
        raise BadParameter(f"timeout: expected seconds above zero, got {timeout!r}")
    return float(timeout)
