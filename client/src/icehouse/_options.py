"""Keyword options of calls about a region, as types. Nothing is imported from here when a program runs.

`Collection` spells its parameters out, with defaults. Whoever passes them on (`Client`, `load_like`) takes
`**options: Unpack[...]` of these types, so that editors complete them and type checkers compare the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

    from icehouse._progress import ProgressCallback
    from icehouse._request import Resampling, When


class RegionOptions(TypedDict, total=False):
    """What every call about a region takes."""

    bands: str | Sequence[str] | None
    datetime: When
    level: int | None
    timeout: float | None


class RasterOptions(RegionOptions, total=False):
    """What calls add whose answer is a raster, or is about one."""

    resampling: Resampling | None


class PlanOptions(RasterOptions, total=False):
    """Options of `plan`."""

    like: xr.Dataset | xr.DataArray | None


class LoadLikeOptions(RasterOptions, total=False):
    """Options of `load_like`."""

    chunks: Mapping[str, int] | None
    progress: bool | ProgressCallback | None
    fail_on_error: bool


class LoadOptions(LoadLikeOptions, total=False):
    """Options of `load`."""

    like: xr.Dataset | xr.DataArray | None


class JobOptions(RegionOptions, total=False):
    """Options of `refresh` and `truncate`."""

    crs: object


class SeedOptions(JobOptions, total=False):
    """Options of `seed`."""

    whole: bool


class PointOptions(TypedDict, total=False):
    """Options of `point`."""

    x: float | None
    y: float | None
    crs: str | None
    datetime: When
    timeout: float | None


class InventoryOptions(TypedDict, total=False):
    """Options of `inventory`, whose level is always a number: nothing is chosen by the size of cells."""

    crs: str | None
    level: int
    bands: str | Sequence[str] | None
    datetime: When
    cell: int
    timeout: float | None
