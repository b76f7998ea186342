"""Parts of the daemon are filled from the settings, and the settings have the defaults of the parts."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from icehouse_server.core.limits import (
    ConnectionLimits,
    CubeSettings,
    DownloadSettings,
    JobSettings,
    ServiceSettings,
    StoreSettings,
    TileSettings,
)
from icehouse_server.settings import Settings, fill
from icehouse_server.settings.fill import setting_of
from icehouse_server.sources import SourceContext

PARTS = (
    ConnectionLimits,
    CubeSettings,
    DownloadSettings,
    JobSettings,
    ServiceSettings,
    SourceContext,
    StoreSettings,
    TileSettings,
)
WITHOUT_SETTING = {
    "absent_max_age",
    "block_bytes",
    "commit_timeout",
    "documents",
    "first_wait",
    "longest_wait",
    "pool",
    "unwanted",
    "user_agent",
}
"""Fields that are not set, or that the composition root works out."""

READ_AS_THEY_ARE = {
    "allowed_hosts",
    "cache_dir",
    "collections",
    "collections_dir",
    "cors_origins",
    "host",
    "log_format",
    "log_level",
    "max_body_bytes",
    "max_event_streams",
    "port",
    "public_url",
    "shutdown_timeout",
    "strict",
    "token",
    "token_file",
    "trusted_network",
    "trusted_proxies",
    "worker_threads",
}
"""Settings that belong to no part: the composition root and the command line read them."""


def leaves(part):
    """Every field of a part and of the parts in it, each with the part that it belongs to."""
    for field in fields(part):
        if field.init and is_dataclass(field.type):
            yield from leaves(field.type)
        elif field.init:
            yield part, field


FED = [(part, field) for top in PARTS for part, field in leaves(top)]


def test_every_field_has_a_setting_and_every_setting_a_field():
    without = {field.name for part, field in FED if setting_of(part, field) is None}
    assert without == WITHOUT_SETTING
    fed = {setting_of(part, field) for part, field in FED} - {None}
    assert fed == set(Settings.model_fields) - READ_AS_THEY_ARE


def test_the_defaults_of_settings_and_parts_are_the_same():
    for part, field in FED:
        name = setting_of(part, field)
        if name is not None and name != "mirrors":
            assert Settings.model_fields[name].default == field.default, name


OTHER = {
    name: "https://example.org" if name == "earthengine_url" else "other"
    for name in ("earthengine_project", "earthengine_credentials", "earthengine_url")
}


def changed(name):
    """Another value than the default."""
    default = Settings.model_fields[name].default
    if name == "mirrors":
        return {"https://a.org/": "https://b.org/"}
    if name == "max_cache_bytes":
        return 2**30
    return OTHER.get(name) or default + 1


@pytest.mark.parametrize("top", PARTS)
def test_every_field_is_fed(top):
    names = {setting_of(part, field) for part, field in leaves(top)} - {None}
    settings = Settings(**{name: changed(name) for name in names})
    given = {"documents": None, "pool": None} if top is SourceContext else {}

    def check(part, made):
        for field in fields(part):
            name = setting_of(part, field)
            if name is not None:
                assert getattr(made, field.name) == changed(name), name
            elif field.init and is_dataclass(field.type):
                check(field.type, getattr(made, field.name))

    check(top, fill(top, settings, **given))


def test_what_is_given_goes_before_the_settings():
    assert fill(DownloadSettings, Settings(), block_side=7, commit_timeout=1.5).block_side == 7
    with pytest.raises(TypeError, match="unknown"):
        fill(JobSettings, Settings(), unknown=1)
