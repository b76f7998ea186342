"""``~`` in paths. A process may have no home folder: a container that runs as any user id has none."""

from pathlib import Path

from icehouse_server.core.errors import ConfigurationError


def expand_home(path: Path, name: str) -> Path:
    """Return a path with the home folder in place of ``~``; a path without one needs no home folder.

    Args:
        path: as it was written.
        name: what it is the value of, for the message.

    Raises:
        ConfigurationError: this user has no home folder.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigurationError(
            f"{name}: {path} lies in the home folder, and this user has none",
            hint=f"give {name} as an absolute path, or set HOME",
        ) from None
