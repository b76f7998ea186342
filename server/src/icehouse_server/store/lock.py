"""The cache folder's lock: one daemon a folder."""

import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

from icehouse_server.core.errors import CacheFolderLockedError

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
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
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
        self.crashed = bool(self.owner(self._folder))
        self.note(url=None)

    def note(self, *, url: str | None) -> None:
        """Write down who holds the lock. Must be called while holding it."""
        text = json.dumps({"pid": os.getpid(), "url": url})
        draft = self._folder / f"{_OWNER}.new"
        draft.write_text(text)
        draft.replace(self._folder / _OWNER)

    def release(self) -> None:
        """Let go. Safe to call twice."""
        if self._lock.is_locked:
            (self._folder / _OWNER).unlink(missing_ok=True)
            self._lock.release()

    @staticmethod
    def owner(folder: Path) -> dict[str, object]:
        """Return the note of who holds a folder's lock, or nothing."""
        try:
            note = json.loads((folder / _OWNER).read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}
