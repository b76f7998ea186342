"""Looks at a folder of files, and says what a collection file for it holds."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from odc.geo.crs import CRS

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.drafts.draft import Draft, DraftBand, Inquiry, Inspector, Remark, band_names, id_of
from icehouse_server.core.errors import BadParameterError, SourceCorruptError, SourceError, SourceRefusedError
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.home import expand_home
from icehouse_server.raster.file_facts import FileFacts
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.files.dated_names import TimeAxis, time_axis
from icehouse_server.sources.files.reading import FolderEntry, list_folder, read_facts
from icehouse_server.sources.files.settings import FilesTable
from icehouse_server.sources.raster.draft_bands import draft_band, is_storable
from icehouse_server.sources.raster.draft_grid import ChosenGrid, PlacedRaster, choose_grid

_BATCH = 64
"""Headers that a thread reads in one go."""

_NAMED = 5
"""Files that a comment names."""

_SUFFIXES = (
    *("tif", "tiff", "TIF", "TIFF", "jp2", "JP2", "grib", "grib2", "grb", "grb2"),
    *("dt0", "dt1", "dt2", "hgt", "dem", "asc"),
)
"""Of the names of rasters, the first that a folder has: the others may be something else."""
_DEFAULT_PATTERN: str = FilesTable.model_fields["pattern"].default


def create_inspector(context: SourceContext) -> Inspector:
    """Make the inspector of folders."""
    return FolderInspector(context=context)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """The files of a folder."""

    root: Path
    pattern: str
    usable: tuple[FileFacts, ...]
    refused: tuple[tuple[str, str], ...]
    """Name, and why it can't be used."""


@dataclass(slots=True, kw_only=True)
class FolderInspector:
    """Reads the headers of a folder's files. Used from one event loop; files are read in the pool."""

    context: SourceContext

    def recognises(self, address: str) -> bool:
        """Return whether an address is a path: one that is there, or is written as one."""
        return "://" not in address and (address.startswith((".", "/", "~")) or Path(address).exists())

    async def inspect(self, inquiry: Inquiry) -> Draft:
        """Look at a folder, or at one file; see ``Inspector.inspect``."""
        folder = await self._read(inquiry.address)
        return _draft(folder, inquiry)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _read(self, address: str) -> _Folder:
        pool = self.context.pool
        root, pattern, entries = await run_in(pool, _listed, address)
        batches = await gather_or_cancel(
            run_in(pool, _read_all, root, batch) for batch in itertools.batched(entries, _BATCH)
        )
        found = [one for batch in batches for one in batch]
        usable, refused = [], []
        for entry, facts in found:
            if isinstance(facts, SourceError):
                reason = facts.detail.removeprefix(f"file {entry.name!r}: ")
                refused.append((entry.name, f"{reason}; {facts.hint}" if facts.hint else reason))
            elif not facts.bands:
                refused.append((entry.name, "it has no band"))
            else:
                usable.append(facts)
        if not usable:
            raise SourceCorruptError(
                f"no file of {root} can be used; {refused[0][0]!r}: {refused[0][1]}",
                item=refused[0][0],
                hint="gdalinfo shows what GDAL sees; gdal_translate and gdalwarp write GeoTIFFs",
            )
        return _Folder(root=root, pattern=pattern, usable=tuple(usable), refused=tuple(refused))


def _listed(address: str) -> tuple[Path, str, list[FolderEntry]]:
    """Return the folder, the pattern and its files. Blocking."""
    path = expand_home(Path(address), "--from")
    if path.is_file():
        return path.resolve().parent, path.name, list_folder(path.resolve().parent, path.name)
    if not path.is_dir():
        raise BadParameterError(
            "--from", f"--from: there is no folder {path}", hint="give a folder, or one file of it"
        )
    for suffix in _SUFFIXES:
        pattern = f"**/*.{suffix}"
        try:
            return path.resolve(), pattern, list_folder(path, pattern)
        except SourceRefusedError:
            continue
    raise SourceRefusedError(
        f"the folder {path} holds no raster", hint=f"names end in {', '.join(_SUFFIXES)}"
    )


def _read_all(
    root: Path, entries: Sequence[FolderEntry]
) -> list[tuple[FolderEntry, FileFacts | SourceError]]:
    found: list[tuple[FolderEntry, FileFacts | SourceError]] = []
    for entry in entries:
        try:
            found.append((entry, read_facts(root, entry)))
        except SourceError as error:
            found.append((entry, error))
    return found


