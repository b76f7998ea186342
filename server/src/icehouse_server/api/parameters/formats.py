"""Which format a caller asks for: by ``f``, by a suffix or by ``Accept``."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Path, Query
from pydantic import WithJsonSchema

from icehouse_server import output
from icehouse_server.api.openapi.schemas import Schema
from icehouse_server.core.errors import BadParameterError, NotAcceptableError

COVERAGES: Mapping[str, Sequence[str]] = {name: media.accepted for name, media in output.FORMATS.items()}
"""Formats of a region and the media types of each, its own first."""

PICTURES: Mapping[str, Sequence[str]] = {name: (media,) for name, media in output.PICTURES.items()}
"""Formats of a picture and their media types."""

_FORMAT: Schema = {"type": "string", "enum": list(COVERAGES), "examples": ["netcdf"]}
_SUFFIX: Schema = {
    "type": "string",
    "enum": [media.suffix.removeprefix(".") for media in output.FORMATS.values()],
    "examples": ["nc"],
}
_PICTURE: Schema = {"type": "string", "enum": list(PICTURES), "examples": ["png"]}

_F = Query(alias="f", description="Format; overrides Accept.")
_OF_THE_FORMAT = Path(description="Of the format.")

Format = Annotated[str | None, _F, WithJsonSchema(_FORMAT)]
Suffix = Annotated[str, _OF_THE_FORMAT, WithJsonSchema(_SUFFIX)]
PictureFormat = Annotated[str | None, _F, WithJsonSchema(_PICTURE)]
PictureSuffix = Annotated[str, _OF_THE_FORMAT, WithJsonSchema(_PICTURE)]


def choose_format(
    among: Mapping[str, Sequence[str]], f: str | None, accept: str | None, *, parameter: str = "f"
) -> str:
    """Return the name of the format asked for.

    Args:
        among: ``COVERAGES`` or ``PICTURES``.
        f: the name, if one was given.
        accept: the header, which counts where no name was given.
        parameter: by which the name was given.

    Raises:
        BadParameterError: ``f`` names none.
        NotAcceptableError: ``Accept`` names none that there is.
    """
    if f is not None:
        if f not in among:
            raise BadParameterError(
                parameter, f"{parameter}: {f[:20]!r} is not a format", hint=f"one of {', '.join(among)}"
            )
        return f
    chosen = output.negotiate(accept, among)
    if chosen is None:
        raise NotAcceptableError(
            "none of the media types in Accept can be given",
            hint=", ".join(own for own, *_ in among.values()),
        )
    return chosen
