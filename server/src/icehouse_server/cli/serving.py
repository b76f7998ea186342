"""The daemon as a process: its socket, its signals, its end."""

import asyncio
import math
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import NoReturn, cast

import structlog
import uvicorn
import uvloop

from icehouse_server.api import ApiState
from icehouse_server.app import create_app
from icehouse_server.cli.bounded_protocol import REFUSED_CONNECTIONS, BoundedProtocol, look_at
from icehouse_server.cli.logs import configure_logging
from icehouse_server.cli.process_end import leave
from icehouse_server.cli.streams import OutputError
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.limits import ConnectionLimits
from icehouse_server.settings import Settings, fill
from icehouse_server.store import FolderLock

log = structlog.get_logger(__name__)

_BACKLOG = 512
_KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: workers come back between their batches."""
_LOOK_TICKS = 10
"""Ticks of uvicorn, a tenth of a second each, between two looks at clients that may be late."""
_SPARE_FILES = 1024
"""Open files in addition to those of connections: repositories, sources, SQLite."""
_FEWEST_FILES = 256
"""Below it a daemon can hardly open its repositories."""
_LAST_WORDS = 2.0
"""Seconds before the end of a shutdown at which requests that wait for a source are asked to come again."""


def run(settings: Settings) -> NoReturn:
    """Run the daemon until a signal ends it, and the process with it."""
    configure_logging(settings)
    os.umask(os.umask(0o077) | 0o022)  # what the daemon writes, no other user may change
    limits = fit_connections(
        fill(ConnectionLimits, settings), _allow_files(settings.max_connections + _SPARE_FILES)
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_daemon(settings, limits))
        leave(0)


async def run_daemon(settings: Settings, limits: ConnectionLimits) -> None:
    """Open the cache, listen, and serve until a signal comes; then close within the deadline."""
    app = create_app(settings)
    listener = _listen(settings)
    try:
        async with app.router.lifespan_context(app):
            url = _url(listener)
            FolderLock(settings.cache_folder).note(url=url)
            ready = f"Icehouse is ready at {url}"
            state = app.state.icehouse
            config = _uvicorn_config(app, settings, limits)
            server = _Server(config, limits, ready, state)
            await server.serve([listener])
    finally:
        listener.close()


def _listen(settings: Settings) -> socket.socket:
    """Bind before anything else is opened, so that a taken port costs nothing."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host.strip("[]"), settings.port))
        listener.listen(_BACKLOG)  # without it a second daemon could bind the same port, and fail later
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"can't listen on {settings.host}:{settings.port}: {error.strerror}",
            hint="another daemon may be running there; give this one another --port (0 picks a free one)",
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _allow_files(wanted: int) -> int:
    """Let the process open as many files as it may need, as far as the system allows; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return wanted if soft == resource.RLIM_INFINITY else soft


def fit_connections(limits: ConnectionLimits, files: int) -> ConnectionLimits:
    """Return the limits of connections that a number of open files leaves room for: further ones get a 503.

    Args:
        limits: as they are set.
        files: how many the process may have open.

    Raises:
        ConfigurationError: there is room for none.
    """
    if files < _FEWEST_FILES:
        raise ConfigurationError(
            f"the system lets the daemon open {files} files; it needs at least {_FEWEST_FILES}",
            hint="raise the limit of open files (ulimit -n)",
        )
    # Those beyond the limit need a file, too, to be refused.
    connections = files - min(_SPARE_FILES, files // 2) - REFUSED_CONNECTIONS
    if files >= limits.connections + _SPARE_FILES or connections >= limits.connections:
        return limits
    log.warning(
        "the limit of open files is low; fewer connections are served",
        files=files,
        connections=connections,
        max_connections=limits.connections,
        hint="raise it (ulimit -n)",
    )
    return replace(limits, connections=connections)


def _uvicorn_config(app: object, settings: Settings, limits: ConnectionLimits) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=cast("type[asyncio.Protocol]", partial(BoundedProtocol, limits=limits)),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=1,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
    )


class _Server(uvicorn.Server):
    """uvicorn, with a line when it is ready, and an end that tells those who wait.

    Args:
        config: as uvicorn has it.
        limits: what connections may take.
        ready: the line.
        state: whose jobs and streams are ended first. Its downloads are stopped last: requests that wait for
            them are then answered.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        limits: ConnectionLimits,
        ready: str,
        state: ApiState,
    ) -> None:
        super().__init__(config)
        self._limits = limits
        self._ready = ready
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        try:
            print(self._ready, flush=True)
        except OutputError as error:  # it serves all the same
            log.warning("the line that says where the daemon is was not written", error=error.detail)

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections now and then."""
        if counter % _LOOK_TICKS == 0:
            connections = cast("set[BoundedProtocol]", self.server_state.connections)
            look_at(connections, self._limits, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end until shortly before the deadline; those that still wait then get a 503.

        uvicorn cancels what is left at the deadline, which reaches its client as a bare 500.
        """
        log.info("stopping", seconds=self.config.timeout_graceful_shutdown)
        giving_up = asyncio.create_task(self._give_up_later(), name="give up")
        try:
            self._state.streams.close()
            await self._state.jobs.close()  # which ends the streams of their events, too
            await super().shutdown(sockets)
        finally:
            giving_up.cancel()

    async def _give_up_later(self) -> None:
        deadline = self.config.timeout_graceful_shutdown or 0
        await asyncio.sleep(max(deadline - _LAST_WORDS, deadline / 2))
        await self._state.downloads.close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM. uvicorn's own way raises them again before the cache is closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
