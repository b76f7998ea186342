"""Cloud-Optimised GeoTIFF by GDAL's COG driver, in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling
from rasterio.io import DatasetReader, DatasetWriter, MemoryFile

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import NotAcceptableError
from icehouse_server.core.plan import Region
from icehouse_server.core.ports import Stack
from icehouse_server.core.time import written
from icehouse_server.output.cf_description import dataset_attrs
from icehouse_server.output.encoded import Part
from icehouse_server.output.scratch import IN_MEMORY, FilePart, Scratch
from icehouse_server.raster.crs import gdal_crs
from icehouse_server.raster.validity import equal, nodata_of, same, valid

BLOCK = 512
"""Side of a tile of the file, in pixels; overviews halve the raster until it fits one."""

OPTIONS = {
    "COMPRESS": "DEFLATE",
    "LEVEL": "1",
    "PREDICTOR": "YES",
    "BLOCKSIZE": str(BLOCK),
    "OVERVIEWS": "AUTO",
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "1",
}
"""Of what every reader can read the quickest. Measured on 4 MB of terrain, overview included: DEFLATE at
level 1 46 ms and 0.46 of the size, at level 6 25 ms more and 0.45, LZW slower and 0.57; ZSTD 32 ms, but many
readers of GeoTIFF lack it."""


_EXACT = 2**53
"""Integers up to here are doubles."""

_GDAL_MEMORY = 64 * 1024**2
"""Bytes for GDAL's buffers at most, while it computes overviews and compresses."""

_MOST_TILE = 32 * 1024**2
"""Bytes of a tile of all bands up to which bands are interleaved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raster:
    """The bands of a file: of one dtype and one nodata, as GeoTIFF asks for, and in one piece of memory."""

    values: Stack
    """(bands, rows, columns), C-contiguous: each band at each time step."""
    nodata: np.generic | None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The dtype of all bands."""
        return self.values.dtype


def encode_geotiff(coverage: Coverage, scratch: Scratch = IN_MEMORY) -> list[Part]:
    """Encode a coverage as a Cloud-Optimised GeoTIFF.

    A GeoTIFF has one dtype and one nodata for all bands. Bands of several dtypes are promoted to one that
    holds them all, and where their nodata differ the invalid pixels get one that no valid pixel holds; the
    tags ``icehouse_dtypes`` and ``icehouse_nodata`` then say what each band was. Where the collection has a
    time axis, the file has a band for each of our bands at each step, the steps of one band together, and
    describes it as ``<band> <start of the step>``. Overviews are averages, or nearest where a band's
    resampling is nearest or mode, as for classes and masks.

    Args:
        coverage: what to encode.
        scratch: where a large file is written.

    Returns:
        One part: the file.
    """
    raster = _unify(coverage)
    options = (
        OPTIONS | _interleave(len(raster.values), raster.dtype) | _of_dtype(coverage.region, raster.dtype)
    )
    with _as_dataset(coverage, raster) as memory, _with_long_nodata(memory, raster, scratch) as dataset:
        if scratch.wanted(raster.values.nbytes):
            with scratch.path(".tif", expected=_most_bytes(raster.values.nbytes)) as path:
                rasterio.shutil.copy(dataset, str(path), driver="COG", **options)
                return [FilePart(path)]
        with MemoryFile(ext=".tif") as file:
            rasterio.shutil.copy(dataset, file.name, driver="COG", **options)
            return [file.read()]


def geotiff_memory(region: Region, scratch: Scratch) -> int:
    """Return bytes that ``encode_geotiff`` takes at most, in addition to the pixels."""
    rows, cols = region.shape
    bands = region.bands
    dtype, alike = _promoted(*(band.dtype for band in bands)), _share_nodata(bands)
    if not alike and dtype.kind in "iu" and not _is_long(dtype):  # valid pixels may leave no value for nodata
        dtype = np.dtype(np.int16 if dtype.itemsize == 1 else np.float64)
    copied = not alike or _is_long(dtype) or any(band.dtype != dtype for band in bands)
    size = rows * cols * len(region.band_steps) * dtype.itemsize
    # All bands anew where they are not alike, with masks and copies of one of them at a time.
    unified = size + rows * cols * _steps(region) * (dtype.itemsize + 3) if copied else 0
    file = 0 if scratch.wanted(size) else 4 * _most_bytes(size)  # it is moved as it grows, and is read
    tile = BLOCK**2 * dtype.itemsize * len(region.band_steps)
    long = _most_bytes(size) if _is_long(dtype) and not scratch.wanted(size) else 0
    return unified + long + size // 3 + file + min(_GDAL_MEMORY, 2 * size + 4 * tile)


