"""The parameters ``properties`` and ``bands``, which mean the same, and ``resampling``."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Query
from pydantic import WithJsonSchema

from icehouse_server.api.openapi.schemas import Schema, nullable
from icehouse_server.core.collection import BAND_PATTERN, RESAMPLINGS, CollectionSpec
from icehouse_server.core.errors import BadParameterError

_NAME = f" *{BAND_PATTERN.pattern} *"
SCHEMA: Schema = {
    "type": "string",
    "format": "band-names",
    "pattern": f"^{_NAME}(,{_NAME})*$",
    "examples": ["dem"],
}
RESAMPLING: Schema = {"type": "string", "enum": list(RESAMPLINGS), "examples": ["bilinear"]}

BandsText = Annotated[str | None, WithJsonSchema(SCHEMA)]
"""Bands in a query; what it means to leave them out, each route says."""

Properties = Annotated[
    BandsText, Query(description="Bands, between commas; the collection's default bands when left out.")
]
ExcludeProperties = Annotated[
    str | None,
    Query(
        alias="exclude-properties",
        description="Bands to leave out, between commas: the answer has all others; where empty, all.",
    ),
    WithJsonSchema({**SCHEMA, "pattern": f"^({_NAME}(,{_NAME})*)?$"}),
]
SomeBands = Annotated[BandsText, Query(description="Bands, between commas.")]
Bands = Annotated[BandsText, Query(description="The same as properties; give one of them.")]
BandList = Annotated[
    list[str] | None,
    nullable(
        {
            "type": "array",
            "items": {"type": "string", "format": "band-name", "minLength": 1},
            "minItems": 1,
            "uniqueItems": True,
            "examples": [["dem"]],
        }
    ),
]
"""``bands`` in a body."""

ResamplingText = Annotated[str | None, WithJsonSchema(RESAMPLING)]
Resampling = Annotated[
    ResamplingText, Query(description="GDAL resampling for all bands; each band's own by default.")
]
ResamplingTable = Annotated[
    str | dict[str, str] | None,
    nullable(
        {
            "anyOf": [RESAMPLING, {"type": "object", "additionalProperties": RESAMPLING}],
            "examples": ["bilinear", {"dem": "nearest"}],
        }
    ),
]
"""``resampling`` in a body."""


def read_bands(properties: str | None, bands: str | None) -> list[str] | None:
    """Read ``properties`` or ``bands``; None where neither is given.

    Raises:
        BadParameterError: both are given, or one can't be used.
    """
    if properties is None:
        return parse_bands(bands, "bands")
    if bands is not None:
        raise BadParameterError("bands", "bands: means the same as properties; give one of them")
    return parse_bands(properties, "properties")


def read_excluded(excluded: str | None, named: list[str] | None, spec: CollectionSpec) -> list[str] | None:
    """Return the bands that are named, or all but those of ``exclude-properties``.

    Raises:
        BadParameterError: bands are named and excluded, or none is left.
        UnknownBandError: a band that there is not.
    """
    name = "exclude-properties"
    if excluded is None:
        return named
    if named is not None:
        raise BadParameterError(name, f"{name}: give it, or properties or bands, not both")
    left_out = (parse_bands(excluded, name) or []) if excluded.strip(" ") else []
    for band in left_out:
        spec.band(band)
    kept = [band.name for band in spec.bands if band.name not in left_out]
    if not kept:
        raise BadParameterError(name, f"{name}: no band is left", hint="leave one of them out")
    return kept


def parse_bands(text: str | None, parameter: str = "bands") -> list[str] | None:
    """Read a comma list of band names; None where nothing is asked for."""
    return None if text is None else check_bands([name.strip(" ") for name in text.split(",")], parameter)


def check_bands(names: list[str], parameter: str = "bands") -> list[str]:
    """Check a list of band names.

    Raises:
        BadParameterError: it is empty, or holds an empty name, or one twice.
    """
    if not names or not all(names):
        raise BadParameterError(parameter, f"{parameter}: a band's name is empty", hint="such as dem,mad")
    if len(set(names)) != len(names):
        raise BadParameterError(parameter, f"{parameter}: a band is named twice", hint="such as dem,mad")
    return names


def parse_resampling(text: str | Mapping[str, str] | None, spec: CollectionSpec) -> dict[str, str]:
    """Return resampling by band name; one word holds for all bands.

    Raises:
        BadParameterError: no GDAL resampling.
        UnknownBandError: a table names a band that there is not.
    """
    if text is None:
        return {}
    table = {band.name: text for band in spec.bands} if isinstance(text, str) else dict(text)
    for name, method in table.items():
        spec.band(name)
        if method not in RESAMPLINGS:
            raise BadParameterError(
                "resampling",
                f"resampling: {method[:40]!r} is unknown",
                hint=f"one of {', '.join(RESAMPLINGS)}",
            )
    return table
