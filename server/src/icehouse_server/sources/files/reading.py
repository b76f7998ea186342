"""Opening local files: header and pixels, by GDAL, in formats that are self-contained. Runs in threads."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from icehouse_server.core.collection import BandSpec, dtype_hint
from icehouse_server.core.errors import SourceCorruptError, SourceRefusedError, SourceUnavailableError
from icehouse_server.core.geometry.horizontal import horizontal
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.raster.file_facts import FileFacts, facts_of
from icehouse_server.raster.units import Units
from icehouse_server.raster.validity import judge, shown_by
from icehouse_server.sources.cog.georeference import (
    NO_CRS,
    SET_CRS,
    UNRELATED,
    WARP_IT,
    NorthUp,
    UnplacedError,
    north_up,
    same_crs,
    unrelated,
)
from icehouse_server.sources.cog.levels import Level, usable
from icehouse_server.sources.files import formats
from icehouse_server.sources.raster.warping import Scaled, scaled

_GDAL_OPTIONS = {
    # Nothing next to a file is looked at: .ovr, .msk and .aux.xml may be of any format and name other files.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_SKIP": "VRT",
}

_EXACT = 2**53
"""Integers up to here are doubles."""

_MAX_PIXELS = 128 * 1024 * 1024
"""Pixels of a file that one tile may be made from."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FolderEntry:
    """One file as the folder lists it."""

    name: str
    """Path relative to the folder, with slashes. The order of names is the order of precedence."""
    size: int
    changed: int
    """Nanoseconds since 1970."""

    @property
    def version(self) -> str:
        """What identifies the content."""
        return f"{self.changed}-{self.size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself."""

    entry: FolderEntry
    dtypes: tuple[str, ...]
    """Of the bands, by numpy's names."""
    geobox: GeoBox
    """Where it lies, at full resolution; north up."""
    place: NorthUp
    """How its rows lie."""
    levels: tuple[Level, ...]
    """Full resolution and overviews."""
    tag: str | None
    """TIFFTAG_DATETIME."""
    units: tuple[Units | None, ...]
    """Of the bands; None where the file does not say."""

    def at(self, grid: Grid) -> Scaled:
        """Return the file at the level that suits a grid."""
        return _scaled(tuple(level.shape for level in self.levels), self.geobox, grid)


@lru_cache(maxsize=4096)
def _scaled(shapes: tuple[tuple[int, int], ...], geobox: GeoBox, grid: Grid) -> Scaled:
    """Do once for a file what every tile asks for."""
    return scaled(shapes, geobox, grid)


def list_folder(root: Path, pattern: str) -> list[FolderEntry]:
    """Return the files of a folder that match a pattern, by name. Links are not followed: they are no files.

    Raises:
        SourceRefusedError: the folder is not there, or holds no such file.
        SourceUnavailableError: it can't be listed.
    """
    if not root.is_dir() or str(root.resolve()).startswith("/vsi"):  # which GDAL takes for a file system
        raise SourceRefusedError(f"there is no folder {root}", hint="correct folder under [source]")
    real = root.resolve()
    found, plain = [], {real: True}
    try:
        for path in real.glob(pattern):
            state, parent = path.lstat(), path.parent
            # A link may also stand above the file, where the pattern names a folder.
            if parent not in plain:
                plain[parent] = parent.resolve() == parent
            if stat.S_ISREG(state.st_mode) and plain[parent]:
                name = path.relative_to(real).as_posix()
                found.append(FolderEntry(name=name, size=state.st_size, changed=state.st_mtime_ns))
    except OSError as error:
        raise SourceUnavailableError(f"the folder {root} can't be listed: {error.strerror}") from error
    if not found:  # a disk that is not mounted looks like this: nothing must be taken for void
        raise SourceRefusedError(
            f"no file of the folder {root} matches {pattern!r}", hint="correct pattern under [source]"
        )
    return sorted(found)


