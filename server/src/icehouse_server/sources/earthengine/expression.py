"""The expression that Earth Engine computes: from the tables of a collection file, by its own library.

``ee`` is passed in, as only ``earthengine_access`` imports it.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from pyproj.enums import WktVersion

from icehouse_server.core.grid import Grid
from icehouse_server.core.time import TimeStep
from icehouse_server.sources.earthengine.request_cutting import PixelRect
from icehouse_server.sources.earthengine.settings import (
    Cast,
    Condition,
    EarthEngineTable,
    MaskBy,
    Operation,
    Scale,
    Select,
)
from icehouse_server.sources.earthengine.value_bands import Layout, ValueBand

type Ee = Any
"""The module ``ee``, whose classes are made while it initialises."""
type EeImage = Any
type EeImages = Any

_CASTS = {
    "uint8": "toUint8",
    "int8": "toInt8",
    "uint16": "toUint16",
    "int16": "toInt16",
    "uint32": "toUint32",
    "int32": "toInt32",
    "float32": "toFloat",
    "float64": "toDouble",
}


def pixel_grid(grid: Grid, rect: PixelRect) -> dict[str, object]:
    """Return a rectangle as the grid of a request: exactly its affine, CRS and shape."""
    affine = grid.geobox_of(rect.window).affine
    code = grid.crs.epsg
    # Earth Engine reads WKT as GeoTools does, which is its first version.
    crs = (
        {"crsCode": f"EPSG:{code}"}
        if code is not None
        else {"crsWkt": grid.crs.to_wkt(version=WktVersion.WKT1_GDAL)}
    )
    return {
        "dimensions": {"width": rect.window.width, "height": rect.window.height},
        "affineTransform": {
            "scaleX": affine.a,
            "shearX": affine.b,
            "translateX": affine.c + rect.shift,
            "shearY": affine.d,
            "scaleY": affine.e,
            "translateY": affine.f,
        },
        **crs,
    }


def request_image(ee: Ee, table: EarthEngineTable, layout: Layout, step: TimeStep | None) -> EeImage:
    """Return an image whose bands are those of a request, none of them masked anywhere."""
    image = _picture(ee, table, layout.source_bands, step)
    fitting = {
        dtype: _fitting(image.select(bands), dtype) for dtype, bands in _bands_by_dtype(layout).items()
    }
    images = [_values(fitting[dtype], members) for (dtype, _), members in _alike(layout).items()]
    images += [_mask_band(image, fitting, layout, number) for number in range(len(layout.mask_bands))]
    return reduce(lambda left, right: left.addBands(right), images)


def _picture(ee: Ee, table: EarthEngineTable, bands: Sequence[str], step: TimeStep | None) -> EeImage:
    """Return one image with the bands that are asked for, masked where there is nothing."""
    if table.image is not None:
        return _operated(ee.Image(table.image), table.operations).select(list(bands))
    images = ee.ImageCollection(table.collection)
    if step is not None:
        # Images that begin within the step: from its start up to, and without, its end.
        images = images.filterDate(*(1000 * seconds for seconds in step.seconds))
    for name, condition in table.filter.items():
        images = images.filter(_filter(ee, name, condition))
    if table.operations:
        chosen = images.map(lambda image: _operated(image, table.operations).select(list(bands)))
    else:
        chosen = images.select(list(bands))
    composite = _composite(ee, table, chosen)
    if step is not None or table.filter:
        # A composite of no images has no bands, and asking for one is an error: void is none.
        void = ee.Image.constant([0] * len(bands)).updateMask(0)
        composite = ee.Image(ee.Algorithms.If(images.size(), composite, void))
    return composite.rename(list(bands))  # a reducer adds its own name to theirs


def _composite(ee: Ee, table: EarthEngineTable, images: EeImages) -> EeImage:
    if table.composite in {"first", "last"}:
        return images.reduce(getattr(ee.Reducer, f"{table.composite}NonNull")())
    return getattr(images, str(table.composite))()


def _filter(ee: Ee, name: str, condition: Condition) -> Any:  # noqa: ANN401 - of a class that ee makes
    if isinstance(condition, Mapping):
        tests = [getattr(ee.Filter, how)(name, value) for how, value in condition.items()]
        return ee.Filter.And(*tests)
    if isinstance(condition, tuple):
        return ee.Filter.inList(name, list(condition))
    return ee.Filter.eq(name, condition)


def _operated(image: EeImage, operations: Sequence[Operation]) -> EeImage:
    """Return an image after the operations of the collection file, in their order."""
    for operation in operations:
        match operation:
            case Select(bands=bands, rename=rename):
                image = image.select(list(bands), None if rename is None else list(rename))
            case Cast(dtype=dtype, bands=bands):
                image = _changed(image, bands, lambda chosen, into=dtype: _cast(chosen, into))
            case Scale(multiply=factor, add=term, bands=bands):
                image = _changed(
                    image, bands, lambda chosen, by=factor, plus=term: chosen.multiply(by).add(plus)
                )
            case MaskBy():
                image = image.updateMask(_kept(image.select([operation.band]), operation))
    return image


def _changed(image: EeImage, bands: Sequence[str] | None, change: Any) -> EeImage:  # noqa: ANN401 - a function of images
    """Return an image of which some bands, or all, are changed."""
    return (
        change(image) if bands is None else image.addBands(change(image.select(list(bands))), overwrite=True)
    )


def _kept(band: EeImage, rule: MaskBy) -> EeImage:
    """Return 1 where a rule keeps a pixel."""
    if rule.bits:
        return band.bitwiseAnd(sum(1 << bit for bit in set(rule.bits))).eq(0)
    if rule.keep:
        return reduce(lambda left, right: left.Or(right), [band.eq(value) for value in rule.keep])
    return reduce(lambda left, right: left.And(right), [band.neq(value) for value in rule.drop])


def _bands_by_dtype(layout: Layout) -> dict[str, list[str]]:
    """Return which bands are asked for in which dtype."""
    found: dict[str, dict[str, None]] = {}
    wanted = [(value.dtype, value.band) for value in layout.values]
    wanted += [(bit.dtype, bit.band) for bit in layout.bits if bit.dtype is not None]
    for dtype, band in wanted:
        found.setdefault(str(dtype), {})[band] = None
    return {name: list(bands) for name, bands in found.items()}


def _alike(layout: Layout) -> dict[tuple[str, float | int], list[tuple[int, ValueBand]]]:
    """Return the value bands in groups that are treated the same way: by dtype and sentinel."""
    groups: dict[tuple[str, float | int], list[tuple[int, ValueBand]]] = {}
    for number, value in enumerate(layout.values):
        groups.setdefault((str(value.dtype), value.sentinel), []).append((number, value))
    return groups


def _values(fitting: EeImage, members: Sequence[tuple[int, ValueBand]]) -> EeImage:
    """Return value bands: the sentinel where a band is masked or its value does not fit."""
    value = members[0][1]
    chosen = fitting.select([member.band for _, member in members]).unmask(value.sentinel, False)
    return _cast(chosen, str(value.dtype)).rename([f"v{number}" for number, _ in members])


def _mask_band(image: EeImage, fitting: Mapping[str, EeImage], layout: Layout, number: int) -> EeImage:
    """Return a mask band: a bit for each mask."""
    bits = []
    for position, bit in enumerate(layout.mask_bands[number]):
        band = (image if bit.dtype is None else fitting[str(bit.dtype)]).select([bit.band])
        bits.append(band.mask().gt(0).unmask(0, False).multiply(1 << position))
    return reduce(lambda left, right: left.add(right), bits).toUint8().rename([f"m{number}"])


def _fitting(image: EeImage, dtype: str) -> EeImage:
    """Return an image that is masked where an integer dtype can't hold its value: a cast would change it."""
    return image if dtype.startswith("float") else image.updateMask(image.eq(_cast(image, dtype)))


def _cast(image: EeImage, dtype: str) -> EeImage:
    return getattr(image, _CASTS[dtype])()
