"""The token that callers must show: from the settings, or from a file that only its owner can read."""

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.home import expand_home

TOKEN = re.compile(r"[!-~]{16,512}")
"""What a token may be: printable ASCII without spaces, too long to guess."""

_RANDOM_BYTES = 32
_LONGEST_FILE = 4096
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_token_file(path: Path) -> str:
    """Return the token in a file; where there is no file, make one with a random token of 256 bits.

    Raises:
        ConfigurationError: others than its owner may use the file, or it holds no token.
    """
    path = expand_home(path, "token_file")
    try:
        if not path.exists():
            _make(path)
        text = _read(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"token_file {path}: it can't be read or made: {error}") from None
    token = text.strip()
    if not token:
        raise ConfigurationError(f"token_file {path}: empty file", hint="remove it, and a new one is made")
    if not TOKEN.fullmatch(token):
        raise ConfigurationError(
            f"token_file {path}: it holds no token of 16 to 512 printable characters without spaces",
            hint="remove it, and a new one is made",
        )
    return token


def _make(path: Path) -> None:
    """Make the file whole or not at all; one that came to be meanwhile is left as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{secrets.token_urlsafe(_RANDOM_BYTES)}\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(draft)  # unlike a rename, it replaces nothing
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path) -> str:
    # The open file is looked at, not the name: a link to a file that others may read is as readable as the
    # file. Non-blocking, so that a pipe in its place is refused instead of waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise ConfigurationError(f"token_file {path}: not a file")
        mode = stat.S_IMODE(state.st_mode)
        if mode & _FOR_OTHERS:
            raise ConfigurationError(
                f"token_file {path}: others than its owner have rights to it (mode {mode:04o})",
                hint=f"remove it, and a new one is made; or chmod 600 {path} if no other user has read it",
            )
        return file.read(_LONGEST_FILE).decode("ascii")