def _interleave(bands: int, dtype: np.dtype[np.generic]) -> dict[str, str]:
    """Return the option for files of very many bands, such as long time series: each band's tiles for itself.

    By default a tile holds all bands, and GDAL holds a tile in memory.
    """
    return {"INTERLEAVE": "BAND"} if bands * BLOCK**2 * dtype.itemsize > _MOST_TILE else {}


def _steps(region: Region) -> int:
    return 1 if region.times is None else len(region.times)


def _most_bytes(size: int) -> int:
    """Return how long a file of this many bytes of pixels can be, overviews and deflated noise included."""
    return size + size // 3 + size // 100 + (1 << 18)


@contextmanager
def _as_dataset(coverage: Coverage, raster: _Raster) -> Iterator[DatasetWriter]:
    """Show an array to GDAL as a dataset, without a copy."""
    bands, rows, cols = raster.values.shape
    transform = "/".join(repr(float(number)) for number in coverage.region.target.affine.to_gdal())
    name = (
        f"MEM:::DATAPOINTER={raster.values.ctypes.data:#x},PIXELS={cols},LINES={rows},BANDS={bands},"
        f"DATATYPE={_gdal_name(raster.dtype)},GEOTRANSFORM={transform}"
    )
    with (
        rasterio.Env(GDAL_MEM_ENABLE_OPEN="YES"),
        rasterio.open(name, "r+", driver="MEM") as dataset,
    ):
        dataset.crs = gdal_crs(coverage.region.target)
        if raster.nodata is not None and not _is_long(raster.dtype):
            dataset.nodata = raster.nodata.item()
        _describe(dataset, coverage, raster)
        yield dataset


@contextmanager
def _with_long_nodata(dataset: DatasetWriter, raster: _Raster, scratch: Scratch) -> Iterator[DatasetReader]:
    """Return the dataset with its nodata where that is an integer of 64 bits.

    rasterio sets a double, of which the COG driver takes nothing from memory; from a tag in a file it does.
    """
    if raster.nodata is None or not _is_long(raster.dtype):
        yield dataset
    elif scratch.wanted(raster.values.nbytes):
        with scratch.path(".tif", expected=_most_bytes(raster.values.nbytes)) as path:
            with _tagged(dataset, str(path), raster.nodata) as tagged:
                yield tagged
            path.unlink()
    else:
        with MemoryFile(ext=".tif") as file, _tagged(dataset, file.name, raster.nodata) as tagged:
            yield tagged


@contextmanager
def _tagged(dataset: DatasetWriter, name: str, nodata: np.generic) -> Iterator[DatasetReader]:
    rasterio.shutil.copy(dataset, name, driver="GTiff", BIGTIFF="IF_SAFER")
    with rasterio.open(name, "r+") as file:
        file.nodata = nodata.item()
    with rasterio.open(name) as file:
        yield file


