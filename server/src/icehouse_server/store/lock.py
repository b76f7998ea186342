"""The cache folder's lock: one daemon a folder."""

import json
import os
from contextlib import suppress
from pathlib import Path

import structlog
from filelock import FileLock, Timeout

from icehouse_server.core.errors import CacheFolderLockedError, ConfigurationError

log = structlog.get_logger(__name__)

_LOCK = "icehouse.lock"
_OWNER = "daemon.json"


class FolderLock:
    """An OS lock on the cache folder, with a note of who holds it.

    The lock is the operating system's (flock), so it goes with the process, also after SIGKILL; the note is
    for people, and tells the next daemon how this one ended.

    Attributes:
        crashed: true when the daemon that had it last did not let go of it by itself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / _LOCK, timeout=0)
        self.crashed = False

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            CacheFolderLockedError: another daemon has it; names its pid and what to do.
            ConfigurationError: the folder can't be made, or takes no lock.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            owner = self.owner(self._folder)
            pid = owner.get("pid", "unknown")
            address = owner.get("url")
            raise CacheFolderLockedError(
                f"another Icehouse daemon (pid {pid}{f', {address}' if address else ''}) "
                f"owns the cache folder {self._folder}",
                hint=f"use that daemon, stop it (kill {pid}), or give this one another --cache-dir",
            ) from None
        except (OSError, NotImplementedError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(
                f"cache_dir = {str(self._folder)!r} can't be used: {why}",
                hint="point it at a folder on a local disk that the daemon may write to",
            ) from error
        self.crashed = bool(self.owner(self._folder))
        self.note(url=None)

    def note(self, *, url: str | None) -> None:
        """Write down who holds the lock. Must be called while holding it.

        A disk that does not take it, such as a full one, does not keep the daemon from serving what is
        cached.
        """
        text = json.dumps({"pid": os.getpid(), "url": url})
        draft = self._folder / f"{_OWNER}.new"
        try:
            draft.write_text(text)
            draft.replace(self._folder / _OWNER)
        except OSError as error:
            log.warning("who holds the lock could not be written down", error=str(error))

    def release(self) -> None:
        """Let go. Safe to call twice."""
        if self._lock.is_locked:
            with suppress(OSError):
                (self._folder / _OWNER).unlink(missing_ok=True)
            try:
                self._lock.release()
            except OSError as error:  # it is held still; one more try, and else it goes with the process
                log.warning("the lock of the cache folder could not be freed", error=str(error))
                self._lock.release()

    @staticmethod
    def owner(folder: Path) -> dict[str, object]:
        """Return the note of who holds a folder's lock, or nothing."""
        try:
            note = json.loads((folder / _OWNER).read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}
