"""Trying a collection file: one chunk through the real source, without a daemon."""

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyproj import Transformer

from icehouse_server.aio.fetch_context import FETCH, FetchTally
from icehouse_server.app import source_context
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import (
    BadParameterError,
    ConfigurationError,
    SourceRefusedError,
    SourceTimeoutError,
)
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import Block, BlockRequest, StoredDocument
from icehouse_server.core.time import TimeRange, TimeStep
from icehouse_server.settings import Settings
from icehouse_server.sources import create_source
from icehouse_server.sources.stac.api import StacApi
from icehouse_server.sources.stac.settings import parse_source

_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One chunk that a source was asked for, and what came."""

    place: tuple[float, float]
    """Longitude and latitude."""
    window: Window
    step: TimeStep | None
    block: Block
    seconds: float
    requests: int
    bytes: int

    def shares(self) -> dict[str, float]:
        """Share of valid pixels by band."""
        return {name: float(band.valid.mean()) for name, band in self.block.bands.items()}

    def ranges(self) -> dict[str, tuple[float, float] | None]:
        """Least and largest valid value by band; None where nothing is valid."""
        found: dict[str, tuple[float, float] | None] = {}
        for name, band in self.block.bands.items():
            values = band.values[band.valid]
            found[name] = (float(values.min()), float(values.max())) if values.size else None
        return found


@dataclass(slots=True)
class MemoryDocuments:
    """The document port, for as long as the command lasts."""

    stored: dict[str, str | None] = field(default_factory=dict)

    async def get(self, key: str) -> StoredDocument | None:
        """Return what was stored under a key, or None."""
        return StoredDocument(body=self.stored[key], age=0.0) if key in self.stored else None

    async def put(self, key: str, body: str | None) -> None:
        """Store a text."""
        self.stored[key] = body


def try_chunk(spec: CollectionSpec, settings: Settings, at: str | None, moment: str | None) -> Trial:
    """Read the chunk at a place, all bands of it, through the source that the daemon would use.

    Args:
        spec: the collection.
        settings: mirrors, time limits, credentials.
        at: "longitude,latitude"; the middle of the extent when None.
        moment: which step of the time axis, as ``datetime`` has it; the last when None.

    Raises:
        BadParameterError: the place lies outside the grid, or there is no such step.
        UnknownTimeError: no step holds the moment.
        ConfigurationError: the source refuses its table.
        SourceError: by what happened.
    """
    place = _middle(spec) if at is None else _place(at)
    window = _chunk_at(spec, place)
    step = _step(spec, moment)
    return asyncio.run(_try(spec, settings, place, window, step))


async def _try(
    spec: CollectionSpec,
    settings: Settings,
    place: tuple[float, float],
    window: Window,
    step: TimeStep | None,
) -> Trial:
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="trial") as pool:
        context = source_context(settings, MemoryDocuments(), pool)
        if spec.source_type == "stac":
            await _check_api(StacApi(settings=parse_source(spec), context=context))
        source = create_source(spec, context)
        request = BlockRequest(
            collection=spec,
            level=0,
            bands=spec.bands,
            window=window,
            geobox=spec.grid.geobox_of(window),
            step=step,
        )
        tally = FetchTally(id="check")
        FETCH.set(tally)
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(settings.block_timeout):
                block = await source.read(request)
        except TimeoutError as error:
            raise SourceTimeoutError(
                f"the source did not answer within {settings.block_timeout:.0f} s",
                hint="raise the setting block_timeout if that is too little",
            ) from error
        finally:
            await source.close()
        return Trial(
            place=place,
            window=window,
            step=step,
            block=block,
            seconds=time.perf_counter() - begun,
            requests=tally.requests,
            bytes=tally.bytes,
        )


async def _check_api(api: StacApi) -> None:
    """Ask for the collection's document: a search for an unknown collection just finds nothing."""
    try:
        if await api.document(api.settings.collection_url()) is None:
            name, url = api.settings.collection, api.settings.api
            if await api.document(url) is None:
                raise SourceRefusedError(f"there is no STAC API at {url}", hint="correct api under [source]")
            raise SourceRefusedError(
                f"the API at {url} has no collection {name!r}",
                hint=f"correct collection under [source]; {url}/collections lists what there is",
            )
    finally:
        api.close()


def _middle(spec: CollectionSpec) -> tuple[float, float]:
    """Return the middle of the extent; where that lies outside the grid, that of the grid."""
    west, south, east, north = spec.bbox
    east += 360 if east < west else 0
    place = ((west + east) / 2 + 180) % 360 - 180, (south + north) / 2
    try:
        _chunk_at(spec, place)
    except BadParameterError:
        rows, cols = spec.grid.shape
        x, y = spec.grid.geobox.affine @ (cols / 2, rows / 2)
        lonlat = Transformer.from_crs(str(spec.grid.crs), "OGC:CRS84", always_xy=True)
        place = lonlat.transform(x, y)
    return place


def _place(text: str) -> tuple[float, float]:
    try:
        longitude, latitude = map(float, text.split(","))
    except ValueError:
        longitude = latitude = math.nan
    if not (-360 <= longitude <= 360 and -90 <= latitude <= 90):  # noqa: PLR2004 - degrees
        raise BadParameterError(
            "--at", f"--at: {text!r} is not longitude,latitude", hint="such as 150.5,65.1"
        )
    return longitude, latitude


def _chunk_at(spec: CollectionSpec, place: tuple[float, float]) -> Window:
    """Return the pixels of the chunk at a place.

    Raises:
        BadParameterError: it lies outside the grid.
    """
    grid = spec.grid
    rows, cols = grid.shape
    transform = Transformer.from_crs("OGC:CRS84", str(grid.crs), always_xy=True).transform
    turns = (0, 360, -360) if grid.crs.geographic else (0,)
    for turn in turns:
        x, y = transform(*place)
        if not (math.isfinite(x) and math.isfinite(y)):
            break
        col, row = ~grid.geobox.affine @ (x + turn, y)
        if 0 <= row < rows and 0 <= col < cols:
            return grid.chunk_window(int(row) // grid.chunk, int(col) // grid.chunk)
    raise BadParameterError(
        "--at",
        f"{place[0]:.5f}, {place[1]:.5f} lies outside the collection's grid",
        hint=f"its data lie in {', '.join(map(str, spec.bbox))} (west, south, east, north)",
    )


def _step(spec: CollectionSpec, moment: str | None) -> TimeStep | None:
    """Return a step of the time axis: the first that a moment touches, the last when it is None."""
    if spec.time is None:
        if moment is not None:
            raise BadParameterError(
                "--datetime", f"collection {spec.id!r} has no time axis", hint="leave it out"
            )
        return None
    now = datetime.now(UTC)
    if moment is None:
        count = spec.time.count(now)
        if not count:
            raise ConfigurationError(
                f"collection {spec.id!r}: [time] has no step yet",
                hint="set an earlier start or a shorter delay",
            )
        return spec.time.step(count - 1)
    try:
        asked = TimeRange.parse(moment)
    except ValueError as error:
        raise BadParameterError("--datetime", f"--datetime: {error}") from None
    return spec.time.step(spec.time.select([asked], now)[0])
