"""The overviews of a file that are used: of the sizes that the file states, in order, pixels left square.

Writers differ in factors (GDAL takes 2, 4, 8, 14 for some files) and in rounding (GDAL up, libvips down), so
sizes are never computed. As in GDAL, an overview covers the whole file whatever its size.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from async_geotiff import GeoTIFF
from async_tiff import ImageFileDirectory

type Shape = tuple[int, int]
"""(rows, columns)."""

_REDUCED, _MASK = 1, 4
"""Bits of TIFF's NewSubfileType."""

_ALIKE = ("bits_per_sample", "sample_format")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Full resolution, or an overview."""

    shape: Shape
    number: int | None = None
    """GDAL's number of the overview, from 0; None for full resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLevel(Level):
    """A level of a GeoTIFF, and where its pixels are."""

    image: ImageFileDirectory
    mask: ImageFileDirectory | None


def usable[L: Level](full: L, overviews: Iterable[L]) -> tuple[L, ...]:
    """Return the full resolution and the overviews that are coarser both ways alike, from fine to coarse."""
    found = {level.shape: level for level in overviews if _is_overview(full.shape, level.shape)}
    return (full, *sorted(found.values(), key=lambda level: math.prod(level.shape), reverse=True))


def _is_overview(full: Shape, shape: Shape) -> bool:
    """Return whether there is a factor above 1 of which both sides are made, rounded up or down."""
    if min(shape) < 1 or shape == full or any(side > whole for side, whole in zip(shape, full, strict=True)):
        return False
    least = max(whole / (side + 1) for whole, side in zip(full, shape, strict=True))
    most = min(whole / (side - 1) if side > 1 else math.inf for whole, side in zip(full, shape, strict=True))
    return least < most


def tiff_levels(geotiff: GeoTIFF) -> tuple[TiffLevel, ...]:
    """Return the levels of a GeoTIFF.

    Other images of it (pages, thumbnails of another kind) are not overviews. Nor are those without a mask
    where the full resolution has one: what is masked there would be a value here.
    """
    main, reduced = geotiff.ifd, [ifd for ifd in geotiff.tiff.ifds[1:] if _kind(ifd) & _REDUCED]
    masks = {_shape(ifd): ifd for ifd in reduced if _kind(ifd) & _MASK}
    images = [ifd for ifd in reduced if not _kind(ifd) & _MASK]
    full = TiffLevel(shape=_shape(main), image=main, mask=geotiff.mask_ifd)
    return usable(full, _overviews(main, images, masks, masked=full.mask is not None))


def _overviews(
    main: ImageFileDirectory,
    images: Sequence[ImageFileDirectory],
    masks: dict[Shape, ImageFileDirectory],
    *,
    masked: bool,
) -> Iterable[TiffLevel]:
    counted = (image for image in images if image.samples_per_pixel == main.samples_per_pixel)  # as GDAL does
    for number, image in enumerate(counted):
        mask = masks.get(_shape(image))
        alike = all(getattr(main, name) == getattr(image, name) for name in _ALIKE)
        if alike and (mask is not None or not masked):
            yield TiffLevel(shape=_shape(image), number=number, image=image, mask=mask)


def _kind(ifd: ImageFileDirectory) -> int:
    return ifd.new_subfile_type or 0


def _shape(ifd: ImageFileDirectory) -> Shape:
    return int(ifd.image_height), int(ifd.image_width)
