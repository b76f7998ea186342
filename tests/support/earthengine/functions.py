"""The functions of Earth Engine that the stand-in knows, by their names on the wire."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from support.earthengine import world
from support.earthengine.composites import mosaic, reduce
from support.earthengine.geometry import Geometry
from support.earthengine.images import (
    Collection,
    EarthEngineError,
    Image,
    load_collection,
    load_image,
)
from support.earthengine.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

type Test = Callable[[Image], bool]
"""What a filter asks of an image."""
type Reducer = tuple[str, ...]
"""A reducer's name; for `toList` and `repeat` more."""


def not_found(kind: str, name: str) -> EarthEngineError:
    """What Earth Engine says of an asset in an expression, whether it is missing or forbidden."""
    return EarthEngineError(
        f"{kind}.load: {kind} asset '{name}' not found (does not exist or caller does not have access)."
    )


def find_image(name: str) -> Image | None:
    """The image of an id: an asset, or one of a collection's. None if there is none or it is forbidden."""
    asset = world.find(name)
    if asset is not None:
        return load_image(asset, asset.tiles[0]) if not asset.collection else None
    parent, _, index = world.short(name).rpartition("/")
    asset = world.find(parent)
    if asset is None or not asset.collection or parent == world.FORBIDDEN:
        return None
    return next((load_image(asset, tile) for tile in asset.tiles if tile.index == index), None)


def _image_load(id: str, version: float = -1) -> Image:
    del version
    found = find_image(id)
    if found is None:
        raise not_found("Image", id)
    return found


def _collection_load(id: str, version: float = -1) -> Collection:
    del version
    asset = world.find(id)
    if asset is None or not asset.collection or world.short(id) == world.FORBIDDEN:
        raise not_found("ImageCollection", id)
    return load_collection(asset)


def _from_images(images: list[Image]) -> Collection:
    return Collection(images=tuple(_as_image(image) for image in images))


def _as_image(value: object) -> Image:
    if not isinstance(value, Image):
        raise EarthEngineError("Image: Parameter 'value' is required and must be an image.")
    return value


def _map(
    collection: Collection, baseAlgorithm: Callable[[Image], Image], dropNulls: bool = False
) -> Collection:
    del dropNulls
    return replace(collection, images=tuple(_as_image(baseAlgorithm(one)) for one in collection.images))


def _iterate(collection: Collection, function: Callable[[Image, Any], Any], first: Any = None) -> Any:
    for image in collection.images:
        first = function(image, first)
    return first


def _limit(
    collection: Collection, limit: int | None = None, key: str | None = None, ascending: bool = True
) -> Collection:
    images = list(collection.images)
    if key is not None:
        held = [image for image in images if image.properties.get(key) is not None]
        rest = [image for image in images if image.properties.get(key) is None]
        images = sorted(held, key=lambda one: one.properties[key], reverse=not ascending) + rest
    return replace(collection, images=tuple(images if limit is None else images[:limit]))


def _first(collection: Collection) -> Image:
    if not collection.images:
        raise EarthEngineError("Collection.first: the collection is empty.")
    return collection.images[0]


def _to_list(collection: Collection, count: int, offset: int = 0) -> list[Image]:
    return list(collection.images[int(offset) : int(offset) + int(count)])


def _slice(list: list[Any], start: int = 0, end: int | None = None, step: int = 1) -> list[Any]:
    return list[int(start) : None if end is None else int(end) : int(step)]


def _to_bands(collection: Collection) -> Image:
    bands = [
        replace(band, name=f"{image.properties.get('system:index', number)}_{band.name}")
        for number, image in enumerate(collection.images)
        for band in image.bands
    ]
    return Image(bands=tuple(bands))


def _reduce_columns(collection: Collection, reducer: Reducer, selectors: list[str]) -> dict[str, Any]:
    if "toList" not in reducer:
        raise EarthEngineError("Collection.reduceColumns: the stand-in knows lists only.")
    rows = [[image.properties.get(name) for name in selectors] for image in collection.images]
    whole = [row for row in rows if None not in row]
    columns = [list(column) for column in zip(*whole, strict=True)] or [[] for _ in selectors]
    return {"list": columns if "repeat" in reducer else columns[0]}


def _reduce(collection: Collection, reducer: Reducer, parallelScale: float = 1) -> Image:
    del parallelScale
    return reduce(collection, reducer[0], f"_{reducer[0].removesuffix('NonNull')}")


def _millis(value: Any) -> float:
    if isinstance(value, int | float):
        return float(value)
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError as error:
        raise EarthEngineError(f"Date: Bad date/time '{value}'.") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp() * 1000


def _date_range(start: Any, end: Any = None, timeZone: str | None = None) -> tuple[float, float]:
    del timeZone
    first = _millis(start)
    last = first + 1 if end is None else _millis(end)
    if last <= first:
        raise EarthEngineError("DateRange: Empty date ranges not supported for the current operation.")
    return first, last


def _in_dates(leftValue: tuple[float, float], rightField: str) -> Test:
    def test(image: Image) -> bool:
        value = image.properties.get(rightField)
        return value is not None and leftValue[0] <= value < leftValue[1]

    return test


