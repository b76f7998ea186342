"""How bands become a picture: styles, and what a collection has where its file names none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from icehouse_server.core.colormaps import COLORMAP_NAMES

if TYPE_CHECKING:
    from icehouse_server.core.collection import BandSpec

STYLE_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}")
"""Names of styles become parts of URLs and layers of other programs."""

_RGB = 3

_LARGEST = float(np.finfo(np.float32).max)
"""Of a range's ends: between larger ones, what a legend says of their middle might be no number."""

type Interval = tuple[float, float]
"""Lowest and highest value: the first and the last colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one band, or three as red, green and blue, become a picture."""

    name: str
    title: str
    bands: tuple[str, ...]
    """One band, or three: red, green, blue."""
    rescale: tuple[Interval, ...] | None = None
    """What of each band's stored values is shown; what lies beyond gets the first or the last colour."""
    colormap_name: str | None = None
    """One of rio-tiler's colour tables, for one band; grey without."""
    hillshade: bool = False
    """Shaded relief of one band; with a colour table, its colours shaded."""
    resampling: str | None = None
    """By GDAL's name; each band's own where None."""
    mask: str | None = None
    """A band without whose value, or where it is 0, nothing is shown: for bands without nodata."""

    def __post_init__(self) -> None:
        if not STYLE_PATTERN.fullmatch(self.name):
            raise ValueError(f"name: {self.name!r} can't be a style's: it must match {STYLE_PATTERN.pattern}")
        if len(self.bands) not in {1, _RGB} or len(set(self.bands)) != len(self.bands):
            raise ValueError("bands: a picture has one band, or three different ones as red, green and blue")
        self._check_values()
        self._check_colours()

    def _check_values(self) -> None:
        if self.rescale is None:
            return
        if len(self.rescale) == 1 and len(self.bands) == _RGB:
            object.__setattr__(self, "rescale", self.rescale * _RGB)
        elif len(self.rescale) != len(self.bands):
            raise ValueError(f"rescale: {len(self.rescale)} pairs for {len(self.bands)} band(s)")
        if not all(-_LARGEST <= low < high <= _LARGEST for low, high in self.rescale):
            raise ValueError("rescale: pairs of finite numbers, the lower one first, as float32 holds them")

    def _check_colours(self) -> None:
        if self.colormap_name is not None:
            if len(self.bands) != 1:
                raise ValueError("colormap_name: a colour table is for one band")
            if self.colormap_name not in COLORMAP_NAMES:
                raise ValueError(
                    f"colormap_name: {self.colormap_name[:40]!r} is none of rio-tiler's colour tables"
                )
        if self.hillshade and len(self.bands) != 1:
            raise ValueError("hillshade: needs exactly one band")
        if self.hillshade and self.rescale is not None and self.colormap_name is None:
            raise ValueError("rescale: shaded relief without colours takes none; give colormap_name as well")

    @property
    def needs_rescale(self) -> bool:
        """Whether colours follow from values, so that the values' range must be known."""
        return not self.hillshade or self.colormap_name is not None

    @property
    def read(self) -> tuple[str, ...]:
        """The bands that are read: those shown, and the mask."""
        return self.bands if self.mask in {None, *self.bands} else (*self.bands, str(self.mask))


def range_of(band: "BandSpec") -> Interval | None:
    """Return the range of an 8-bit band's values; None for others, of which the type says nothing."""
    if band.dtype.itemsize != 1:
        return None
    limits = np.iinfo(band.dtype.name)
    return float(limits.min), float(limits.max)


def ranges_of(bands: Sequence["BandSpec"]) -> tuple[Interval, ...] | None:
    """Return the ranges of 8-bit bands; None where one is none."""
    found = tuple(known for known in map(range_of, bands) if known is not None)
    return found if len(found) == len(bands) else None


def derived_styles(bands: tuple["BandSpec", ...]) -> tuple[Style, ...]:
    """Return the styles of a collection whose file names none.

    Args:
        bands: its default bands.
    """
    first = bands[:_RGB]
    colour = ranges_of(first) if len(first) == _RGB else None
    styles = [
        Style(
            name=band.name, title=band.long_name or band.name, bands=(band.name,), rescale=ranges_of((band,))
        )
        for band in bands
    ]
    if colour is not None:
        names = tuple(band.name for band in first)
        styles.insert(0, Style(name="rgb", title=", ".join(names), bands=names, rescale=colour))
    return tuple({style.name: style for style in reversed(styles)}.values())[::-1]
