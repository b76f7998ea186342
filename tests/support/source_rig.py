"""A STAC source on top of the stand-ins, with everything around it in memory: for tests and benchmarks."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import BlockRequest, Mask, Pixels, StoredDocument
from icehouse_server.demo.standins import StandIns
from icehouse_server.sources import SourceContext


@dataclass(slots=True)
class MemoryDocuments:
    """The document port, in memory."""

    stored: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    """Key to (when, body)."""
    ageing: float = 0.0
    """Seconds that every document pretends to be older."""

    async def get(self, key: str) -> StoredDocument | None:
        """Return what was stored under a key, or None."""
        if key not in self.stored:
            return None
        when, body = self.stored[key]
        return StoredDocument(body=body, age=time.monotonic() - when + self.ageing)

    async def put(self, key: str, body: str | None) -> None:
        """Store JSON text, or that there is none."""
        self.stored[key] = (time.monotonic(), body)


@contextlib.contextmanager
def source_context(standins: StandIns, **overrides: Any) -> Iterator[SourceContext]:
    """A context whose mirrors lead to the stand-ins; its pool ends with the block."""
    with ThreadPoolExecutor(4, thread_name_prefix="source") as pool:
        settings: dict[str, Any] = {
            "documents": MemoryDocuments(),
            "pool": pool,
            "mirrors": standins.mirrors,
            "connect_timeout": 2.0,
            "read_timeout": 60.0,  # a stand-in may build a file first
        }
        yield SourceContext(**{**settings, **overrides})


def with_source(spec: CollectionSpec, **changes: object) -> CollectionSpec:
    """Return a collection with some keys of its ``[source]`` replaced; None takes one out."""
    table: Mapping[str, object] = {**spec.source, **changes}
    return replace(spec, source={key: value for key, value in table.items() if value is not None})


def with_grid(spec: CollectionSpec, window: Window) -> CollectionSpec:
    """Return a collection whose grid is a window of the former one."""
    return replace(spec, grid=Grid(geobox=spec.grid.geobox_of(window), chunk=spec.grid.chunk))


def window_around(spec: CollectionSpec, x: float, y: float, rows: int, cols: int) -> Window:
    """Return a window of the grid with its middle at a place in the grid's CRS."""
    affine = spec.grid.geobox.affine
    col, row = (x - affine.c) / affine.a, (y - affine.f) / affine.e
    return Window(row=round(row) - rows // 2, col=round(col) - cols // 2, height=rows, width=cols)


def request_for(spec: CollectionSpec, window: Window, *bands: str) -> BlockRequest:
    """Return a request for a window of the grid, all bands when none are named."""
    names = bands or tuple(band.name for band in spec.bands)
    return BlockRequest(
        collection=spec,
        level=0,
        bands=tuple(spec.band(name) for name in names),
        window=window,
        geobox=spec.grid.geobox_of(window),
    )


def truth_of(spec: CollectionSpec, band: str, window: Window) -> tuple[Pixels, Mask]:
    """Return what the stand-in world holds: values, and True = valid; nothing is read from any file."""
    domain, _, resolution = spec.id.partition("-")
    affine = spec.grid.geobox_of(window).affine
    values, valid = StandIns.truth(domain, resolution, band, affine, (window.height, window.width))
    return values, valid
