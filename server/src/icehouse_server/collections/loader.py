"""Collection files: one TOML file a collection, checked and turned into a ``CollectionSpec``."""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from icehouse_server.core.collection import DTYPES, BandSpec, CollectionSpec
from icehouse_server.core.errors import ConfigurationError, IcehouseError
from icehouse_server.core.geometry.horizontal import horizontal, is_flat
from icehouse_server.core.geometry.lonlat_bounds import lonlat_bounds
from icehouse_server.core.grid import LATTICE_TOLERANCE, Grid
from icehouse_server.core.hints import guess, shortened
from icehouse_server.core.style import Style
from icehouse_server.core.time import Period, TimeAxis, TimeStep, parse_moment
from icehouse_server.core.toml_text import NotTomlError, read_toml

_GRID_TOLERANCE = LATTICE_TOLERANCE
"""Share of a pixel by which the bounds may miss a whole number of pixels, however many they are."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _GridTable(_Table):
    crs: str
    resolution: Annotated[float, Field(gt=0)]
    bounds: tuple[float, float, float, float]
    chunk: Annotated[int, Field(ge=16, le=8192)] = 512
    overviews: Annotated[int, Field(ge=0, le=40)] = 4


class _ExtentTable(_Table):
    bbox: tuple[float, float, float, float] | None = None
    interval: tuple[str, str] = ("..", "..")


class _LinkTable(_Table):
    title: str
    href: str


def _checked(value: object) -> str | date:
    """Take texts and TOML's own dates: pydantic would read a number as seconds and lose a date's zone."""
    if isinstance(value, str | date):
        return value
    raise ValueError('write a text such as "2020-01-01", or a date as TOML has it')


type _Moment = Annotated[str | date, PlainValidator(_checked)]


class _TimeTable(_Table):
    start: _Moment | None = None
    period: str | None = None
    end: _Moment = ".."
    delay: str | None = None
    steps: tuple[tuple[_Moment, _Moment], ...] = ()


class _BandTable(_Table):
    name: str
    dtype: str
    nodata: float | int | None = None
    units: str = ""
    long_name: str = ""
    resampling: str = "nearest"
    scale: float = 1.0
    offset: float = 0.0
    source: dict[str, Any] = {}


class _StyleTable(_Table):
    name: str
    title: str = ""
    bands: tuple[str, ...]
    rescale: tuple[tuple[float, float], ...] | None = None
    colormap_name: str | None = None
    hillshade: bool = False
    resampling: str | None = None
    mask: str | None = None


class _SourceTable(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    type: str


class _File(_Table):
    id: str
    title: str
    description: str = ""
    license: str = "other"
    attribution: str = ""
    citation: str = ""
    keywords: tuple[str, ...] = ()
    default_bands: tuple[str, ...] | None = None
    links: tuple[_LinkTable, ...] = ()
    grid: _GridTable
    extent: _ExtentTable = _ExtentTable()
    time: _TimeTable | None = None
    source: _SourceTable
    bands: Annotated[tuple[_BandTable, ...], Field(min_length=1)]
    styles: tuple[_StyleTable, ...] = ()


def read_collections(
    own: Path | None,
    only: Iterable[str] | None = None,
    wrong: dict[str, IcehouseError] | None = None,
) -> dict[str, CollectionSpec]:
    """Read the built-in collection files and the user's own.

    A file of the user's own replaces a built-in one of the same id, also where it can't be used.

    Args:
        own: folder of the user's files, or None.
        only: ids to keep, in any order; all when None.
        wrong: gets why a file of the user's can't be used, by the collection's id; raised when None.

    Raises:
        ConfigurationError: a file can't be used, or an id of ``only`` does not exist.
    """
    found: dict[str, CollectionSpec] = {}
    for entry in sorted(_builtin().iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            spec = parse_collection(entry.read_text(encoding="utf-8"), entry.name)
            found[spec.id] = spec
    aside: dict[str, IcehouseError] = {}
    found.update(_read_own(own, aside if wrong is not None else None) if own is not None else {})
    wanted = {*found, *aside} if only is None else set(only)
    for name in wanted:
        if name not in found and name not in aside:
            raise ConfigurationError(
                f"there is no collection {name!r} to serve", hint=guess(name, list(found))
            )
    if wrong is not None:
        wrong.update({name: why for name, why in aside.items() if name in wanted})
    return {name: spec for name, spec in found.items() if name in wanted and name not in aside}


def collection_text(name: str, own: Path | None) -> str:
    """Return the text of a collection file by its id: the user's own, a built-in one, or a template's.

    Raises:
        ConfigurationError: there is none.
    """
    if own is not None:
        for path in sorted(own.glob("*.toml")):
            text = path.read_text(encoding="utf-8")
            if parse_collection(text, str(path)).id == name:
                return text
    folder = resources.files("icehouse_server.collections")
    known = {}
    for kind in (folder / "templates", _builtin()):
        known.update({entry.name.removesuffix(".toml"): entry for entry in kind.iterdir() if entry.is_file()})
    if name not in known or not known[name].name.endswith(".toml"):
        raise ConfigurationError(
            f"there is no collection {name!r}", hint=guess(name, [word for word in known if "." not in word])
        )
    return known[name].read_text(encoding="utf-8")


def _read_own(folder: Path, wrong: dict[str, IcehouseError] | None) -> dict[str, CollectionSpec]:
    if not folder.is_dir():
        raise ConfigurationError(f"collections_dir {folder} is not a folder")
    found: dict[str, CollectionSpec] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            spec = _read_file(path)
            _check_new(spec.id, path, found)
            found[spec.id] = spec
        except ConfigurationError as error:
            if wrong is None:
                raise
            wrong[_id_of(path)] = error
    return found


def _check_new(name: str, path: Path, found: Mapping[str, CollectionSpec]) -> None:
    if name in found:
        raise ConfigurationError(f"{path}: another file of this folder has the id {name!r} already")


def _read_file(path: Path) -> CollectionSpec:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the collection file {path} can't be read: {error}") from None
    return parse_collection(text, str(path), home=path.resolve().parent)


def _id_of(path: Path) -> str:
    """Return the id of a collection whose file can't be used: the one in it, else the name of the file."""
    try:
        given = read_toml(path.read_text(encoding="utf-8")).get("id")
    except (OSError, UnicodeDecodeError, NotTomlError):
        given = None
    return given if isinstance(given, str) and given else path.stem


