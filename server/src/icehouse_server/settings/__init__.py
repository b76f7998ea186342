"""Settings: one TOML file plus ``ICEHOUSE_*`` environment variables."""

from icehouse_server.settings.fill import fill
from icehouse_server.settings.folders import own_collections_dir, user_collections_dir
from icehouse_server.settings.model import Settings
from icehouse_server.settings.sources import Origin, SettingsInForce, load_settings

__all__ = [
    "Origin",
    "Settings",
    "SettingsInForce",
    "fill",
    "load_settings",
    "own_collections_dir",
    "user_collections_dir",
]
