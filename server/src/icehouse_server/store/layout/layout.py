"""How a collection lies in its Icechunk repository.

The root group holds one array a band (``y``, ``x``, before them ``time`` where the collection has a time
axis; one chunk is one cached chunk), the coordinates and ``spatial_ref`` (CF grid mapping), so that
``xarray.open_zarr`` on the repository just works. The arrays are as long as the time axis was when a step of
it was last written: new steps lengthen them, and nothing that is stored is written anew. Level k above 0 is
the group ``k``, laid out alike; it is there from when its first chunk was written.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import icechunk
import numpy as np
import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import cpu
from zarr.core.sync import sync

from icehouse_server.core.cf_attributes import scaling
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import RepositoryForeignError
from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.time import TimeAxis
from icehouse_server.store.layout.arrays import axis_chunks, band_document, dataset_attributes, describe
from icehouse_server.store.layout.geozarr import level_attributes, repository_attributes
from icehouse_server.store.layout.metadata import DOCUMENT, dumped, group_document

LAYOUT = 1
"""Number of this layout; a higher one in a repository means that a later version wrote it."""


_MANIFEST_SPLIT = 128
"""Chunks per side of a manifest; a commit rewrites those that it touches and lists them all.

Measured: one chunk into a full manifest takes 17 ms at 128 and 9 ms at 64, but with a million chunks cached a
commit took 16 ms at 128 and 146 ms at 64.
"""


_UPDATES_PER_FILE = 10
"""Repository updates per file: fewer copies under ``overwritten/``, which Icechunk never collects."""


def repository_config() -> icechunk.RepositoryConfig:
    """Return the settings that every repository of ours is opened with."""
    config = icechunk.RepositoryConfig.default()
    config.num_updates_per_repo_info_file = _UPDATES_PER_FILE
    split = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.AnyArray(): {
                icechunk.ManifestSplitDimCondition.DimensionName("time"): 1,
                icechunk.ManifestSplitDimCondition.Any(): _MANIFEST_SPLIT,
            }
        }
    )
    config.manifest = icechunk.ManifestConfig(splitting=split)
    return config


def identity(spec: CollectionSpec) -> dict[str, Any]:
    """Return what must stay the same for stored chunks to keep their meaning."""
    affine = spec.grid.geobox.affine
    temporal = {} if spec.time is None else {"time": True}  # its steps are what time_bnds holds
    return {
        **temporal,
        "layout": LAYOUT,
        "collection": spec.id,
        "crs": str(spec.grid.crs),
        "transform": [affine.a, affine.b, affine.c, affine.d, affine.e, affine.f],
        "shape": list(spec.grid.shape),
        "chunk": spec.grid.chunk,
    }


def create(spec: CollectionSpec, store: ZarrStore, steps: int) -> None:
    """Write the empty cube, with N steps of its time axis if there is one. Blocking."""
    attributes = {**dataset_attributes(spec), **repository_attributes(spec, ()), "icehouse": identity(spec)}
    root = {DOCUMENT: dumped(group_document(attributes))}
    _put(store, root | describe(spec, 0, steps) | axis_chunks(spec.grid))


def _put(store: ZarrStore, values: Mapping[str, bytes], group: str = "") -> None:
    """Write documents and chunks below a group, all in one turn of zarr's event loop."""

    async def put() -> None:
        for key, value in values.items():
            await store.set(f"{group}{key}", cpu.Buffer.from_bytes(value))

    sync(put())


def levels_of(root: zarr.Group) -> tuple[int, ...]:
    """Return which levels a repository has; 0 always. Blocking."""

    async def names() -> list[str]:
        return [name async for name in root.store.list_dir("")]

    # Not its groups(): that reads the document of each array as well.
    return (0, *sorted(int(name) for name in sync(names()) if name.isdecimal()))


def add_levels(spec: CollectionSpec, store: ZarrStore, levels: Iterable[int]) -> None:
    """Give a repository further levels, empty: each is a group of its own. Blocking."""
    root = zarr.open_group(store, mode="r+")
    held, missing = set(levels_of(root)), sorted(set(levels) - set(levels_of(root)))
    for level in missing:
        attributes = {**dataset_attributes(spec), **level_attributes(spec, level)}
        group = {DOCUMENT: dumped(group_document(attributes))}
        below = describe(spec, level, steps_of(root)) | axis_chunks(spec.grids[level])
        _put(store, group | below, f"{level}/")
    if missing:
        root.attrs.update(repository_attributes(spec, {*held, *missing}))


def has_conventions(root: zarr.Group) -> bool:
    """Return whether a repository says where it lies by GeoZarr's conventions; older ones do not."""
    return "zarr_conventions" in root.attrs


def add_conventions(spec: CollectionSpec, store: ZarrStore) -> None:
    """Give a repository and its levels the attributes of GeoZarr. Blocking."""
    root = zarr.open_group(store, mode="r+")
    root.attrs.update(repository_attributes(spec, levels_of(root)))
    for level, group in _groups(root):
        if level:
            group.attrs.update(level_attributes(spec, level))


def add_band(spec: CollectionSpec, band: BandSpec, store: ZarrStore) -> None:
    """Give a repository a further band, at every level that it has. Blocking."""
    root = zarr.open_group(store, mode="r+")
    for level, group in _groups(root):
        document = band_document(spec, band, level, steps_of(group))
        _put(store, {f"{band.name}/{DOCUMENT}": dumped(document)}, f"{level}/" if level else "")


def _groups(root: zarr.Group) -> Iterator[tuple[int, zarr.Group]]:
    """Yield the groups of the levels that a repository has."""
    yield 0, root
    for level in levels_of(root)[1:]:
        group = root[str(level)]
        if isinstance(group, zarr.Group):
            yield level, group


