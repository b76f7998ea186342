"""What a collection is: a fixed grid, bands and a source."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from icehouse_server.core.errors import UnknownBandError, UnknownStyleError
from icehouse_server.core.grid import ChunkKey, Grid
from icehouse_server.core.style import Style, derived_styles
from icehouse_server.core.time import TimeAxis, TimeStep

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Collection ids become folder names: nothing that a path could give another meaning."""

BAND_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
"""Band names become array names in Zarr, NetCDF and attribute access in xarray."""

DTYPES = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
)
"""Data types of bands: those that Zarr and GDAL hold without loss. What a format lacks is refused there."""

RESAMPLINGS = (
    "nearest",
    "bilinear",
    "cubic",
    "cubic_spline",
    "lanczos",
    "average",
    "mode",
    "max",
    "min",
    "med",
    "q1",
    "q3",
    "sum",
    "rms",
)
"""GDAL's resampling methods, by rasterio's names."""

RESERVED_NAMES = frozenset({"x", "y", "time", "time_bnds", "latitude", "longitude", "spatial_ref", "band"})
"""Names that coordinates take in the repository and in every output format."""


def dtype_hint(found: str) -> str:
    """Return what to write for a band whose files are of a dtype: nothing that a collection file refuses."""
    if found in DTYPES:
        return f'write dtype = "{found}" for the band, if all files have that'
    return f"no band can have that; the dtypes are {', '.join(DTYPES)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSpec:
    """One band of a collection."""

    name: str
    dtype: np.dtype[np.generic]
    nodata: float | int | None
    """The value of invalid pixels: of floats NaN where none is given. None where every integer is valid:
    then there is no room for invalid pixels, and what lies outside of all data is 0."""
    units: str = ""
    """UDUNITS name, or empty."""
    long_name: str = ""
    resampling: str = "nearest"
    """Default resampling, by GDAL's name."""
    scale: float = 1.0
    """What a stored value is multiplied with, before ``offset`` is added, to become a quantity in ``units``
    (CF ``scale_factor``, ``add_offset``). Pixels are stored and given as they are."""
    offset: float = 0.0
    source: Mapping[str, object] = field(default_factory=dict)
    """What the source needs to know of this band, as written in the collection file."""

    def __post_init__(self) -> None:
        if not BAND_PATTERN.fullmatch(self.name) or self.name in RESERVED_NAMES:
            raise ValueError(
                f"{self.name!r} can't be a band's name: letters, digits and _, starting with a letter, "
                f"and none of {', '.join(sorted(RESERVED_NAMES))}"
            )
        if self.dtype.name not in DTYPES:
            raise ValueError(f"dtype {self.dtype.name!r} is not one of {', '.join(DTYPES)}")
        if not self.dtype.isnative:
            raise ValueError(f"dtype {self.dtype.str!r} has a foreign byte order; write {self.dtype.name!r}")
        if self.resampling not in RESAMPLINGS:
            raise ValueError(f"resampling {self.resampling!r} is not one of {', '.join(RESAMPLINGS)}")
        if self.nodata is not None:
            _check_nodata(self.nodata, self.dtype)
        elif self.dtype.kind == "f":
            object.__setattr__(self, "nodata", math.nan)
        if not (math.isfinite(self.scale) and self.scale and math.isfinite(self.offset)):
            raise ValueError("scale and offset are finite numbers, and scale is not 0")
        object.__setattr__(self, "source", MappingProxyType(dict(self.source)))

    @property
    def fill(self) -> np.generic:
        """What an invalid pixel holds: nodata, or 0 where a band of integers has none."""
        return self.dtype.type(0 if self.nodata is None else self.nodata)

    @property
    def is_scaled(self) -> bool:
        """Whether a stored value is another number than the quantity that it stands for."""
        return (self.scale, self.offset) != (1, 0)


def _check_nodata(nodata: float, dtype: np.dtype[np.generic]) -> None:
    is_float = dtype.kind == "f"
    limits = np.finfo(dtype.name) if is_float else np.iinfo(dtype.name)
    if not math.isfinite(nodata):
        fits = is_float
    else:
        fits = int(limits.min) <= nodata <= int(limits.max) and (is_float or nodata == int(nodata))
    if not fits:
        raise ValueError(f"nodata {nodata} does not fit {dtype.name} ({limits.min} to {limits.max})")


