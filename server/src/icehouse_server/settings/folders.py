"""Where the cache, the user's settings and collection files are; a user may have no home folder."""

from pathlib import Path

import platformdirs

from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.home import expand_home


def user_cache_dir() -> Path:
    """Return the user's folder for caches; without a home folder, one that begins with ``~`` all the same."""
    try:
        return Path(platformdirs.user_cache_dir("icehouse", appauthor=False))
    except RuntimeError:
        return Path("~/.cache/icehouse")  # the error is for those who use it: ``expand_home``


def user_config_dir() -> Path | None:
    """Return the user's configuration folder, or None where there is no home folder."""
    try:
        return Path(platformdirs.user_config_dir("icehouse", appauthor=False))
    except RuntimeError:
        return None


def user_collections_dir(configured: Path | None) -> Path | None:
    """Return the user's folder of collection files: the one set, else the usual one if there is one."""
    if configured is None and user_config_dir() is None:
        return None
    folder = own_collections_dir(configured)
    return folder if configured is not None or folder.is_dir() else None


def own_collections_dir(configured: Path | None) -> Path:
    """Return where the user's collection files belong: in the folder set, or next to the settings.

    Raises:
        ConfigurationError: none is set, and this user has no home folder.
    """
    if configured is not None:
        return expand_home(configured, "collections_dir")
    usual = user_config_dir()
    if usual is None:
        raise ConfigurationError(
            "there is no folder for your collection files: this user has no home folder",
            hint="set collections_dir (ICEHOUSE_COLLECTIONS_DIR)",
        )
    return usual / "collections"