def read_header(root: Path, entry: FolderEntry, grid: Grid) -> Header:
    """Read where a file lies and what it holds.

    Raises:
        SourceCorruptError: it is in no format that is read, or does not say where it lies.
        SourceUnavailableError: it changed, or can't be opened.
    """
    with _opened(root, entry) as dataset:
        place = _place(dataset, entry)
        crs = CRS(horizontal(dataset.crs.to_wkt()))
        if reason := unrelated(str(crs), str(grid.crs)):
            raise corrupt(entry, reason, hint=UNRELATED)
        geobox = GeoBox(dataset.shape, place.affine, grid.crs if same_crs(str(grid.crs), str(crs)) else crs)
        return Header(
            entry=entry,
            dtypes=dataset.dtypes,
            geobox=geobox,
            place=place,
            levels=_levels(dataset),
            tag=dataset.tags().get("TIFFTAG_DATETIME"),
            units=tuple(map(Units.of_file, dataset.scales, dataset.offsets)),
        )


def _place(dataset: rasterio.DatasetReader, entry: FolderEntry) -> NorthUp:
    """Return how a file's rows lie, or say what it lacks."""
    if dataset.transform.is_identity:  # what GDAL has where there is none
        unplaced = UnplacedError(len(dataset.gcps[0]))
        raise corrupt(entry, str(unplaced), hint=unplaced.hint)
    if dataset.crs is None:
        raise corrupt(entry, NO_CRS, hint=SET_CRS)
    place = north_up(dataset.transform, dataset.shape)
    if place is None:
        raise corrupt(entry, "its pixels are not north up: it is rotated or mirrored", hint=WARP_IT)
    return place


def _levels(dataset: rasterio.DatasetReader) -> tuple[Level, ...]:
    """Return the levels of a file; the size of an overview is known once it is opened."""
    full, overviews = Level(shape=dataset.shape), []
    for number in range(len(dataset.overviews(1))):
        with formats.reopened(dataset, number) as overview:
            masked = overview.mask_flag_enums[0] == dataset.mask_flag_enums[0]
            if masked and overview.dtypes == dataset.dtypes:
                overviews.append(Level(shape=overview.shape, number=number))
    return usable(full, overviews)


def read_bands(
    root: Path, header: Header, file: Scaled, window: Window, wanted: Sequence[tuple[BandSpec, int]]
) -> list[tuple[Pixels, Mask]]:
    """Read a window of some bands.

    Args:
        root: the folder.
        header: of the file.
        file: the same at the level that suits the grid.
        window: pixels of the file at its level.
        wanted: bands of the collection, and the file's band of each, from 1.

    Returns:
        For each band values (rows, columns) and True = valid: not masked, not nodata, not NaN.

    Raises:
        SourceCorruptError: it does not decode, or a band is not as the collection says.
        SourceUnavailableError: it changed, or can't be opened.
    """
    entry = header.entry
    for band, index in wanted:
        _check(header, band, index)
    if window.pixels > _MAX_PIXELS:
        raise corrupt(
            entry,
            f"{window.height} x {window.width} of its pixels are needed at once, which is too much",
            hint="give it overviews (gdaladdo), or let the collection have finer pixels",
        )
    level = header.levels[file.level]
    window = header.place.in_file(window, level.shape[0])
    with _opened(root, entry, level.number) as dataset:
        if dataset.shape != level.shape:
            raise corrupt(entry, f"its overview {level.number} has the wrong size")
        area = RasterWindow(window.col, window.row, window.width, window.height)
        read = [_read(dataset, area, band, index, entry) for band, index in wanted]
    return [(values[::-1], valid[::-1]) for values, valid in read] if header.place.flipped else read


