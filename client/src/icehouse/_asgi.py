"""The transport into an ASGI application of the same process, for tests.

httpx offers ASGI for async clients only, so requests go through a private event loop in a daemon thread. It
also runs the application's lifespan, which opens and closes what the application needs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING, Any

import httpx

from icehouse._errors import ServerError
from icehouse._transport import Response, buffer_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping

    from icehouse._transport import Deadline, OnBytes

    type Message = MutableMapping[str, Any]  # Any: as ASGI defines it
    type Receive = Callable[[], Awaitable[Message]]
    type Send = Callable[[Message], Awaitable[None]]
    type AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

_LIFESPAN_SECONDS = 60.0


class AsgiTransport:
    """Runs an application on an event loop of its own until closed.

    Raises:
        ServerError: the application failed to start.
    """

    def __init__(self, app: AsgiApp, url: str) -> None:
        self._url = url
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="icehouse-app", daemon=True)
        self._thread.start()
        self._lifespan = _Lifespan(app)
        transport = httpx.ASGITransport(app=self._lifespan.with_state, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport)
        try:
            self._run(self._lifespan.start(), _LIFESPAN_SECONDS)
        except BaseException:
            self.close()
            raise

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
        if os.getpid() != self._pid:
            raise RuntimeError("a client made by from_app cannot be used in a forked process")
        call = self._client.request(
            method, self._url + path, headers=dict(headers), content=body, timeout=None
        )
        try:
            response = self._run(call, deadline.remaining())
        except concurrent.futures.TimeoutError as error:
            raise deadline.error() from error
        buffer = buffer_of(len(response.content))
        buffer[:] = response.content
        if on_bytes is not None:
            on_bytes(len(buffer), len(buffer))
        found = {name.lower(): value for name, value in response.headers.items()}
        return Response(status=response.status_code, headers=found, body=buffer)

    def close(self) -> None:
        """See `Transport.close`."""
        if self._loop.is_closed() or os.getpid() != self._pid:
            return
        try:
            self._run(self._client.aclose(), _LIFESPAN_SECONDS)
            self._run(self._lifespan.stop(), _LIFESPAN_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run[T](self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except BaseException:
            future.cancel()
            raise


class _Lifespan:
    """The server's side of ASGI's lifespan protocol."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._state: dict[str, object] = {}

    async def with_state(self, scope: Message, receive: Receive, send: Send) -> None:
        """The application, given with each request what its lifespan has made, as a server would."""
        await self._app({**scope, "state": self._state.copy()}, receive, send)

    async def start(self) -> None:
        """Start the application and wait until it is ready."""
        self._task = asyncio.create_task(self._serve())
        await self._step("lifespan.startup")

    async def stop(self) -> None:
        """Let the application close what it opened."""
        if self._task is not None and not self._task.done():
            await self._step("lifespan.shutdown")
            await self._task

    async def _serve(self) -> None:
        asgi = {"version": "3.0", "spec_version": "2.0"}
        scope: Message = {"type": "lifespan", "asgi": asgi, "state": self._state}
        try:
            await self._app(scope, self._inbox.get, self._outbox.put)
        except Exception as error:  # noqa: BLE001 - the task's edge: handed to whoever waits in _step
            # The specification lets an application refuse the lifespan by raising; then it needs none.
            await self._outbox.put({"type": "unsupported", "message": repr(error)})

    async def _step(self, name: str) -> None:
        await self._inbox.put({"type": name})
        message = await self._outbox.get()
        if message["type"] == f"{name}.failed":
            raise ServerError(f"the application failed in {name}: {message.get('message', '')}")