def _compare(compare: Callable[[Any, Any], bool]) -> Callable[..., Test]:
    def make(leftField: str, rightValue: Any) -> Test:
        return lambda image: (
            image.properties.get(leftField) is not None and compare(image.properties[leftField], rightValue)
        )

    return make


def _list_contains(
    leftValue: list[Any] | None = None,
    rightField: str | None = None,
) -> Test:
    return lambda image: image.properties.get(rightField or "") in (leftValue or [])


def _intersects(leftField: str, rightValue: Geometry, maxError: float | None = None) -> Test:
    del leftField, maxError
    return lambda image: (
        image.footprint is None or any(rightValue.meets(extent.crs, extent.box) for extent in image.footprint)
    )


def _filter(collection: Collection, filter: Test) -> Collection:
    return replace(collection, images=tuple(image for image in collection.images if filter(image)))


def _set(object: Image, key: str, value: Any) -> Image:
    return replace(object, properties={**object.properties, key: value})


def _get(object: Image, property: str) -> Any:
    return object.properties.get(property)


def _element_dictionary(element: Image | Collection, properties: list[str] | None = None) -> dict[str, Any]:
    found = {} if isinstance(element, Collection) else element.properties
    return {key: value for key, value in found.items() if properties is None or key in properties}


def _geometry(feature: Image, **_: object) -> Geometry:
    if not feature.footprint:
        return Geometry.of_box((-180.0, -90.0, 180.0, 90.0))
    return Geometry.of_extents([(extent.crs, extent.box) for extent in feature.footprint])


_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equals": lambda a, b: a == b,
    "notEquals": lambda a, b: a != b,
    "lessThan": lambda a, b: a < b,
    "lessThanOrEquals": lambda a, b: a <= b,
    "greaterThan": lambda a, b: a > b,
    "greaterThanOrEquals": lambda a, b: a >= b,
    "stringContains": lambda a, b: b in a,
    "stringStartsWith": lambda a, b: a.startswith(b),
}
_COMPOSITES: Final = ("median", "mean", "min", "max", "sum", "count")
_REDUCERS: Final = (*_COMPOSITES, "first", "firstNonNull", "last", "lastNonNull", "toList")

FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **OPERATIONS,
    "Image.load": _image_load,
    "ImageCollection.load": _collection_load,
    "ImageCollection.fromImages": _from_images,
    "ImageCollection.mosaic": mosaic,
    "ImageCollection.reduce": _reduce,
    "ImageCollection.toBands": _to_bands,
    **{f"reduce.{name}": (lambda collection, name=name: reduce(collection, name)) for name in _COMPOSITES},
    **{f"Reducer.{name}": (lambda name=name, **_: (name,)) for name in _REDUCERS},
    "Reducer.repeat": lambda reducer, count: (*reducer, "repeat", count),
    "Collection.map": _map,
    "Collection.iterate": _iterate,
    "Collection.filter": _filter,
    "Collection.limit": _limit,
    "Collection.first": _first,
    "Collection.size": lambda collection: len(collection.images),
    "Collection.toList": _to_list,
    "Collection.reduceColumns": _reduce_columns,
    "AggregateFeatureCollection.array": lambda collection, property: [
        image.properties[property] for image in collection.images if property in image.properties
    ],
    "DateRange": _date_range,
    "Date": lambda value, timeZone=None: _millis(value),
    "Filter.dateRangeContains": _in_dates,
    **{f"Filter.{name}": _compare(compare) for name, compare in _COMPARISONS.items()},
    "Filter.listContains": _list_contains,
    "Filter.intersects": _intersects,
    "Filter.and": lambda filters: lambda image: all(one(image) for one in filters),
    "Filter.or": lambda filters: lambda image: any(one(image) for one in filters),
    "Filter.not": lambda filter: lambda image: not filter(image),
    "Filter.notNull": lambda properties: (
        lambda image: all(image.properties.get(name) is not None for name in properties)
    ),
    "If": lambda condition, trueCase=None, falseCase=None: trueCase if condition else falseCase,
    "List.slice": _slice,
    "List.get": lambda list, index: list[int(index)],
    "Dictionary.get": lambda dictionary, key, defaultValue=None: dictionary.get(key, defaultValue),
    "Element.set": _set,
    "Element.get": _get,
    "Element.toDictionary": _element_dictionary,
    "Image.bandNames": lambda image: [band.name for band in image.bands],
    "Element.geometry": _geometry,
    "Feature": lambda geometry, metadata=None: geometry,
    "Feature.geometry": _geometry,
    "Image.geometry": _geometry,
    "ErrorMargin": lambda value=math.inf, unit="meters": value,
    "Geometry.bounds": lambda geometry, maxError=None, proj=None: geometry.bounds(),
    "GeometryConstructors.Polygon": lambda coordinates, **_: Geometry(coordinates[0]),
    "Projection": lambda crs, transform=None, transformWkt=None: crs,
}
"""Each takes Earth Engine's arguments by name."""