def read_facts(root: Path, entry: FolderEntry) -> FileFacts:
    """Read what a file says of itself, whatever a collection would need.

    Raises:
        SourceCorruptError: it is in no format that is read, or does not say where it lies.
        SourceUnavailableError: it changed, or can't be opened.
    """
    with _opened(root, entry) as dataset:
        place = _place(dataset, entry)
        return replace(facts_of(dataset, entry.name), transform=place.affine)


def corrupt(entry: FolderEntry, detail: str, hint: str = "") -> SourceCorruptError:
    """Return the error that names a file."""
    return SourceCorruptError(f"file {entry.name!r}: {detail}", item=entry.name, hint=hint)


def _check(header: Header, band: BandSpec, index: int) -> None:
    if index > len(header.dtypes):
        raise corrupt(header.entry, f"it has {len(header.dtypes)} band(s), band {index} was asked for")
    found = header.dtypes[index - 1]
    if found != band.dtype.name:
        raise corrupt(
            header.entry,
            f"its data type is {found}, band {band.name!r} has {band.dtype.name}",
            hint=dtype_hint(found),
        )
    units = header.units[index - 1]
    if units is not None and not units.are_those_of(band):
        raise corrupt(header.entry, units.refusal(band), hint=units.hint)


def _read(
    dataset: rasterio.DatasetReader, area: RasterWindow, band: BandSpec, index: int, entry: FolderEntry
) -> tuple[Pixels, Mask]:
    values: Pixels = dataset.read(index, window=area)
    flags = dataset.mask_flag_enums[index - 1]
    has_mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
    mask = dataset.read_masks(index, window=area) if has_mask else None
    alphas = [number for number, kind in enumerate(dataset.colorinterp, 1) if kind == ColorInterp.alpha]
    opaque = dataset.read(alphas[0], window=area) if alphas and alphas[0] != index else None
    own = _nodata(dataset, area, index, values)
    shown = shown_by((area.height, area.width), mask, opaque)
    valid, clashes = judge(values, shown, band.nodata if own is None else own, band)
    if clashes:
        raise corrupt(
            entry,
            f"{clashes} valid pixel(s) hold {band.nodata}, which band {band.name!r} uses for nodata; "
            f"the file's own nodata is {own}",
        )
    return values, valid


def _nodata(
    dataset: rasterio.DatasetReader, area: RasterWindow, index: int, values: Pixels
) -> float | int | None:
    """Return the file's own nodata.

    rasterio gives a double, where GDAL compares long integers exactly: then its mask shows which it is.
    """
    own: float | None = dataset.nodatavals[index - 1]
    if own is None or values.dtype.kind == "f" or abs(own) <= _EXACT:
        return own
    hidden = values[dataset.read_masks(index, window=area) == 0]
    return int(hidden[0]) if hidden.size else own


@contextmanager
def _opened(root: Path, entry: FolderEntry, overview: int | None = None) -> Iterator[rasterio.DatasetReader]:
    """Open a file, unchanged since it was listed and until the end of the block."""
    path = root.resolve() / entry.name
    _check_unchanged(path, entry)
    try:
        with (
            rasterio.Env(**_GDAL_OPTIONS),
            formats.opened(path, overview) as dataset,
        ):
            yield dataset
    except (RasterioError, OSError, NotGeoreferencedWarning) as error:
        _check_unchanged(path, entry)
        raise corrupt(entry, f"GDAL can't read it: {str(error)[:200]}") from error
    _check_unchanged(path, entry)


def _check_unchanged(path: Path, entry: FolderEntry) -> None:
    """Hold a file against the list: it may be written while it is read."""
    try:
        state = path.lstat()
    except OSError:
        state = None
    same = state is not None and stat.S_ISREG(state.st_mode)
    if state is None or not same or (state.st_size, state.st_mtime_ns) != (entry.size, entry.changed):
        raise SourceUnavailableError(f"file {entry.name!r} was changed while it was read", item=entry.name)
    if not os.access(path, os.R_OK):
        raise corrupt(entry, "the daemon may not read it")
