"""From the settings to the values that parts of the daemon take: fields are matched by their names."""

from dataclasses import Field, fields, is_dataclass

from icehouse_server.core.limits import (
    ConnectionLimits,
    CubeSettings,
    EarthEngineSettings,
    MaintenanceSettings,
    RetryPolicy,
)
from icehouse_server.settings.model import Settings

_PREFIXES: dict[type, str] = {
    ConnectionLimits: "max_",
    RetryPolicy: "fetch_",
    CubeSettings: "cube_",
    MaintenanceSettings: "maintenance_",
    EarthEngineSettings: "earthengine_",
}
"""Parts whose settings begin with a word that their fields leave out: ``attempts`` is ``fetch_attempts``."""


def fill[T](part: type[T], settings: Settings, **given: object) -> T:
    """Make what a part of the daemon takes, from the settings.

    A field takes the setting of its name, or of its name behind the prefix of the part; a field that is such
    a part itself is filled in the same way. Where there is no such setting, the field keeps its default.

    Args:
        part: a dataclass.
        settings: the settings in force.
        given: values of fields that no setting holds, or that follow from several.
    """
    values = dict(given)
    for field in fields(part):  # type: ignore[arg-type]  # a dataclass, which no type can say
        if not field.init or field.name in given:
            continue
        name = setting_of(part, field)
        if name is not None:
            values[field.name] = getattr(settings, name)
        elif isinstance(field.type, type) and is_dataclass(field.type):
            values[field.name] = fill(field.type, settings)
    return part(**values)


def setting_of(part: type, field: Field[object]) -> str | None:
    """Return the name of the setting that fills a field of a part, or None."""
    names = (_PREFIXES.get(part, "") + field.name, field.name)
    return next((name for name in names if name in Settings.model_fields), None)
