"""computePixels: the limits of a request, and its answer as an NPY file."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from affine import Affine

from support.earthengine.expression import evaluate
from support.earthengine.images import EarthEngineError, Image
from support.earthengine.places import PixelGrid, read_crs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.earthengine.images import Band

REQUEST_BYTES: Final = 48 * 2**20
"""Most bytes of a request: its pixels times the bytes of all bands and one more, the mask's, for each."""
DIMENSION: Final = 32 * 1024
BANDS: Final = 1024
GARBAGE: Final = 113
"""What lies under the mask when the rules ask for garbage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the stand-in treats those who ask. All can be changed while it runs."""

    concurrency: int = 40
    """Requests under way at once; more are answered with 429."""
    per_minute: int = 6000
    """Requests a minute; more are answered with 429."""
    memory_limit: int | None = None
    """Most pixels times bands of a request; more are "User memory limit exceeded."."""
    garbage: bool = False
    """Send `GARBAGE` where pixels are masked, else 0: what Earth Engine sends is not documented."""
    token: str | None = None
    """The Bearer token that everybody must show; `/token` hands it out. None lets everybody in."""
    denied: bool = False
    """Refuse everybody with 403: the account has no right to the project."""
    restricted: bool = False
    """Say in a header that parallel requests are restricted."""


def compute_pixels(document: Mapping[str, Any], rules: Rules) -> bytes:
    """The answer to a body of computePixels.

    Raises:
        EarthEngineError: the request is refused.
    """
    value = evaluate(document.get("expression") or {})
    if not isinstance(value, Image):
        raise EarthEngineError("Image.computePixels: the expression does not evaluate to an image.")
    return render(value, document, rules)


def render(image: Image, document: Mapping[str, Any], rules: Rules) -> bytes:
    """An image as the NPY file that `fileFormat`, `bandIds` and `grid` of a request ask for.

    Raises:
        EarthEngineError: the request is refused.
    """
    file_format = document.get("fileFormat")
    if file_format != "NPY":
        raise EarthEngineError(f"fileFormat '{file_format}' is not supported by the stand-in.")
    if document.get("bandIds"):
        image = image.select(document["bandIds"])
    if not image.bands:
        raise EarthEngineError("Image has no bands.")
    grid = _grid(document.get("grid") or {}, image)
    _check(grid, image, rules)
    taken: list[str] = []
    bands = [replace(band, name=_free(band.name, taken)) for band in image.bands]
    pixels = np.empty((grid.height, grid.width), dtype=[(band.name, band.type.dtype) for band in bands])
    for place in grid.strips():
        rows = slice(place.row, place.row + place.shape[0])
        for original, band in zip(image.bands, bands, strict=True):
            values, valid = original.at(place)
            masked = GARBAGE if rules.garbage else 0
            pixels[band.name][rows] = np.where(valid, values, np.asarray(masked, dtype=values.dtype))
    file = io.BytesIO()
    np.save(file, pixels, allow_pickle=False)
    return file.getvalue()


def _free(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_1"
    taken.append(name)
    return name


def _check(grid: PixelGrid, image: Image, rules: Rules) -> None:
    """Refuse what is too large."""
    width, height, number = grid.width, grid.height, len(image.bands)
    if width <= 0 or height <= 0:
        raise EarthEngineError("Pixel grid dimensions must be positive.")
    if max(width, height) > DIMENSION:
        raise EarthEngineError(
            f"Pixel grid dimensions ({width}x{height}) must be less than or equal to {DIMENSION}."
        )
    if number > BANDS:
        raise EarthEngineError(f"Number of bands ({number}) must be less than or equal to {BANDS}.")
    size = width * height * sum(band.type.dtype.itemsize + 1 for band in image.bands)
    if size > REQUEST_BYTES:
        raise EarthEngineError(
            f"Total request size ({size} bytes) must be less than or equal to {REQUEST_BYTES} bytes."
        )
    if rules.memory_limit is not None and width * height * number > rules.memory_limit:
        raise EarthEngineError("User memory limit exceeded.")


def _grid(document: Mapping[str, Any], image: Image) -> PixelGrid:
    """The grid of a request; without one, that of the image."""
    if not document:
        return _native(image.bands[0])
    try:
        affine, size = document["affineTransform"], document["dimensions"]
        grid = PixelGrid(
            width=int(size["width"]),
            height=int(size["height"]),
            affine=Affine(
                float(affine["scaleX"]),
                float(affine.get("shearX", 0)),
                float(affine.get("translateX", 0)),
                float(affine.get("shearY", 0)),
                float(affine["scaleY"]),
                float(affine.get("translateY", 0)),
            ),
            crs=str(document.get("crsCode") or document["crsWkt"]),
        )
    except (KeyError, TypeError) as error:
        raise EarthEngineError(f"Invalid value at 'grid': {error}") from error
    try:
        read_crs(grid.crs)
    except ValueError as error:
        raise EarthEngineError(str(error)) from error
    return grid


def _native(band: Band) -> PixelGrid:
    if band.dimensions is None:
        raise EarthEngineError("Unable to compute pixels of an unbounded image: 'grid' is missing.")
    width, height = band.dimensions
    return PixelGrid(width=width, height=height, affine=Affine(*band.transform), crs=band.crs)