def _draft(folder: _Folder, inquiry: Inquiry) -> Draft:
    files = folder.usable
    crss = {facts.crs: CRS(facts.crs) for facts in files}
    placed = [
        PlacedRaster(name=facts.name, crs=crss[facts.crs], transform=facts.transform, shape=facts.shape)
        for facts in files
    ]
    chosen = choose_grid(placed, inquiry.wish, overviews=min(facts.overviews for facts in files))
    model = _model(files)
    bands, remarks = _bands(model)
    axis = time_axis(files, placed)
    sample = next(facts for facts in files if facts.name == (chosen.exact or chosen.warped)[0].name)
    x, y = sample.centre
    longitude, latitude = transformer(crss[sample.crs], CRS("EPSG:4326")).transform(x, y)
    title = folder.root.name if "*" in folder.pattern else Path(folder.pattern).stem
    return Draft(
        id=id_of(title),
        title=title or "Files",
        attribution=_common([facts.copyright for facts in files]),
        grid=chosen.grid,
        interval=axis.interval,
        time=axis.table,
        source=_source(folder, axis),
        bands=bands,
        default_bands=_default_bands(model, bands),
        remarks=(*_remarks(folder, chosen, model), *remarks, *axis.remarks),
        at=(float(longitude), float(latitude)),
        moment=axis.moments.get(sample.name),
    )


def _source(folder: _Folder, axis: TimeAxis) -> dict[str, object]:
    table: dict[str, object] = {"type": "files", "folder": str(folder.root)}
    if folder.pattern != _DEFAULT_PATTERN:
        table["pattern"] = folder.pattern
    return table if axis.datetime is None else {**table, "datetime": axis.datetime}


def _kinds(facts: FileFacts) -> tuple[str, ...]:
    return tuple(band.dtype for band in facts.bands)


def _model(files: Sequence[FileFacts]) -> FileFacts:
    """Return a file whose bands are those of most files."""
    common = Counter(map(_kinds, files)).most_common(1)[0][0]
    return next(facts for facts in files if _kinds(facts) == common)


def _bands(model: FileFacts) -> tuple[tuple[DraftBand, ...], list[Remark]]:
    texts = [
        band.colour or band.description or f"band_{number}"
        for number, band in enumerate(model.bands, start=1)
    ]
    bands, remarks = [], []
    for name, facts in zip(band_names(texts), model.bands, strict=True):
        if not is_storable(facts):
            remarks.append(
                Remark(
                    where="bands",
                    text=f"Band {facts.index} is left out: a collection holds no {facts.dtype}.",
                    fill_in=True,
                )
            )
            continue
        band, more = draft_band(name, facts, {"index": facts.index})
        bands.append(band)
        remarks += more
    if not bands:
        raise SourceCorruptError(
            f"file {model.name!r}: a collection holds no {model.bands[0].dtype}", item=model.name
        )
    if not any(band.colour or band.description for band in model.bands):
        remarks.append(
            Remark(
                where="bands",
                text="The files do not name their bands: write name, long_name and units.",
                fill_in=True,
            )
        )
    return tuple(bands), remarks


def _default_bands(model: FileFacts, bands: Sequence[DraftBand]) -> tuple[str, ...]:
    """Return red, green and blue, where the files are pictures."""
    names = {band.name for band in bands}
    picture = ("red", "green", "blue")
    return picture if names.issuperset(picture) and len(model.bands) >= len(picture) else ()


def _remarks(folder: _Folder, chosen: ChosenGrid, model: FileFacts) -> Iterator[Remark]:
    yield Remark(
        where="license",
        text="Files do not say under which licence they are: an SPDX identifier, or other.\n"
        ' license = "CC-BY-4.0"',
        fill_in=True,
    )
    if not any(facts.copyright for facts in folder.usable):
        yield Remark(where="attribution", text='Who is to be named:\n attribution = "..."', fill_in=True)
    if chosen.warped:
        yield Remark(
            where="grid",
            text=f"{len(chosen.exact)} files lie on this grid and are copied; {len(chosen.warped)} do not, "
            f"and are warped to it: {_named([one.name for one in chosen.warped])}.",
        )
    if folder.refused:
        yield Remark(
            where="source",
            text=f"{len(folder.refused)} files can't be used, and reads that touch them fail: "
            + "; ".join(f"{name}: {why}" for name, why in folder.refused[:_NAMED]),
            fill_in=True,
        )
    others = [facts.name for facts in folder.usable if _kinds(facts) != _kinds(model)]
    if others:
        yield Remark(
            where="bands",
            text=f"{len(others)} files have other bands than {', '.join(_kinds(model))}, and can't be read: "
            f"{_named(others)}. Move them out of the folder, or write another pattern under [source].",
            fill_in=True,
        )


def _named(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _common(texts: Sequence[str]) -> str:
    """Return the text that all have; empty where they differ."""
    return texts[0] if len(set(texts)) == 1 else ""
