"""Two overlapping items on a small grid, served by an ``Origin``: the truth, from which tests tell lies.

Item ``1_1`` lies left of ``1_2``; they share twenty columns. Every pixel is unlike all others.
"""

from __future__ import annotations

import contextlib
import functools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.grid import Grid, Window
from icehouse_server.sources import SourceContext
from support.origin import Origin
from support.source_rig import MemoryDocuments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PIXEL: Final = 32
SIDE: Final = 200
"""Pixels of an item each way."""
BUFFER: Final = 10
STEP: Final = SIDE - 2 * BUFFER
NODATA: Final = -9999.0
API: Final = "/api"
ITEMS: Final = ("1_1", "1_2")
GRID: Final = GeoBox((300, 460), Affine(PIXEL, 0, -800_000, 0, -PIXEL, 2_700_000), "EPSG:3413")
PLACES: Final = {
    "1_1": Window(row=40, col=50, height=SIDE, width=SIDE),
    "1_2": Window(row=40, col=50 + STEP, height=SIDE, width=SIDE),
}
BOTH: Final = PLACES["1_1"].union(PLACES["1_2"])
LEFT: Final = Window(row=60, col=60, height=90, width=80)
"""Needs 1_1 alone."""
RIGHT: Final = Window(row=60, col=300, height=90, width=80)
"""Needs 1_2 alone."""
TILED: Final = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}


def pixels_of(item: str) -> NDArray[np.float32]:
    """The pixels of an item, with a bare patch; 1_2 is bare where 1_1 is not, and the other way round."""
    place = PLACES[item]
    row, col = np.mgrid[place.row : place.stop_row, place.col : place.stop_col]
    number = ITEMS.index(item)
    values = (row * 1000 + col + 0.25 * (number + 1)).astype(np.float32)
    values[20 + 40 * number : 50 + 40 * number, :30] = NODATA
    values[20 + 40 * number : 50 + 40 * number, -30:] = NODATA
    found: NDArray[np.float32] = values
    return found


def geotiff(values: NDArray[Any], transform: Affine, **how: Any) -> bytes:
    """A GeoTIFF of an array (rows, columns) or (bands, rows, columns)."""
    cube = values if values.ndim == 3 else values[np.newaxis]
    count, height, width = cube.shape
    facts = {
        "driver": "GTiff", "count": count, "height": height, "width": width, "dtype": cube.dtype,
        "crs": "EPSG:3413", "transform": transform, "nodata": NODATA, **TILED, **how,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**facts) as dataset:
            dataset.write(cube)
        return bytes(memory.read())


def transform_of(item: str) -> Affine:
    """The true place of an item."""
    return GRID.affine @ Affine.translation(PLACES[item].col, PLACES[item].row)


@functools.cache
def true_file(item: str) -> bytes:
    """The file of an item."""
    return geotiff(pixels_of(item), transform_of(item))


@dataclass(slots=True, kw_only=True)
class Scene:
    """The items at their origin; ``publish`` replaces one of them by a lie."""

    origin: Origin
    pool: ThreadPoolExecutor
    context: SourceContext = field(init=False)
    spec: CollectionSpec = field(init=False)

    def __post_init__(self) -> None:
        self.context = SourceContext(
            documents=MemoryDocuments(), pool=self.pool, connect_timeout=5.0, read_timeout=5.0
        )
        self.spec = self.collection()

    @classmethod
    @contextlib.contextmanager
    def start(cls) -> Iterator[Self]:
        """Serve the true items until the block ends."""
        with Origin.start() as origin, ThreadPoolExecutor(4, thread_name_prefix="scene") as pool:
            scene = cls(origin=origin, pool=pool)
            origin.say(f"{API}/collections/c", b"{}")
            for item in ITEMS:
                scene.publish(item)
            yield scene

    def collection(
        self, *, dtype: str = "float32", nodata: float | None = NODATA, index: int = 1, **source: object
    ) -> CollectionSpec:
        """The collection; ``source`` adds keys to its ``[source]``, None takes one out."""
        band = BandSpec(
            name="b", dtype=np.dtype(dtype), nodata=nodata, source={"asset": "dem", "index": index}
        )
        left, top = GRID.affine @ (50 + BUFFER, 40 + SIDE - BUFFER)
        table: dict[str, object] = {
            "api": self.origin.url + API,
            "collection": "c",
            "tiling": {
                "origin": [left, top],
                "size": STEP * PIXEL,
                "buffer": BUFFER * PIXEL,
                "rows": [1, 1],
                "columns": [1, 2],
                "item": "{row}_{col}",
            },
            **source,
        }
        return CollectionSpec(
            id="scene",
            title="",
            description="",
            grid=Grid(geobox=GRID, chunk=64),
            bands=(band,),
            default_bands=("b",),
            source_type="stac",
            source={key: value for key, value in table.items() if value is not None},
            bbox=(-180.0, 60.0, 180.0, 90.0),
        )

    def document(self, item: str) -> dict[str, Any]:
        """The true document of an item."""
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": item,
            "collection": "c",
            "geometry": {"type": "Point", "coordinates": [0, 80]},
            "bbox": [0, 80, 0, 80],
            "links": [],
            "properties": {
                "datetime": "2020-01-01T00:00:00Z",
                "proj:code": "EPSG:3413",
                "proj:shape": [SIDE, SIDE],
                "proj:transform": list(transform_of(item))[:6],
            },
            "assets": {"dem": {"href": f"{self.origin.url}/{item}.tif"}},
        }

    def publish(
        self, item: str, *, document: dict[str, Any] | bytes | None = None, file: bytes | None = None
    ) -> None:
        """Serve an item; what is not given is true."""
        said = self.document(item) if document is None else document
        self.origin.say(item_path(item), said if isinstance(said, bytes) else json.dumps(said).encode())
        self.origin.say(f"/{item}.tif", true_file(item) if file is None else file)

    def publish_search(
        self,
        *,
        items: tuple[dict[str, Any], ...] | None = None,
        search: str | None = None,
        following: str | None = None,
    ) -> None:
        """Serve a search that finds both items, or what is given, in one page.

        Args:
            items: documents to find.
            search: where the landing page says that one searches.
            following: where the page says that the next one is.
        """
        path = f"{API}/search"
        link = {
            "rel": "search",
            "method": "POST",
            "type": "application/geo+json",
            "href": search or f"{self.origin.url}{path}",
        }
        core = "https://api.stacspec.org/v1.0.0"
        landing = {
            "type": "Catalog",
            "id": "api",
            "stac_version": "1.1.0",
            "description": "",
            "links": [link],
            "conformsTo": [f"{core}/core", f"{core}/item-search"],
        }
        found = [self.document(item) for item in ITEMS] if items is None else items
        more = [] if following is None else [{"rel": "next", "href": following}]
        page = {"type": "FeatureCollection", "features": found, "links": more}
        self.origin.say(API, json.dumps(landing).encode())
        self.origin.say(path, json.dumps(page).encode())


def item_path(item: str) -> str:
    """Where the API serves an item."""
    return f"{API}/collections/c/items/{item}"


def truth(window: Window, items: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """What a window of the grid must hold: the first item that is not nodata there, pixel by pixel."""
    found = np.full((window.height, window.width), NODATA, dtype=next(iter(items.values())).dtype)
    for item in sorted(items, reverse=True):
        common = PLACES[item].intersection(window)
        if common is not None:
            inside = common.slices(window)
            values = items[item][common.slices(PLACES[item])]
            found[inside] = np.where(values == NODATA, found[inside], values)
    return found
