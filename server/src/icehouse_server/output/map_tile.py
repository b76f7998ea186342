"""From the pixels of a coverage and a style to a picture: colours, relief, hatch, PNG and WebP."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from icehouse_server.core.coverage import Coverage
from icehouse_server.core.geometry.ground_resolution import ground_resolution
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.core.style import Interval, Style
from icehouse_server.output.hillshade import FLAT, exaggeration, hillshade
from icehouse_server.output.png import indexed_png_bytes, png_bytes
from icehouse_server.raster.validity import visible

if TYPE_CHECKING:
    from rio_tiler.types import GDALColorMapType

type Samples = NDArray[np.uint8]
"""(rows, columns, 2) grey and alpha, or (rows, columns, 4) red, green, blue and alpha."""

PICTURES: Mapping[str, str] = MappingProxyType({"png": "image/png", "webp": "image/webp"})
"""Formats of pictures, and their media types."""

_WEBP_QUALITY, _WEBP_METHOD = 85, 0
"""The quickest method: a better one takes three times as long for a third less."""
_GREY = 2
_HATCH_PERIOD, _HATCH_LINE = 16, 2
"""Pixels; the period divides the sides of tiles, so that the lines go on over their edges."""
_HATCH = np.array([[128, 128, 128, 24], [128, 128, 128, 150]], dtype=np.uint8)
"""Ground and line, readable on light and dark."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What a picture is made from: the pixels of a style's bands, with a margin where it needs one."""

    coverage: Coverage
    style: Style
    margin: int
    """Pixels on each side of the coverage that are no part of the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """A picture of at most 256 colours: a quarter of the bytes, and a fifth of the time to compress them."""

    numbers: Samples
    """(rows, columns): which colour."""
    colours: Samples
    """(256, 4) red, green, blue, alpha."""

    @property
    def samples(self) -> Samples:
        """The same as (rows, columns, 4) red, green, blue and alpha."""
        return self.colours[self.numbers]


def draw(sheet: Sheet) -> Samples | Indexed:
    """Return a sheet's picture: transparent where one of its bands is invalid."""
    style, region = sheet.style, sheet.coverage.region
    inner = (slice(sheet.margin, -sheet.margin or None),) * 2
    pixels = {
        band.name: cast("Pixels", sheet.coverage.bands[band.name].reshape(region.shape))
        for band in region.bands
    }
    masks = {band.name: cast("Mask", visible(pixels[band.name], band)) for band in region.bands}
    if style.mask is not None:
        masks[style.mask] &= pixels[style.mask] != 0
    shown = np.logical_and.reduce([mask[inner] for mask in masks.values()])
    alpha = shown.astype(np.uint8) * np.uint8(255)
    layers: list[Samples] = []
    if style.needs_rescale:
        ranges = zip(style.bands, style.rescale or (), strict=True)
        layers = [scaled(pixels[name][inner], shown, values) for name, values in ranges]
    if style.hillshade:
        name = style.bands[0]
        shades = _shades(region.target[inner], pixels[name], masks[name])
        if style.colormap_name is None:
            return np.stack([shades, alpha], axis=-1)
        return _with_alpha(shaded_table(style.colormap_name)[layers[0], shades], alpha)
    if style.colormap_name is not None:
        return _coloured(layers[0], shown, colour_table(style.colormap_name))
    return np.stack([*layers, alpha], axis=-1)


def scaled(values: Pixels, shown: Mask, interval: Interval) -> Samples:
    """Return values as 0 to 255 between two of them, as rio-tiler rescales; 0 where nothing is shown."""
    from rio_tiler.utils import linear_rescale  # noqa: PLC0415 - it takes half a second to import

    known = values if shown.all() else np.where(shown, values, values.dtype.type(0))
    samples = linear_rescale(known, interval).astype(np.uint8)
    return samples if known is values else np.where(shown, samples, np.uint8(0))


def _shades(geobox: GeoBox, heights: Pixels, valid: Mask) -> Samples:
    across, down = ground_resolution(geobox)
    return hillshade(heights, valid, across, down, exaggeration(np.sqrt(across * down)))


def _coloured(numbers: Samples, shown: Mask, table: Samples) -> Samples | Indexed:
    """Return a picture by a colour table; what is not shown gets a colour that the picture does not need."""
    if shown.all():
        return Indexed(numbers=numbers, colours=table)
    unused = np.flatnonzero(np.bincount(numbers[shown], minlength=len(table)) == 0)
    if not unused.size:
        return _with_alpha(table[numbers], shown.astype(np.uint8) * np.uint8(255))
    colours = table.copy()
    colours[unused[0]] = 0
    return Indexed(numbers=np.where(shown, numbers, np.uint8(unused[0])), colours=colours)


def _with_alpha(samples: Samples, alpha: Samples) -> Samples:
    samples[..., 3] = np.minimum(samples[..., 3], alpha)
    return samples


@lru_cache(maxsize=32)
def colour_table(name: str) -> Samples:
    """Return a colour table of rio-tiler's: (256, 4) red, green, blue, alpha."""
    from rio_tiler.colormap import cmap, make_lut  # noqa: PLC0415 - it takes half a second to import

    table: Samples = make_lut(cast("GDALColorMapType", cmap.get(name)))
    table.flags.writeable = False
    return table


@lru_cache(maxsize=8)
def shaded_table(name: str) -> Samples:
    """Return a colour table at each shade: (256, 256, 4), of a colour's number and a shade.

    Shadows are darker, and lit slopes lighter; a plain has the colour itself.
    """
    colours = colour_table(name).astype(np.float32)[:, None, :]
    light = (np.arange(256, dtype=np.float32) / FLAT)[None, :, None]
    darker, lighter = colours * light, 255 - (255 - colours) * (2 - light)
    table = np.where(light <= 1, darker, lighter).round().astype(np.uint8)
    table[..., 3] = colour_table(name)[:, None, 3]
    table.flags.writeable = False
    return table


def hatch(picture: Samples | Indexed | None, where: Mask) -> Samples:
    """Return a picture with a hatch where something is not shown; it goes on over the edges of tiles.

    Args:
        picture: what is shown, or None where there is nothing but the hatch.
        where: (rows, columns), True = hatched.
    """
    rows, cols = where.shape
    diagonal = np.add.outer(np.arange(rows), np.arange(cols)) % _HATCH_PERIOD
    pattern = _HATCH[(diagonal < _HATCH_LINE).astype(np.intp)]
    if picture is None:
        return np.where(where[..., None], pattern, np.uint8(0))
    return np.where(where[..., None], pattern, _in_colour(picture))


def cut(picture: Samples | Indexed, where: Mask) -> Samples:
    """Return a picture that is transparent but where it is said to be kept: (rows, columns), True = kept."""
    samples = _in_colour(picture).copy()
    samples[~where, -1] = 0
    return samples


def _in_colour(picture: Samples | Indexed) -> Samples:
    """Return (rows, columns, 4) red, green, blue and alpha."""
    samples = picture.samples if isinstance(picture, Indexed) else picture
    return samples[..., [0, 0, 0, 1]] if samples.shape[-1] == _GREY else samples


def encode_picture(picture: Samples | Indexed, name: str) -> bytes:
    """Return the file of a picture, in one of the formats of ``PICTURES``."""
    if name == "png":
        return (
            indexed_png_bytes(picture.numbers, picture.colours)
            if isinstance(picture, Indexed)
            else png_bytes(picture)
        )
    file = io.BytesIO()
    Image.fromarray(_in_colour(picture)).save(file, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_METHOD)
    return file.getvalue()