def _is_long(dtype: np.dtype[np.generic]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize == 8  # noqa: PLR2004 - bytes


def _of_dtype(region: Region, dtype: np.dtype[np.generic]) -> dict[str, str]:
    """Return the options for dtypes that GDAL treats in a way of their own."""
    if dtype == np.float16:
        return {"PREDICTOR": "STANDARD"}  # that of floats is for longer ones
    if _is_long(dtype):
        return {"OVERVIEW_RESAMPLING": _overview_method(region).name.upper()}
    return {}


def _overview_method(region: Region) -> Resampling:
    methods = {region.resampling_of(band) for band, _ in region.band_steps}
    return Resampling.average if methods.isdisjoint({"nearest", "mode"}) else Resampling.nearest


def _gdal_name(dtype: np.dtype[np.generic]) -> str:
    return "Byte" if dtype == np.uint8 else dtype.name.title().replace("Uint", "UInt")


def _describe(dataset: DatasetWriter, coverage: Coverage, raster: _Raster) -> None:
    """Write descriptions and tags, and build the overviews.

    Here and not in the COG driver, which builds them through a temporary file: 46 ms instead of 86 in all.
    """
    region = coverage.region
    for index, (band, time) in enumerate(region.band_steps, 1):
        step = region.collection.step(time)
        dataset.set_band_description(
            index, band.name if step is None else f"{band.name} {written(step.start)}"
        )
        dataset.update_tags(index, long_name=band.long_name or band.name)
        if step is not None:
            dataset.update_tags(index, datetime=str(step))
    bands = [band for band, _ in region.band_steps]
    dataset.units = tuple(band.units for band in bands)
    dataset.scales = tuple(band.scale for band in bands)
    dataset.offsets = tuple(band.offset for band in bands)
    dataset.update_tags(AREA_OR_POINT="Area", **_tags(coverage, raster))
    factors = list(_factors(max(coverage.region.shape)))
    if factors and not _is_long(raster.dtype):  # their nodata comes later, and the COG driver builds them
        dataset.build_overviews(factors, _overview_method(region))


def _factors(size: int) -> Iterator[int]:
    factor = 2
    while size * 2 > BLOCK * factor:
        yield factor
        factor *= 2


def _tags(coverage: Coverage, raster: _Raster) -> dict[str, str]:
    tags = {
        name: ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
        for name, value in dataset_attrs(coverage).items()
        if name != "Conventions"
    }
    tags["TIFFTAG_IMAGEDESCRIPTION"] = coverage.region.collection.title
    if coverage.region.collection.attribution:
        tags["TIFFTAG_COPYRIGHT"] = coverage.region.collection.attribution
    bands = coverage.region.bands
    if any(band.dtype != raster.dtype for band in bands):
        tags["icehouse_dtypes"] = ", ".join(f"{band.name}={band.dtype.name}" for band in bands)
    if any(not same(nodata_of(band), raster.nodata) for band in bands):
        tags["icehouse_nodata"] = ", ".join(f"{band.name}={nodata_of(band)}" for band in bands)
    return tags


def _unify(coverage: Coverage) -> _Raster:
    """Give all bands one dtype and one nodata, which no valid pixel of any band holds."""
    bands = coverage.region.bands
    arrays = [coverage.bands[band.name] for band in bands]
    own = [nodata_of(band) for band in bands]
    dtype = _promoted(*(band.dtype for band in bands))
    _check_exact(dtype, bands, arrays)
    if _share_nodata(bands) and _is_printed(own[0], dtype):
        nodata = None if own[0] is None else dtype.type(own[0])
        return _Raster(values=_joined(coverage.region, arrays, dtype), nodata=nodata)
    dtype, common = _common_nodata(dtype, own, arrays)
    values = _joined(coverage.region, arrays, dtype, copy=True)
    for (array, nodata), unified in zip(
        zip(arrays, own, strict=True), values.reshape(len(bands), *arrays[0].shape), strict=True
    ):
        if nodata is not None:
            unified[equal(array, nodata)] = common
    return _Raster(values=values, nodata=common)


def _is_printed(nodata: np.generic | None, dtype: np.dtype[np.generic]) -> bool:
    """Return whether GDAL writes a nodata into its tag as it is: it gets a double, and 64 bits are none."""
    return nodata is None or not _is_long(dtype) or abs(int(nodata.item())) <= _EXACT


def _share_nodata(bands: Sequence[BandSpec]) -> bool:
    own = [nodata_of(band) for band in bands]
    return all(same(nodata, own[0]) for nodata in own)


def _joined(
    region: Region, arrays: Sequence[Stack], dtype: np.dtype[np.generic], *, copy: bool = False
) -> Stack:
    """Return arrays as one (bands, rows, columns): a view, where they lie one after the other in memory."""
    shape = (len(region.band_steps), *region.shape)
    first = arrays[0].ctypes.data
    neighbours = all(
        array.dtype == dtype
        and array.flags.c_contiguous
        and array.ctypes.data == first + index * array.nbytes
        for index, array in enumerate(arrays)
    )
    if neighbours and not copy:
        return np.lib.stride_tricks.as_strided(arrays[0], shape, _strides(shape, dtype.itemsize))
    joined = np.empty(shape, dtype=dtype)
    for array, part in zip(arrays, joined.reshape(len(arrays), *arrays[0].shape), strict=True):
        part[...] = array
    return joined


def _strides(shape: tuple[int, int, int], itemsize: int) -> tuple[int, int, int]:
    _, rows, cols = shape
    return rows * cols * itemsize, cols * itemsize, itemsize


def _promoted(*dtypes: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return a dtype that holds all of these: float64 in place of int64 where none of them is that long.

    float64 holds 32 bits exactly; of 64 bits it does not hold all, see ``_check_exact``.
    """
    dtype = np.result_type(*dtypes)
    return np.dtype(np.float64) if _is_long(dtype) and not any(map(_is_long, dtypes)) else dtype


def _check_exact(dtype: np.dtype[np.generic], bands: Sequence[BandSpec], arrays: Sequence[Stack]) -> None:
    """Refuse long integers that would change as doubles.

    Raises:
        NotAcceptableError: there are such.
    """
    for band, array in zip(bands, arrays, strict=True):
        changes = _is_long(band.dtype) and not _is_long(dtype) and array.size > 0
        if changes and max(int(array.max()), -int(array.min())) > _EXACT:
            raise NotAcceptableError(
                "a GeoTIFF has one data type for all bands, and none holds "
                f"{band.name!r} ({band.dtype.name}) together with the others",
                hint="ask for that band alone, or for another format: f=zarr, netcdf or npy",
            )


def _common_nodata(
    dtype: np.dtype[np.generic], own: Sequence[np.generic | None], arrays: Sequence[Stack]
) -> tuple[np.dtype[np.generic], np.generic]:
    """Return a dtype and a nodata that no valid pixel equals.

    First the bands' own, in their order, then ends of the dtype's range or NaN; where valid pixels hold all
    of them, a wider dtype has room.
    """
    for candidate in [*(nodata for nodata in own if nodata is not None), *_extremes(dtype)]:
        if _fits(candidate, dtype) and _is_printed(candidate, dtype):
            common = dtype.type(candidate)
            if not any(_holds(array, common, nodata) for array, nodata in zip(arrays, own, strict=True)):
                return dtype, common
    wider = _promoted(dtype, np.dtype(np.int16 if dtype.itemsize == 1 else np.float64))
    if wider == dtype or _is_long(dtype):
        raise NotAcceptableError(
            "valid pixels hold every value that the nodata of a GeoTIFF could have",
            hint="ask for fewer bands at once, or for another format",
        )
    return _common_nodata(wider, own, arrays)


def _holds(array: Stack, number: np.generic, nodata: np.generic | None) -> bool:
    """Return whether a valid pixel equals a number of a wider dtype."""
    with np.errstate(over="ignore"):
        if not _fits(number, array.dtype):
            return False
    found = equal(array, array.dtype.type(number))
    return bool(found.any()) and bool((found & valid(array, nodata)).any())


def _extremes(dtype: np.dtype[np.generic]) -> list[np.generic]:
    if dtype.kind == "f":
        lowest = np.finfo(dtype.name).min
        return [dtype.type(np.nan), *(dtype.type(lowest / 2**step) for step in range(64))]
    if _is_long(dtype):
        return [dtype.type(_EXACT - step) for step in range(64)]
    whole = np.iinfo(dtype.name)
    return [dtype.type(whole.min), dtype.type(whole.max)]


def _fits(number: np.generic, dtype: np.dtype[np.generic]) -> bool:
    """Return whether a dtype holds a number exactly."""
    if dtype.kind == "f":
        return same(dtype.type(number), number)
    value = number.item()
    limits = np.iinfo(dtype.name)
    return bool(np.isfinite(value) and value == int(value) and limits.min <= value <= limits.max)
