"""Where the user's settings and collection files are."""

from pathlib import Path

import platformdirs


def user_config_dir() -> Path:
    """Return the user's configuration folder."""
    return Path(platformdirs.user_config_dir("icehouse", appauthor=False))


def user_collections_dir(configured: Path | None) -> Path | None:
    """Return the user's folder of collection files: the one set, else the usual one if there is one."""
    folder = own_collections_dir(configured)
    return folder if configured is not None or folder.is_dir() else None


def own_collections_dir(configured: Path | None) -> Path:
    """Return where the user's collection files belong: in the folder set, or next to the settings."""
    return (configured or user_config_dir() / "collections").expanduser()
