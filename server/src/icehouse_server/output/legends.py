"""Legends: what the colours of a style mean, as stops and as a picture."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.style import Style
from icehouse_server.output.map_tile import Samples, colour_table
from icehouse_server.output.png import png_bytes

_STOPS = 11
_WIDTH, _HEIGHT, _EDGE, _BAR = 320, 64, 10, 16
"""Pixels."""
_TICKS = 5
_TITLE, _LABEL = 13, 11
"""Sizes of letters in pixels."""
_INK, _PAPER = (32, 32, 32, 255), (255, 255, 255, 230)
_RGB_INKS = ((200, 30, 30, 255), (20, 130, 40, 255), (40, 70, 200, 255))


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """What a style's colours mean."""

    kind: str
    """``ramp``: colours for values; ``relief``: light and shadow; ``rgb``: three bands."""
    units: str
    stops: tuple[tuple[float, str], ...]
    """(value in ``units``, #rrggbb) along a ramp."""


def legend_of(style: Style, spec: CollectionSpec) -> Legend:
    """Return what a style's colours mean; its range must be known where it needs one."""
    if len(style.bands) > 1:
        return Legend(kind="rgb", units="", stops=())
    band = spec.band(style.bands[0])
    if not style.needs_rescale or style.rescale is None:
        return Legend(kind="relief", units=band.units, stops=())
    low, high = style.rescale[0]
    places = np.linspace(0, 1, _STOPS)
    colours = _ramp(style)[np.rint(places * 255).astype(np.intp)]
    stops = tuple(
        (
            _quantity(low + place * (high - low), band),
            "#{:02x}{:02x}{:02x}".format(*colour),
        )
        for place, colour in zip(places.tolist(), colours[:, :3].tolist(), strict=True)
    )
    return Legend(kind="ramp", units=band.units, stops=stops)


def legend_png(style: Style, spec: CollectionSpec) -> bytes:
    """Draw a style's legend: 320 x 64 pixels."""
    legend = legend_of(style, spec)
    image = Image.new("RGBA", (_WIDTH, _HEIGHT), _PAPER)
    draw = ImageDraw.Draw(image)
    title = style.title if legend.units in {"", "1"} else f"{style.title} ({legend.units})"
    draw.text((_EDGE, 4), title[:52], fill=_INK, font=ImageFont.load_default(_TITLE))
    if legend.kind == "ramp":
        _draw_ramp(image, draw, style, legend)
    elif legend.kind == "rgb":
        _draw_bands(draw, style, spec)
    else:
        _draw_bar(
            image, np.stack([np.arange(256, dtype=np.uint8)] * 3 + [np.full(256, 255, np.uint8)], axis=-1)
        )
        draw.text((_EDGE, 44), "shadow", fill=_INK, font=ImageFont.load_default(_LABEL))
        draw.text((_WIDTH - _EDGE, 44), "light", fill=_INK, font=ImageFont.load_default(_LABEL), anchor="ra")
    return png_bytes(np.asarray(image))


def _draw_ramp(image: Image.Image, draw: ImageDraw.ImageDraw, style: Style, legend: Legend) -> None:
    _draw_bar(image, _ramp(style))
    font = ImageFont.load_default(_LABEL)
    low, high = legend.stops[0][0], legend.stops[-1][0]
    for place in np.linspace(0, 1, _TICKS).tolist():
        x = _EDGE + place * (_WIDTH - 2 * _EDGE)
        anchor = "la" if place == 0 else "ra" if place == 1 else "ma"
        draw.text((x, 44), f"{low + place * (high - low):.5g}", fill=_INK, font=font, anchor=anchor)


def _draw_bands(draw: ImageDraw.ImageDraw, style: Style, spec: CollectionSpec) -> None:
    font = ImageFont.load_default(_LABEL)
    step = (_WIDTH - 2 * _EDGE) / len(style.bands)
    for number, (name, ink) in enumerate(zip(style.bands, _RGB_INKS, strict=True)):
        x = _EDGE + number * step
        draw.text((x, 24), name[:16], fill=ink, font=font)
        if style.rescale is not None:
            low, high = (_quantity(value, spec.band(name)) for value in style.rescale[number])
            draw.text((x, 42), f"{low:g} to {high:g}", fill=ink, font=font)


def _draw_bar(image: Image.Image, colours: Samples) -> None:
    places = np.linspace(0, 255, _WIDTH - 2 * _EDGE).round().astype(np.intp)
    bar = np.repeat(colours[places][None], _BAR, axis=0)
    image.alpha_composite(Image.fromarray(bar), (_EDGE, 24))


def _ramp(style: Style) -> Samples:
    """Return the 256 colours of a style of one band."""
    if style.colormap_name is not None:
        return colour_table(style.colormap_name)
    grey = np.arange(256, dtype=np.uint8)
    return np.stack([grey, grey, grey, np.full(256, 255, np.uint8)], axis=-1)


def _quantity(stored: float, band: BandSpec) -> float:
    """Return what a stored value of a band means, in its units."""
    return float(f"{stored * band.scale + band.offset:.9g}")
