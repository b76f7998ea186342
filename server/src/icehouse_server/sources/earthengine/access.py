"""Access to Earth Engine, shared by all collections: its library, credentials, threads.

The only module that imports ``ee``, and only in a thread when something is read. The library keeps its state
in the process, so one access of a process is in force at a time: the last that was used.
"""

import asyncio
import contextvars
import importlib
import math
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from icehouse_server.core.errors import (
    ConfigurationError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.core.home import expand_home
from icehouse_server.sources.earthengine.error_translation import HOW_TO, explained

if TYPE_CHECKING:
    from types import ModuleType

    from icehouse_server.sources.context import SourceContext
    from icehouse_server.sources.earthengine.transport import EarthEngineTransport

log = structlog.get_logger(__name__)

_BELIEVED = 5.0
"""Seconds for which a failed start of the library is not tried again."""
_START_BYTES = 64 * 1024**2
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(slots=True)
class _InForce:
    """Which access the library's state belongs to."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    access: "Access | None" = None


_IN_FORCE = _InForce()


class Access:
    """Runs calls of Earth Engine's library in threads, a limited number at once. Used from one event loop.

    Each call has a thread of its own that does not hold up the end of the process, however stuck it is.

    Args:
        context: settings and shared means of all sources.
    """

    def __init__(self, context: "SourceContext") -> None:
        self._context = context
        self._gate = asyncio.Semaphore(context.earthengine.max_requests)
        self._failure: SourceError | None = None
        self._failed_at = -math.inf
        self._transport: EarthEngineTransport | None = None

    async def run[T](self, work: Callable[[Any], T], *, seconds: float, max_bytes: int) -> T:
        """Run a function in a thread, with the module ``ee`` ready for use.

        Args:
            work: what to run; it makes one request.
            seconds: that it may take; not counted what the start of the library takes.
            max_bytes: of an answer.

        Raises:
            SourceError: Earth Engine can't be used.
            Exception: what ``work`` raises.
        """
        loop = asyncio.get_running_loop()
        await self._gate.acquire()
        done: asyncio.Future[T] = loop.create_future()
        given_up = threading.Event()

        def finish(result: T | None, error: BaseException | None) -> None:
            self._gate.release()
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result, failure = None, None
            try:
                result = self._prepared(work, given_up, seconds, max_bytes)
            except BaseException as error:  # noqa: BLE001 - whatever it is, a caller waits for it
                failure = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(finish, result, failure)

        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(run,), name="earthengine", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._gate.release()
            raise SourceUnavailableError("the system has no thread for a request to Earth Engine") from error
        try:
            return await done
        finally:
            given_up.set()

    def _prepared[T](
        self, work: Callable[[Any], T], given_up: threading.Event, seconds: float, max_bytes: int
    ) -> T:
        """Run a function once the library is ready. Blocking."""
        ee = self._library()
        # It needs what comes with the library.
        from icehouse_server.sources.earthengine.transport import CALL, Call  # noqa: PLC0415

        context = self._context
        start = context.connect_timeout + context.read_timeout
        # All wait for the start, so it goes on when this one is given up.
        CALL.set(Call(time.monotonic() + start, _START_BYTES))
        self._start(ee, start)
        CALL.set(Call(time.monotonic() + seconds, max_bytes, given_up))
        return work(ee)

    def _library(self) -> "ModuleType":
        try:
            return importlib.import_module("ee")
        except ImportError as error:
            raise SourceRefusedError(
                "Earth Engine's library is not installed",
                hint=f'pip install "icehouse-server[earthengine]", and start the daemon again; {HOW_TO}',
            ) from error

    def _start(self, ee: Any, seconds: float) -> None:  # noqa: ANN401 - a module that builds itself
        """Make the library ready, unless it is. One thread does it; after a failure none for a while."""
        if _IN_FORCE.access is self:
            return
        if not _IN_FORCE.lock.acquire(timeout=seconds):
            raise SourceTimeoutError("access to Earth Engine was not ready in time")
        try:
            if _IN_FORCE.access is not self:
                self._raise_recent()
                self._start_now(ee)
        finally:
            _IN_FORCE.lock.release()

    def _start_now(self, ee: Any) -> None:  # noqa: ANN401
        begun = time.monotonic()
        try:
            self._initialise(ee)
        except Exception as error:
            found = explained(error, "")
            self._failure = found if isinstance(found, SourceError) else SourceUnavailableError(str(found))
            self._failed_at = time.monotonic()
            log.warning("earthengine_failed", kind=self._failure.kind, detail=self._failure.detail)
            raise self._failure from error
        _IN_FORCE.access, self._failure = self, None
        log.info("earthengine_ready", ms=round((time.monotonic() - begun) * 1e3))

    def _raise_recent(self) -> None:
        """Raise what made the last start fail, where that was a moment ago."""
        left = self._failed_at + _BELIEVED - time.monotonic()
        if self._failure is None or left <= 0:
            return
        if isinstance(self._failure, SourceUnavailableError):
            raise SourceUnavailableError(
                self._failure.detail, retry_after=max(left, self._failure.retry_after or 0.0)
            )
        raise SourceRefusedError(self._failure.detail, hint=self._failure.hint, href=self._failure.href)

    def _initialise(self, ee: Any) -> None:  # noqa: ANN401
        from icehouse_server.sources.earthengine.transport import EarthEngineTransport  # noqa: PLC0415

        settings, context = self._context.earthengine, self._context
        if self._transport is None:
            self._transport = EarthEngineTransport(
                connections=settings.max_requests,
                connect_timeout=context.connect_timeout,
                read_timeout=context.read_timeout,
                traffic=context.hosts.traffic,
            )
        if ee.data.is_initialized():
            ee.data.reset()  # credentials of before must not be used again
        # Otherwise the library fetches a list of deprecated assets from another host, without a deadline.
        ee.deprecation.deprecated_assets = {"icehouse-asks-for-no-list": None}
        ee.data.setMaxRetries(0)  # the layer above retries
        ee.Initialize(
            credentials=_credentials(ee, settings.credentials),
            url=context.mirrored(f"{settings.url}/").rstrip("/"),
            project=settings.project,
            http_transport=self._transport,
        )

    def close(self) -> None:
        """Let connections go."""
        if self._transport is not None:
            self._transport.close()


def shared_access(context: "SourceContext") -> Access:
    """Return the access of a daemon: one for all its collections."""
    return context.shared("earthengine", lambda: Access(context))


def _credentials(ee: Any, choice: str) -> Any:  # noqa: ANN401 - of google.auth
    """Return the credentials that the settings name; None for a server that asks for none.

    Raises:
        SourceRefusedError: a key file can't be used.
        Exception: the library finds none; see ``explained``.
    """
    match choice:
        case "none":
            return None
        case "persistent":
            return ee.data.get_persistent_credentials()
        case "application-default":
            return importlib.import_module("google.auth").default(scopes=ee.oauth.SCOPES)[0]
        case path:
            return _key_file(ee, Path(path))


def _key_file(ee: Any, path: Path) -> Any:  # noqa: ANN401
    """Return the credentials of a service account's key file."""
    module = importlib.import_module("google.oauth2.service_account")
    try:
        path = expand_home(path, "earthengine_credentials")
    except ConfigurationError as error:
        raise SourceRefusedError(error.detail, hint=error.hint) from None
    try:
        # Unlike a token file, it may be readable to others: that is how Docker hands secrets out.
        mode = stat.S_IMODE(path.stat().st_mode)
        found = module.Credentials.from_service_account_file(str(path), scopes=ee.oauth.SCOPES)
    except (OSError, ValueError) as error:
        # The text of a JSON error may repeat the content of the file.
        reason = error.strerror if isinstance(error, OSError) else "it is not a service account's key (JSON)"
        raise SourceRefusedError(
            f"earthengine_credentials {path}: it can't be used: {reason}", hint=HOW_TO
        ) from None
    if mode & _FOR_OTHERS:
        log.warning("earthengine_key_readable", path=str(path), mode=f"{mode:04o}", hint=f"chmod 600 {path}")
    return found
