"""Datasets of dask arrays whose pieces are loaded when they are computed."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from icehouse._dataset import bounds_in, build, variable
from icehouse._errors import BadParameter, OutsideCollection
from icehouse._load import fetch
from icehouse._wire import WireArray, WireGroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr

    from icehouse._request import Query
    from icehouse._session import Session

    type Array = np.ndarray[Any, np.dtype[Any]]  # Any: shape and dtype are known at run time only

_PROBES = 5
"""Pixels tried along each axis of the geobox to find one that lies inside the collection."""


def load_lazily(
    session: Session, collection: str, query: Query, chunks: Mapping[str, int], timeout: float | None
) -> xr.Dataset:
    """A dataset whose bands are dask arrays; each piece is one request for its part of the geobox.

    One pixel is loaded at once, for dtypes, attributes and times. A time axis stays in one piece.

    Raises:
        ImportError: dask is not installed.
        BadParameter: `chunks` names something other than the two spatial dimensions.
    """
    try:
        import dask.array as da  # noqa: PLC0415 - the caller's choice, never the client's need
    except ImportError as error:
        raise ImportError("chunks= needs dask: install dask[array], or leave chunks out") from error
    probe = _probe(session, collection, query, timeout)
    bounds = bounds_in(probe)
    bands = {
        name: array for name, array in probe.arrays.items() if len(array.dims) > 1 and name not in bounds
    }
    ydim, xdim = next(iter(bands.values())).dims[-2:]
    sizes = _piece_sizes(chunks, ydim, xdim, query.geobox.shape)
    frame = build(WireGroup(arrays=_full_coords(probe, query, ydim, xdim), attrs=probe.attrs))
    for name, array in bands.items():
        remote = RemoteBand(
            session=session,
            collection=collection,
            query=dataclasses.replace(query, bands=(name,)),
            band=name,
            lead=array.data.shape[:-2],
            dtype=array.data.dtype,
            outside_value=_outside_value(array),
            timeout=timeout,
        )
        meta: Array = np.empty((0,) * remote.ndim, remote.dtype)
        lazy = da.from_array(  # type: ignore[no-untyped-call]
            remote, chunks=(*remote.lead, *sizes), asarray=False, fancy=False, meta=meta
        )
        frame[name] = variable(dataclasses.replace(array, data=lazy))
    return frame


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBand:
    """One band of one query as an array that loads what is indexed. Pickles; dask sends it to workers."""

    session: Session
    collection: str
    query: Query
    band: str
    lead: tuple[int, ...]
    """Shape of the axes before rows and columns."""
    dtype: np.dtype[Any]
    outside_value: float | bool
    """What pixels outside the collection hold."""
    timeout: float | None

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., rows, columns)."""
        return (*self.lead, *self.query.geobox.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.lead) + 2

    def __getitem__(self, key: tuple[slice, ...]) -> Array:
        """Load the rows and columns that the last two slices name; slices before them apply to the result."""
        *before, rows, cols = key
        height, width = self.query.geobox.shape
        top, bottom, _ = rows.indices(height)
        left, right, _ = cols.indices(width)
        shape = (bottom - top, right - left)
        part = dataclasses.replace(self.query, geobox=self.query.geobox.window(top, left, shape))
        try:
            group = fetch(self.session, self.collection, part, timeout=self.timeout)
        except OutsideCollection:
            # The whole geobox touches the collection, this piece does not.
            return np.full((*self.lead, *shape), self.outside_value, dtype=self.dtype)[tuple(before)]
        return group.arrays[self.band].data[tuple(before)]


def _probe(session: Session, collection: str, query: Query, timeout: float | None) -> WireGroup:
    """The answer for one pixel of the geobox that lies inside the collection."""
    for row, col in _probe_pixels(query.geobox.shape):
        pixel = dataclasses.replace(query, geobox=query.geobox.window(row, col, (1, 1)))
        try:
            return fetch(session, collection, pixel, timeout=timeout)
        except OutsideCollection:
            continue
    raise OutsideCollection(f"the geobox lies outside the collection {collection}: no pixel tried is inside")


def _probe_pixels(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    rows, cols = shape
    yield rows // 2, cols // 2
    steps = range(_PROBES)
    for row in steps:
        for col in steps:
            yield row * (rows - 1) // (_PROBES - 1), col * (cols - 1) // (_PROBES - 1)


def _piece_sizes(chunks: Mapping[str, int], ydim: str, xdim: str, shape: tuple[int, int]) -> tuple[int, int]:
    unknown = set(chunks) - {ydim, xdim, "x", "y"}
    if unknown:
        raise BadParameter(f"chunks: can cut {ydim} and {xdim} only, got {', '.join(sorted(unknown))}")
    asked = (chunks.get(ydim, chunks.get("y", -1)), chunks.get(xdim, chunks.get("x", -1)))
    if any(size < 1 and size != -1 for size in asked):
        raise BadParameter(f"chunks: sizes are pixels above zero, or -1 for one piece, got {dict(chunks)}")
    return (
        shape[0] if asked[0] == -1 else asked[0],
        shape[1] if asked[1] == -1 else asked[1],
    )


def _full_coords(probe: WireGroup, query: Query, ydim: str, xdim: str) -> dict[str, WireArray]:
    """The probe's coordinates, stretched from its one pixel to the whole geobox."""
    box = query.geobox
    a, b, c, d, e, f = box.transform
    rows, cols = (np.arange(size) for size in box.shape)
    if box.axis_aligned:
        # The order of operations of odc-geo, so that eager and lazy coordinates agree to the bit.
        values = {ydim: rows * e + (f + e / 2), xdim: cols * a + (c + a / 2)}
    else:
        values = {ydim: rows + 0.5, xdim: cols + 0.5}
    coords: dict[str, WireArray] = {}
    for name, array in probe.arrays.items():
        if name in values:
            stretched = values[name].astype(array.data.dtype)
            coords[name] = dataclasses.replace(array, data=stretched)
        elif name == "spatial_ref":
            attrs = {**array.attrs, "GeoTransform": " ".join(map(repr, (c, a, b, f, d, e)))}
            coords[name] = dataclasses.replace(array, attrs=attrs)
        elif array.dims == (name,) or name in bounds_in(probe):
            coords[name] = array
    return coords


def _outside_value(array: WireArray) -> float | bool:
    nodata = array.attrs.get("nodata", array.fill_value)
    if isinstance(nodata, int | float):
        return nodata
    return math.nan if array.data.dtype.kind == "f" else 0
