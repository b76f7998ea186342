"""The CF description of a coverage: names, dimensions, coordinates and attributes for Zarr and NetCDF alike.

It follows CF-1.10 (grid mappings, section 5.6) and what odc-geo, rioxarray and GDAL agree on in addition:
``spatial_ref`` holds the CRS as WKT and ``GeoTransform`` the affine in GDAL's order, so that each of them
gives back the very geobox.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from icehouse_server.core.cf_attributes import TIME_ATTRIBUTES, TIME_UNITS, scaling
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.ports import Stack
from icehouse_server.core.time import TimeStep
from icehouse_server.raster.crs import crs_of
from icehouse_server.raster.validity import nodata_of

GRID_MAPPING = "spatial_ref"
"""Name of the variable that holds the CRS: the one that odc-geo and rioxarray look for."""

TIME = "time"
TIME_BOUNDS = "time_bnds"

CONVENTIONS = "CF-1.10"

_UNITS = MappingProxyType({"metre": "m", "meter": "m", "degree": "degree", "kilometre": "km", "foot": "ft"})
"""PROJ's unit names to UDUNITS symbols where they are not the same word."""

type Value = str | int | float | list[float]
"""What an attribute holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One array with its dimensions and attributes."""

    name: str
    dims: tuple[str, ...]
    values: NDArray[np.generic]
    attrs: Mapping[str, Value]
    nodata: np.generic | None = None
    """Value of invalid elements, of the array's dtype (``_FillValue``), or None where all are valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A dataset: attributes and variables."""

    attrs: Mapping[str, Value]
    coordinates: tuple[Variable, ...]
    """Times and their bounds, where there is a time axis, rows, columns, the grid mapping; in this order."""
    bands: tuple[Variable, ...]

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Coordinates, then bands."""
        return *self.coordinates, *self.bands


def describe(coverage: Coverage) -> Description:
    """Describe a coverage as a CF dataset; the pixels are not copied."""
    region = coverage.region
    dims = _dims(region.target) if region.times is None else (TIME, *_dims(region.target))
    times = () if region.times is None else _times(region.steps)
    return Description(
        attrs=dataset_attrs(coverage),
        coordinates=(*times, *_axes(region.target), _grid_mapping(region.target)),
        bands=tuple(_band(band, dims, coverage.bands[band.name]) for band in region.bands),
    )


def dataset_attrs(coverage: Coverage) -> dict[str, Value]:
    """Return the attributes of a coverage as a whole; what is not known is left out.

    There is no ``history`` and no date: the same pixels of the same snapshot are the same bytes.
    """
    spec = coverage.region.collection
    attrs: dict[str, Value] = {
        "Conventions": CONVENTIONS,
        "title": spec.title,
        "collection": spec.id,
        "attribution": spec.attribution,
        "license": spec.license,
        "references": spec.citation,
        "icehouse_snapshot": coverage.snapshot,
    }
    if coverage.region.level:
        attrs["icehouse_level"] = coverage.region.level
    if coverage.failed:
        # One text: NetCDF 3, and so SciPy's writer, holds no list of texts.
        attrs["icehouse_failed_chunks"] = ", ".join(entry.chunk for entry in coverage.failed)
    return {name: value for name, value in attrs.items() if value}


def geo_transform(geobox: GeoBox) -> str:
    """Return the affine in GDAL's order (c, a, b, f, d, e), each number so that it reads back exactly."""
    return " ".join(repr(float(number)) for number in geobox.affine.to_gdal())


def _times(steps: Sequence[TimeStep]) -> tuple[Variable, Variable]:
    """Return the time coordinate, which is where each step starts, and its bounds (CF 1.10, 7.1)."""
    bounds = np.array([step.seconds for step in steps], dtype=np.int64).reshape(-1, 2)
    return (
        Variable(name=TIME, dims=(TIME,), values=bounds[:, 0].copy(), attrs=TIME_ATTRIBUTES),
        Variable(name=TIME_BOUNDS, dims=(TIME, "bnds"), values=bounds, attrs=TIME_UNITS),
    )