def steps_of(root: zarr.Group) -> int:
    """Return how many time steps a repository has; 0 where it has no time axis. Blocking."""
    array = root.get("time")
    return array.shape[0] if isinstance(array, zarr.Array) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How far a repository reaches."""

    steps: int
    """Time steps; 0 where there is no time axis."""
    levels: tuple[int, ...]

    @classmethod
    def of(cls, store: ZarrStore) -> "Extent":
        """Read it; of a store with nothing in it, too. Blocking."""
        try:
            root = zarr.open_group(store, mode="r")
        except FileNotFoundError:
            return cls(steps=0, levels=())
        return cls(steps=steps_of(root), levels=levels_of(root))

    def holding(self, keys: Iterable[ChunkKey]) -> "Extent":
        """Return the extent that has place for these chunks as well."""
        steps, levels = self.steps, set(self.levels)
        for key in keys:
            levels.add(key.level)
            steps = max(steps, 0 if key.time is None else key.time + 1)
        return Extent(steps=steps, levels=tuple(sorted(levels)))


def reach(spec: CollectionSpec, store: ZarrStore, extent: Extent) -> None:
    """Make a repository reach as far: what is missing is added empty, what is there stays. Blocking."""
    add_levels(spec, store, extent.levels)
    lengthen(spec, store, extent.steps)


def lengthen(spec: CollectionSpec, store: ZarrStore, steps: int) -> None:
    """Give a repository more time steps: metadata and coordinates, no chunk of a band. Blocking."""
    root = zarr.open_group(store, mode="r+")
    if spec.time is None or steps <= steps_of(root):
        return
    for level, group in _groups(root):
        for band in spec.bands:
            array = group[band.name]
            if isinstance(array, zarr.Array):
                array.resize((steps, *spec.grids[level].shape))
        _write_steps(spec.time, group, steps)


def _write_steps(axis: TimeAxis, root: zarr.Group, steps: int) -> None:
    """Write the coordinates that are missing: where each step starts, and its bounds."""
    times, bounds = root["time"], root["time_bnds"]
    if not isinstance(times, zarr.Array) or not isinstance(bounds, zarr.Array):
        raise TypeError("time and time_bnds are arrays")
    first = times.shape[0]
    if steps > first:
        new = np.array([axis.step(number).seconds for number in range(first, steps)], dtype=np.int64)
        times.resize((steps,))
        bounds.resize((steps, 2))
        times[first:], bounds[first:] = new[:, 0], new


def check(spec: CollectionSpec, root: zarr.Group | None) -> tuple[BandSpec, ...]:
    """Check that a repository is ours and fits the collection.

    Returns:
        The bands that the collection has gained since and that the repository lacks.

    Raises:
        RepositoryForeignError: it is not ours, of a later layout, or of another grid, chunk or band type.
    """
    found = None if root is None else root.attrs.get("icehouse")
    if root is None or not isinstance(found, dict) or "layout" not in found:
        raise RepositoryForeignError(
            f"the repository of collection {spec.id!r} was not written by Icehouse; it is left untouched",
            hint="move it out of the cache folder, or point cache_dir elsewhere",
        )
    if found["layout"] != LAYOUT:
        raise RepositoryForeignError(
            f"the repository of collection {spec.id!r} has layout {found['layout']}; "
            f"this version reads layout {LAYOUT}; it is left untouched",
            hint="use the Icehouse version that wrote it, or point cache_dir elsewhere",
        )
    wanted = identity(spec)
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            raise _changed(spec, f"has {name} {wanted.get(name)}", f"{found.get(name)}")
    held = dict(root.members())  # all at once: each turn of zarr's event loop takes a millisecond
    if spec.time is not None:
        _check_steps(spec, spec.time, held.get("time_bnds"))
    return tuple(band for band in spec.bands if not _has_band(spec, band, held.get(band.name)))


def _check_steps(spec: CollectionSpec, axis: TimeAxis, bounds: zarr.Array[Any] | zarr.Group | None) -> None:
    """Check that the steps which are stored are those of the collection; it may have further ones."""
    if not isinstance(bounds, zarr.Array):
        raise _changed(spec, "has a time axis", "none")
    held = [(int(start), int(end)) for start, end in np.asarray(bounds[...])]
    if axis.listed and len(held) > len(axis.listed):
        raise _changed(spec, f"has {len(axis.listed)} time steps", f"{len(held)}")
    for number, found in enumerate(held):
        if axis.step(number).seconds != found:
            raise _changed(
                spec, f"has {axis.step(number)} as time step {number}", f"{found} (seconds since 1970)"
            )


def _changed(spec: CollectionSpec, now: str, held: str) -> RepositoryForeignError:
    return RepositoryForeignError(
        f"collection {spec.id!r} {now}, but its repository holds {held}; it is left untouched",
        hint="give the changed collection another id, or move the old repository away",
    )


def _has_band(spec: CollectionSpec, band: BandSpec, array: zarr.Array[Any] | zarr.Group | None) -> bool:
    if array is None:
        return False
    if not isinstance(array, zarr.Array) or array.dtype.name != band.dtype.name or not _same(array, band):
        raise RepositoryForeignError(
            f"band {band.name!r} of collection {spec.id!r} is {band.dtype.name} with nodata {band.nodata}, "
            f"which differs from its repository; it is left untouched",
            hint="give the changed band another name, or move the old repository away",
        )
    return True


def _same(array: zarr.Array[Any], band: BandSpec) -> bool:
    fill = bool(np.array_equal(np.asarray(array.fill_value), np.asarray(band.fill), equal_nan=True))
    scaled = {name: array.attrs[name] for name in ("scale_factor", "add_offset") if name in array.attrs}
    return fill and ("nodata" in array.attrs) == (band.nodata is not None) and scaled == scaling(band)