def _builtin() -> Traversable:
    return resources.files("icehouse_server.collections") / "builtin"


def parse_collection(text: str, name: str, home: Path | None = None) -> CollectionSpec:
    """Turn the text of a collection file into a checked spec.

    Args:
        text: TOML.
        name: the file's name, for messages.
        home: its folder, where it has one; relative paths are relative to it.

    Raises:
        ConfigurationError: names file, key and what would be right.
    """
    try:
        file = _File.model_validate(read_toml(text))
    except NotTomlError as error:
        raise ConfigurationError(f"{name} is not TOML: {error}") from None
    except ValidationError as error:
        raise _explain(error, name) from None
    try:
        return _spec(file, home)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _spec(file: _File, home: Path | None) -> CollectionSpec:
    options = dict(file.source.model_extra or {})
    grid = _grid(file.grid)
    return CollectionSpec(
        id=file.id,
        title=file.title,
        description=file.description,
        grid=grid,
        bands=tuple(_band(table) for table in file.bands),
        default_bands=file.default_bands or (file.bands[0].name,),
        source_type=file.source.type,
        source=options,
        home=None if home is None else str(home),
        bbox=_lonlat_of(grid) if file.extent.bbox is None else _bbox(file.extent.bbox),
        overviews=file.grid.overviews,
        time=None if file.time is None else _time(file.time),
        interval=tuple(None if end == ".." else end for end in file.extent.interval),  # type: ignore[arg-type]
        license=file.license,
        attribution=file.attribution,
        citation=file.citation,
        keywords=file.keywords,
        links=tuple((link.title, link.href) for link in file.links),
        styles=tuple(_style(table) for table in file.styles),
    )


def _band(table: _BandTable) -> BandSpec:
    if table.dtype not in DTYPES:
        raise ValueError(f"bands.{table.name}.dtype: {table.dtype!r} is not one of {', '.join(DTYPES)}")
    try:
        return BandSpec(**{**table.model_dump(), "dtype": np.dtype(table.dtype)})
    except ValueError as error:
        raise ValueError(f"bands.{table.name}: {error}") from None


def _style(table: _StyleTable) -> Style:
    try:
        return Style(**{**table.model_dump(), "title": table.title or table.name})
    except ValueError as error:
        raise ValueError(f"styles.{table.name}.{error}") from None


def _check_flat(crs: CRS, text: str) -> None:
    if is_flat(crs):
        return
    flat = CRS(horizontal(str(crs)))
    code = flat.to_epsg()
    if is_flat(flat) and code is not None:
        raise ValueError(
            f"grid.crs: {shortened(text)} has heights too; write its horizontal part, EPSG:{code}"
        )
    raise ValueError(
        f"grid.crs: {shortened(text)} must be a 2-D projected or geographic CRS; "
        "give a code such as EPSG:3413"
    )


