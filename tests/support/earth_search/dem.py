"""The Copernicus DEM of the Earth Search stand-in: which degrees exist, and how high every place lies.

As in the real product, pixel centres lie on whole multiples of the spacing, so that a file begins half a
pixel outside its degree, in the north and in the west, and ends half a pixel inside. Nothing here reads a
file or a socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from affine import Affine

from support.earth_search.pixels import grain, wave

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from support.earth_search.pixels import Axis

COP_DEM: Final = "cop-dem-glo-30"
BUCKET: Final = "copernicus-dem-30m"
_ROWS: Final = 3600
_SPACINGS: Final = ((50, 1.0), (60, 1.5), (70, 2.0), (80, 3.0), (85, 5.0), (90, 10.0))
"""Degrees of latitude, north or south, below which the spacing of longitudes is this many arc seconds."""
_HALF_SECONDS: Final = 7200
"""Half arc seconds in a degree: every spacing is a multiple of one."""
_STEP_M: Final = 1 / 8


@dataclass(frozen=True, slots=True, order=True)
class Degree:
    """One item: a square of one degree, named by its south-west corner."""

    latitude: int
    longitude: int

    @property
    def name(self) -> str:
        """Such as "N50_00_E010_00"."""
        north = f"{'N' if self.latitude >= 0 else 'S'}{abs(self.latitude):02d}"
        return f"{north}_00_{'E' if self.longitude >= 0 else 'W'}{abs(self.longitude):03d}_00"

    @property
    def item_id(self) -> str:
        """Such as "Copernicus_DSM_COG_10_N50_00_E010_00_DEM"."""
        return f"Copernicus_DSM_COG_10_{self.name}_DEM"

    @property
    def key(self) -> str:
        """The object's key in the bucket."""
        return f"{self.item_id}/{self.item_id}.tif"

    @property
    def seconds(self) -> float:
        """Spacing of longitudes in arc seconds; that of latitudes is one everywhere."""
        middle = abs(self.latitude + 0.5)
        return next(seconds for limit, seconds in _SPACINGS if middle < limit)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the raster."""
        return _ROWS, int(_ROWS / self.seconds)

    @property
    def affine(self) -> Affine:
        """Pixel corner to degrees, north up."""
        across, down = self.seconds / 3600, 1 / 3600
        return Affine(across, 0, self.longitude - across / 2, 0, -down, self.latitude + 1 + down / 2)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the raster; that of W180 begins west of -180."""
        across, down = self.seconds / 7200, 1 / 7200
        west, south = self.longitude - across, self.latitude + down
        return west, south, west + 1, south + 1


DEGREES: Final = tuple(
    Degree(latitude, longitude)
    for latitude, longitudes in (
        (-86, (20,)),  # 10 and 5 arc seconds meet
        (-85, (20,)),
        (-18, (179, -180)),  # the antimeridian, at 1 arc second
        (48, (11, 12)),  # N48 E010 is ocean, and so is all else that is not listed
        (49, (10, 11)),
        (50, (10, 11)),  # 1 and 1.5 arc seconds meet
        (67, (178, 179, -180, -179)),  # the antimeridian, at 2 arc seconds
        (84, (20,)),
        (85, (20,)),
    )
    for longitude in longitudes
)
"""Every item there is."""


def parse_key(key: str) -> Degree:
    """The degree of an object's key.

    Raises:
        KeyError: if there is no such object.
    """
    return {degree.key: degree for degree in DEGREES}[key]


def render(
    degree: Degree, row: int = 0, column: int = 0, shape: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """A window of an item's raster; all of it by default.

    Args:
        degree: The item.
        row: First row of the window; `column` likewise.
        column: First column.
        shape: Rows and columns of the window.

    Returns:
        float32 metres, (rows, columns), north first.
    """
    rows, columns = shape or degree.shape
    latitudes = degree.latitude + 1 - (row + np.arange(rows)) / 3600
    longitudes = degree.longitude + (column + np.arange(columns)) * degree.seconds / 3600
    return elevation(longitudes, latitudes)


def elevation(longitudes: Axis, latitudes: Axis) -> NDArray[np.float32]:
    """How high places lie that are pixel centres of some item: a function of the place alone.

    Args:
        longitudes: Degrees east, shape (nx,); 180 and -180 are one place.
        latitudes: Degrees north, shape (ny,).

    Returns:
        float32 metres in steps of 1/8, about 0 to 700, shape (ny, nx).
    """
    east = np.rint(np.asarray(longitudes) * _HALF_SECONDS) % (360 * _HALF_SECONDS)
    north = np.rint(np.asarray(latitudes) * _HALF_SECONDS)
    across = np.floor(1_600 * wave(east / 9_000)) + grain(east, 1)
    down = np.floor(3_200 * wave(north / 10_800)) + grain(north, 2)
    heights: NDArray[Any] = (down[:, None] + across[None, :]) * _STEP_M
    return heights.astype(np.float32)
