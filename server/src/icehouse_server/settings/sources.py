"""Where settings come from: command line, environment, file, defaults; in that order of weight."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.hints import guess, shortened
from icehouse_server.core.toml_text import NotTomlError, read_toml
from icehouse_server.settings.folders import user_config_dir
from icehouse_server.settings.memory import memory_defaults, memory_limit
from icehouse_server.settings.model import Settings

PREFIX = "ICEHOUSE_"
FILE_NAME = "icehouse.toml"
NOT_SETTINGS = frozenset({"ICEHOUSE_URL", "ICEHOUSE_CONFIG", "ICEHOUSE_CHROMIUM", "ICEHOUSE_WITHOUT_PAGE"})
"""Variables of the same prefix that are not settings: the client's address, where the file is, and those of a
checkout (docs/contribute.md)."""


SECRETS = frozenset({"token"})
"""Settings whose values are shown nowhere."""


class Origin(StrEnum):
    """Where a value came from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsInForce:
    """Settings, and where each value came from."""

    settings: Settings
    origins: Mapping[str, str]
    """Field name to origin; for a file or a variable with its name."""


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
) -> SettingsInForce:
    """Read the settings.

    Args:
        overrides: values of the command line; None means not given.
        config: settings file; when None, ``ICEHOUSE_CONFIG``, ``icehouse.toml`` in the working folder or in
            the user's configuration folder, the first that there is.

    Raises:
        ConfigurationError: a key is unknown or a value impossible; names it and says what would be right.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, Origin.DEFAULT.value)
    path = _find_file(config)
    if path is not None:
        for key, value in _read_file(path).items():
            values[key], origins[key] = value, f"{Origin.FILE} {path}"
    for key, value in _read_environment().items():
        values[key], origins[key] = value, f"{Origin.ENVIRONMENT} {PREFIX}{key.upper()}"
    for key, value in (overrides or {}).items():
        if value is not None:
            values[key], origins[key] = value, Origin.COMMAND_LINE.value
    limit = memory_limit()
    for key, value in memory_defaults(limit).items() if limit is not None else ():
        if key not in values:
            values[key], origins[key] = value, f"{Origin.DEFAULT} for {limit}"
    try:
        return SettingsInForce(settings=Settings(**values), origins=origins)
    except ValidationError as error:
        raise _explain(error, origins) from None


def _find_file(config: Path | None) -> Path | None:
    named = config or (Path(os.environ["ICEHOUSE_CONFIG"]) if os.environ.get("ICEHOUSE_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigurationError(f"there is no settings file {named}")
        return named
    folders = (Path(), user_config_dir())
    usual = (folder / FILE_NAME for folder in folders if folder is not None)
    return next((path for path in usual if path.is_file()), None)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = read_toml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, NotTomlError) as error:
        raise ConfigurationError(f"the settings file {path} can't be read: {error}") from None
    for key in values:
        if key not in Settings.model_fields:
            raise ConfigurationError(
                f"unknown key {shortened(key)} in {path}", hint=guess(key, Settings.model_fields)
            )
    return values


def _read_environment() -> dict[str, Any]:
    known = [f"{PREFIX}{key.upper()}" for key in Settings.model_fields]
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known and name not in NOT_SETTINGS:
            raise ConfigurationError(f"unknown environment variable {name}", hint=guess(name, known))
    try:
        return EnvSettingsSource(Settings)()
    except (SettingsError, RecursionError) as error:
        raise ConfigurationError(
            f"{error}; a table is given as JSON", hint='such as {"https://a.org/": "http://127.0.0.1:9000/"}'
        ) from None


def _explain(error: ValidationError, origins: Mapping[str, str]) -> ConfigurationError:
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return ConfigurationError(message)
    field = Settings.model_fields.get(key)
    shown = "(not shown)" if key in SECRETS else shortened(first["input"])
    return ConfigurationError(
        f"{key} = {shown} ({origins.get(key, '')}): {message}",
        hint=(field.description or "") if field else "",
    )
