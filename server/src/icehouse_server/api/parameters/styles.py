"""The query parameters that describe a picture."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import WithJsonSchema

from icehouse_server.api.openapi.schemas import Schema
from icehouse_server.api.parameters.bands import (
    Bands,
    BandsText,
    ResamplingText,
    parse_resampling,
    read_bands,
)
from icehouse_server.api.parameters.numbers import parse_numbers
from icehouse_server.api.parameters.patterns import SPACED_NUMBER, described
from icehouse_server.api.parameters.time_steps import DatetimeText, parse_datetime
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.colormaps import COLORMAP_NAMES
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.style import STYLE_PATTERN, Interval, Style, ranges_of

_PAIRS = (2, 6)
"""Numbers that one ``rescale`` may hold: for one band, or for all three."""

_STYLE: Schema = {"type": "string", "format": "style", "pattern": described(STYLE_PATTERN.pattern)}
_PAIR = f"{SPACED_NUMBER},{SPACED_NUMBER}"
_RESCALE: Schema = {
    "type": "array",
    "items": {"type": "string", "format": "rescale", "pattern": f"^{_PAIR}(,{_PAIR},{_PAIR})?$"},
    "minItems": 1,
    "maxItems": 3,
    "examples": [["0,1000"]],
}
_COLORMAP: Schema = {"type": "string", "format": "colormap", "pattern": "^[a-z0-9_]{1,40}$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleQuery:
    """A style of the collection, or one of the caller's own."""

    style: Annotated[
        str | None,
        Query(description="One of the collection's styles, its `renders`; the first when left out."),
        WithJsonSchema(_STYLE),
    ] = None
    properties: Annotated[
        BandsText, Query(description="One band, or three as red, green and blue, between commas.")
    ] = None
    bands: Bands = None
    rescale: Annotated[
        list[str] | None,
        Query(description="low,high of the stored values; repeated, or all in one, for three bands."),
        WithJsonSchema(_RESCALE),
    ] = None
    colormap_name: Annotated[
        str | None,
        Query(description="One of rio-tiler's colour tables, for one band."),
        WithJsonSchema(_COLORMAP),
    ] = None
    hillshade: Annotated[
        Literal["true", "false"] | None,
        Query(description="Shaded relief of one band; with colormap_name its colours, shaded."),
        WithJsonSchema({"type": "string", "enum": ["true", "false"]}),
    ] = None
    resampling: Annotated[
        ResamplingText, Query(description="GDAL resampling; each band's own by default.")
    ] = None
    datetime: Annotated[DatetimeText, Query(description="One time step; the newest when left out.")] = None

    def wanted(self, spec: CollectionSpec) -> Style:
        """Return the style that is asked for.

        What is given changes the style that ``style`` names. Without it, ``properties``, ``rescale``,
        ``colormap_name`` and ``hillshade`` describe a plain picture of their own.

        Raises:
            UnknownStyleError: the collection has no such style.
            UnknownBandError: it has no such band.
            BadParameterError: the parameters do not go together.
        """
        names = self._bands()
        rescale = None if self.rescale is None else _pairs(self.rescale)
        parse_resampling(self.resampling, spec)
        base = self._base(spec, names)
        changes = {
            "bands": names,
            "rescale": rescale,
            "colormap_name": self.colormap_name,
            "hillshade": None if self.hillshade is None else self.hillshade == "true",
            "resampling": self.resampling,
        }
        # Any: each member of a style has a type of its own.
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        spec.select(names)
        try:
            style = replace(base, **given)
        except ValueError as error:
            raise _refusal(str(error), self.bands) from None
        return _complete(style, spec)

    def time(self, spec: CollectionSpec) -> int | None:
        """Return the number of the time step; None where the collection has no time axis.

        Raises:
            BadParameterError: it names more than one step, or there is no time axis.
            UnknownTimeError: there is no such step.
        """
        if spec.time is not None and self.datetime is None and (count := spec.time.count(datetime.now(UTC))):
            return count - 1
        times = parse_datetime(self.datetime, spec)
        if times is None:
            return None
        if len(times) != 1:
            raise BadParameterError(
                "datetime", f"datetime: a tile shows one time step, and {len(times)} are named"
            )
        return times[0]

    def _bands(self) -> tuple[str, ...] | None:
        names = read_bands(self.properties, self.bands)
        return None if names is None else tuple(names)

    def _base(self, spec: CollectionSpec, names: tuple[str, ...] | None) -> Style:
        """Return the style that the parameters change."""
        if self.style is not None:
            return spec.style(self.style)
        own = (names, self.rescale, self.colormap_name, self.hillshade)
        if all(value is None for value in own):
            return spec.styles[0]
        shown = names or spec.styles[0].bands
        if len(shown) not in {1, 3}:
            raise BadParameterError(
                self._name, f"{self._name}: a picture has one band, or three, not {len(shown)}"
            )
        return Style(name="custom", title=", ".join(shown), bands=shown)

    @property
    def _name(self) -> str:
        return "bands" if self.properties is None and self.bands is not None else "properties"


def _pairs(given: list[str]) -> tuple[Interval, ...]:
    numbers = [number for text in given for number in parse_numbers(text, "rescale", _PAIRS)]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _refusal(said: str, bands: str | None) -> BadParameterError:
    """Return the refusal of what a style may not be; ``said`` begins with the member concerned."""
    name, _, rest = said.partition(": ")
    if name == "bands" and bands is None:
        name = "properties"
    hint = f"one of {', '.join(sorted(COLORMAP_NAMES))}" if name == "colormap_name" else ""
    return BadParameterError(name, f"{name}: {rest}", hint=hint)


def known_rescale(style: Style, spec: CollectionSpec) -> tuple[Interval, ...] | None:
    """Return a style's range: its own, of another style of the same bands, or of bytes; None without any."""
    if style.rescale is not None or not style.needs_rescale:
        return style.rescale
    known = (other.rescale for other in spec.styles if other.bands == style.bands and other.rescale)
    return next(known, None) or ranges_of(spec.select(style.bands))


def _complete(style: Style, spec: CollectionSpec) -> Style:
    """Return a style with its range.

    Raises:
        BadParameterError: nothing says between which values the colours lie.
    """
    if not style.needs_rescale:
        return style
    rescale = known_rescale(style, spec)
    if rescale is None:
        raise BadParameterError(
            "rescale",
            f"rescale: required for {', '.join(style.bands)}: nothing says which values are shown",
            hint="give rescale=low,high, or a style with it in the collection file",
        )
    return replace(style, rescale=rescale)