def _dims(geobox: GeoBox) -> tuple[str, str]:
    rows, cols = geobox.dimensions
    return str(rows), str(cols)


def _band(band: BandSpec, dims: tuple[str, ...], values: Stack) -> Variable:
    nodata = nodata_of(band)
    attrs: dict[str, Value] = {"long_name": band.long_name or band.name}
    if band.units:
        attrs["units"] = band.units
    if nodata is not None:
        attrs["nodata"] = nodata.item()
    attrs |= scaling(band)
    attrs["grid_mapping"] = GRID_MAPPING
    # xarray takes a variable for a coordinate only where one says so, and odc-geo looks among coordinates.
    attrs["coordinates"] = GRID_MAPPING
    return Variable(name=band.name, dims=dims, values=values, attrs=attrs, nodata=nodata)


def _axes(geobox: GeoBox) -> tuple[Variable, Variable]:
    """Return the coordinates of rows and columns, as odc-geo's ``xr_coords`` computes them.

    Pixel centres in the CRS, float64; where the geobox is rotated no such axis exists, and they are centres
    in pixels, float32, which odc-geo and GDAL place by ``GeoTransform``.
    """
    rows, cols = _dims(geobox)
    if not geobox.axis_aligned:
        values = [np.arange(0.5, int(size), dtype=np.float32) for size in geobox.shape]
        pixel: dict[str, Value] = {"units": "pixel"}
        return (
            Variable(name=rows, dims=(rows,), values=values[0], attrs=pixel),
            Variable(name=cols, dims=(cols,), values=values[1], attrs=pixel),
        )
    labels = geobox.coordinates
    attrs = _axis_attrs(crs_of(geobox))
    return (
        Variable(name=rows, dims=(rows,), values=labels[rows].values, attrs=attrs[0]),
        Variable(name=cols, dims=(cols,), values=labels[cols].values, attrs=attrs[1]),
    )


def _axis_attrs(crs: CRS) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return CF attributes of the axes y and x.

    By kind of CRS and not by the axes that the CRS defines: those of the polar stereographic ones both point
    north or south, and ours are always x and y.
    """
    if crs.geographic:
        return (
            {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
            {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"},
        )
    axes = crs.proj.axis_info
    unit = str(axes[0].unit_name) if axes else "metre"
    units = _UNITS.get(unit, unit)
    return (
        {
            "standard_name": "projection_y_coordinate",
            "long_name": "y coordinate of projection",
            "units": units,
            "axis": "Y",
        },
        {
            "standard_name": "projection_x_coordinate",
            "long_name": "x coordinate of projection",
            "units": units,
            "axis": "X",
        },
    )


def _grid_mapping(geobox: GeoBox) -> Variable:
    epsg, attrs = _crs_attrs(str(crs_of(geobox)))
    return Variable(
        name=GRID_MAPPING,
        dims=(),
        values=np.asarray(epsg, dtype=np.int32),
        attrs={**attrs, "GeoTransform": geo_transform(geobox)},
    )


@lru_cache(maxsize=64)
def _crs_attrs(name: str) -> tuple[int, Mapping[str, Value]]:
    """Return the EPSG code (0: none) and the grid mapping's attributes; PROJ needs milliseconds for them."""
    crs = CRS(name)
    wkt = str(crs.proj.to_wkt())
    attrs: dict[str, Value] = {name: _plain(value) for name, value in crs.proj.to_cf().items()}
    attrs |= {"crs_wkt": wkt, "spatial_ref": wkt}
    return int(crs.epsg or 0), MappingProxyType(attrs)


def _plain(value: str | float | Sequence[float]) -> Value:
    """Return a grid mapping parameter as text or number, or a list where there are two of it."""
    return value if isinstance(value, str | int | float) else [float(part) for part in value]