@dataclass(frozen=True, kw_only=True)
class CollectionSpec:
    """One datacube: what its file says, checked."""

    id: str
    title: str
    description: str
    grid: Grid
    bands: tuple[BandSpec, ...]
    default_bands: tuple[str, ...]
    """Bands of an answer where the request names none."""
    source_type: str
    """Entry point in the group ``icehouse.sources``."""
    source: Mapping[str, object]
    """The source's own settings, checked by the source."""
    home: str | None = None
    """Folder of the collection file, to which its relative paths are relative; None where it has none."""
    bbox: tuple[float, float, float, float]
    """Where there are data: west, south, east, north in degrees (CRS84)."""
    overviews: int | None = None
    """Levels above 0, at most: those that the source has overviews for. None: until one chunk holds all."""
    time: TimeAxis | None = None
    """The time axis, or None for a collection without one."""
    interval: tuple[str | None, str | None] = (None, None)
    """When the data were taken: RFC 3339 instants, None for open."""
    license: str = "other"
    """SPDX identifier, or ``other``."""
    attribution: str = ""
    citation: str = ""
    keywords: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """(title, href) of pages about the data."""
    styles: tuple[Style, ...] = ()
    """How it is shown, the default first; derived from the default bands where none is given."""

    def __post_init__(self) -> None:
        if not ID_PATTERN.fullmatch(self.id):
            raise ValueError(f"{self.id!r} can't be a collection's id: it must match {ID_PATTERN.pattern}")
        names = [band.name for band in self.bands]
        if not names or len(set(names)) != len(names):
            raise ValueError("a collection has at least one band, and no two of one name")
        unknown = [name for name in self.default_bands if name not in names]
        if unknown or not self.default_bands:
            raise ValueError(f"default_bands names {unknown or 'nothing'}; the bands are {', '.join(names)}")
        if not self.styles:
            object.__setattr__(self, "styles", derived_styles(self.select(None)))
        self._check_styles(names)

    def _check_styles(self, bands: Sequence[str]) -> None:
        if len({style.name for style in self.styles}) != len(self.styles):
            raise ValueError("style names must be unique")
        for style in self.styles:
            unknown = [name for name in style.read if name not in bands]
            if unknown:
                raise ValueError(
                    f"styles.{style.name}: there is no band {unknown[0]!r}; the bands are {', '.join(bands)}"
                )
            if style.resampling not in {None, *RESAMPLINGS}:
                raise ValueError(
                    f"styles.{style.name}.resampling: {style.resampling!r} is not one of "
                    f"{', '.join(RESAMPLINGS)}"
                )

    def style(self, name: str) -> Style:
        """Return the style of a name.

        Raises:
            UnknownStyleError: there is none.
        """
        for style in self.styles:
            if style.name == name:
                return style
        raise UnknownStyleError(
            f"collection {self.id!r} has no style {name[:80]!r}",
            hint=f"its styles are {', '.join(style.name for style in self.styles)}",
        )

    def band(self, name: str) -> BandSpec:
        """Return the band of a name.

        Raises:
            UnknownBandError: there is none.
        """
        for band in self.bands:
            if band.name == name:
                return band
        raise UnknownBandError(
            f"collection {self.id!r} has no band {name[:80]!r}",
            hint=f"its bands are {', '.join(band.name for band in self.bands)}",
        )

    def select(self, names: Sequence[str] | None) -> tuple[BandSpec, ...]:
        """Return the bands of these names in the order asked for, or the default ones."""
        return tuple(self.band(name) for name in (names or self.default_bands))

    def step(self, time: int | None) -> TimeStep | None:
        """Return a step of the time axis by its number; None for None.

        Raises:
            ValueError: a collection without a time axis has none.
        """
        if time is None:
            return None
        if self.time is None:
            raise ValueError(f"collection {self.id!r} has no time axis")
        return self.time.step(time)

    @cached_property
    def grids(self) -> tuple[Grid, ...]:
        """The grid of each level, the collection's own first."""
        levels = self.grid.levels
        count = levels if self.overviews is None else min(levels, 1 + self.overviews)
        return tuple(self.grid.shrunk(level) for level in range(count))

    def key(self, band: str, row: int, col: int, time: int | None = None, level: int = 0) -> ChunkKey:
        """Return the key of a chunk; ``time`` numbers a step, where there is a time axis."""
        return ChunkKey(collection=self.id, level=level, band=band, time=time, row=row, col=col)