def _grid(table: _GridTable) -> Grid:
    try:
        crs = CRS(table.crs)
    except Exception:  # noqa: BLE001 - pyproj's errors have no common base worth naming here
        raise ValueError(f"grid.crs: {table.crs!r} is not a CRS; give a code such as EPSG:3413") from None
    _check_flat(crs, table.crs)
    west, south, east, north = table.bounds
    sizes = ((east - west) / table.resolution, (north - south) / table.resolution)
    if not all(math.isfinite(size) and size >= 1 - _GRID_TOLERANCE for size in sizes):
        raise ValueError(
            "grid.bounds: they are minx, miny, maxx, maxy in units of the CRS, and hold a pixel at least"
        )
    cols, rows = (round(size) for size in sizes)
    if max(abs(cols - sizes[0]), abs(rows - sizes[1])) > _GRID_TOLERANCE:
        raise ValueError(
            f"grid.bounds: {sizes[0]} x {sizes[1]} pixels of {table.resolution} are not whole numbers"
        )
    affine = Affine(table.resolution, 0.0, west, 0.0, -table.resolution, north)
    return Grid(geobox=GeoBox((rows, cols), affine, crs), chunk=table.chunk)


def _time(table: _TimeTable) -> TimeAxis:
    periodic = (table.start, table.period, table.delay) != (None, None, None) or table.end != ".."
    if bool(table.steps) == periodic or (periodic and (table.start is None or table.period is None)):
        raise ValueError(
            "time: give either steps = [[start, end], ...], or start and period (and end, unless it rolls)"
        )
    if table.delay is not None and table.end != "..":
        raise ValueError("time.delay: it is for an axis that rolls; leave it or end out")
    listed = tuple(_named("time.steps", _step, pair) for pair in table.steps)
    start = None if table.start is None else _named("time.start", _moment, table.start)
    period = None if table.period is None else _named("time.period", Period.parse, table.period)
    end = None if table.end == ".." else _named("time.end", _moment, table.end)
    delay = timedelta(0) if table.delay is None else _named("time.delay", _delay, table.delay)
    try:
        return TimeAxis(listed=listed, start=start, period=period, end=end, delay=delay)
    except ValueError as error:
        raise ValueError(f"time: {error}") from None


def _named[V, T](key: str, read: Callable[[V], T], value: V) -> T:
    """Read the value of a key; an error then names the key."""
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _step(pair: tuple[str | date, str | date]) -> TimeStep:
    return TimeStep(start=_moment(pair[0]), end=_moment(pair[1]))


def _moment(value: str | date) -> datetime:
    """Read a moment of a collection file: TOML has dates of its own, and a text says the same."""
    return parse_moment(value if isinstance(value, str) else value.isoformat())


def _delay(text: str) -> timedelta:
    period = Period.parse(text)
    if period.months:
        raise ValueError(f"{text!r} has no fixed length; write days, such as P60D")
    return period.rest


def _lonlat_of(grid: Grid) -> tuple[float, float, float, float]:
    """Return the extent of a file that gives none: that of its grid."""
    try:
        return lonlat_bounds(grid.geobox).bbox
    except ValueError as error:
        raise ValueError(f"grid.crs: {error}; write extent.bbox") from None


def _bbox(bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = bbox
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):  # noqa: PLR2004
        raise ValueError("extent.bbox: it is west, south, east, north in degrees, west > east across 180")
    return bbox


def _explain(error: ValidationError, name: str) -> ConfigurationError:
    # A misspelt key is unknown and missing at once; the first says more.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigurationError(
            f"{name}: unknown key {shortened(key)}", hint=guess(key, list(_known_keys(first["loc"])))
        )
    if first["type"] == "missing":
        return ConfigurationError(f"{name}: the key {key!r} is missing")
    return ConfigurationError(
        f"{name}: {key} = {shortened(first['input'])}: {first['msg'].removeprefix('Value error, ')}"
    )


def _known_keys(place: tuple[int | str, ...]) -> Iterable[str]:
    tables: dict[str, type[BaseModel]] = {
        "grid": _GridTable,
        "extent": _ExtentTable,
        "time": _TimeTable,
        "links": _LinkTable,
        "bands": _BandTable,
        "styles": _StyleTable,
    }
    table = tables.get(str(place[0]), _File) if len(place) > 1 else _File
    prefix = ".".join(str(part) for part in place[:-1])
    return (f"{prefix}.{key}" if prefix else key for key in table.model_fields)
