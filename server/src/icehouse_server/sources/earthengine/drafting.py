"""A draft of what Earth Engine's documents say of an image, or of a collection of images."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from affine import Affine
from odc.geo.crs import CRS

from icehouse_server.core.drafts.draft import Draft, DraftBand, Inquiry, Remark, band_names, id_of
from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.raster.file_facts import BandFacts
from icehouse_server.sources.raster.draft_bands import draft_band, is_storable
from icehouse_server.sources.raster.draft_grid import ChosenGrid, PlacedRaster, choose_grid
from icehouse_server.sources.raster.repeats import is_repeated, longest_period

_CATALOG = "https://developers.google.com/earth-engine/datasets/catalog/"
_LONGEST = 300
_LONGEST_DESCRIPTION = 2000
_TAG = re.compile(r"<[^>]{0,200}>")
_RANGES = {
    "uint8": (0, 2**8 - 1),
    "int8": (-(2**7), 2**7 - 1),
    "uint16": (0, 2**16 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint32": (0, 2**32 - 1),
    "int32": (-(2**31), 2**31 - 1),
}
"""Integers that a collection can hold, the shortest first."""


def draft_of(
    asset: str,
    document: Mapping[str, Any],
    images: Sequence[Mapping[str, Any]],
    inquiry: Inquiry,
    *,
    whole: bool,
) -> Draft:
    """Return the draft of an asset.

    Args:
        asset: its id.
        document: of the asset.
        images: itself, or images of the collection.
        inquiry: what is wanted.
        whole: whether these are all images that there are.

    Raises:
        SourceCorruptError: it does not say where its pixels lie, or has no band that a collection can hold.
        BadParameterError: the grid can't be as it is wished.
    """
    placed = [raster for image in images if (raster := _placed(image)) is not None]
    if not placed:
        raise SourceCorruptError(
            f"Earth Engine does not say where the pixels of {asset!r} lie", href=f"earthengine:{asset}"
        )
    is_image = document.get("type") == "IMAGE"
    chosen = choose_grid(placed, inquiry.wish)
    dates = {str(image.get("id")): _date(image.get("startTime")) for image in images}
    known = sorted(date for date in dates.values() if date is not None)
    repeated = not is_image and is_repeated(placed, [dates.get(one.name) for one in placed])
    bands, remarks = _bands(asset, images[0])
    main = chosen.main
    x, y = main.geobox.affine @ (main.shape[1] / 2, main.shape[0] / 2)
    at = transformer(main.crs, CRS("EPSG:4326")).transform(x, y)
    about = _about(document)
    return Draft(
        id=id_of(asset if asset.count("/") == 1 else asset.rpartition("/")[2]),
        title=about.get("title") or asset,
        description=about.get("description", ""),
        attribution=about.get("provider", ""),
        links=(("Earth Engine Data Catalog", _CATALOG + asset.replace("/", "_")),)
        if _is_public(asset)
        else (),
        grid=chosen.grid,
        interval=_interval(document, images, whole=whole),
        time=_time(known, document) if repeated else {},
        source={"type": "earthengine", "image": asset}
        if is_image
        else {"type": "earthengine", "collection": asset, "composite": "mosaic"},
        bands=bands,
        remarks=(
            *_remarks(asset, about, chosen, len(images), is_image=is_image, whole=whole, inquiry=inquiry),
            *(_time_remarks() if repeated else ()),
            *remarks,
        ),
        at=(float(at[0]), float(at[1])),
        moment=_text(dates.get(main.name)) if repeated else None,
    )


def _placed(image: Mapping[str, Any]) -> PlacedRaster | None:
    """Return where the finest pixels of an image lie, north up; None where it has no bounds."""
    found = [raster for band in image.get("bands", []) if (raster := _raster(image, band)) is not None]
    return min(found, key=lambda one: float(one.transform.a), default=None)


def _raster(image: Mapping[str, Any], band: Mapping[str, Any]) -> PlacedRaster | None:
    grid = band.get("grid", {})
    size, terms = grid.get("dimensions", {}), grid.get("affineTransform", {})
    width, height = int(size.get("width", 0)), int(size.get("height", 0))
    step_x, step_y = float(terms.get("scaleX", 0)), float(terms.get("scaleY", 0))
    text = grid.get("crsCode") or grid.get("crsWkt")
    if not (width > 0 and height > 0 and step_x and step_y and text):
        return None
    if float(terms.get("shearX", 0)) or float(terms.get("shearY", 0)):
        return None
    left, top = float(terms.get("translateX", 0)), float(terms.get("translateY", 0))
    # Earth Engine computes any grid, so one that runs the other way is turned round.
    left, top = min(left, left + width * step_x), max(top, top + height * step_y)
    affine = Affine(abs(step_x), 0.0, left, 0.0, -abs(step_y), top)
    return PlacedRaster(
        name=str(image.get("id")), crs=CRS(str(text)), transform=affine, shape=(height, width)
    )


def _bands(asset: str, image: Mapping[str, Any]) -> tuple[tuple[DraftBand, ...], list[Remark]]:
    tables = image.get("bands", [])
    ids = [str(table["id"]) for table in tables]
    bands: list[DraftBand] = []
    remarks: list[Remark] = []
    for name, own, table in zip(band_names(ids), ids, tables, strict=True):
        facts = _facts(table)
        if not is_storable(facts):
            remarks.append(Remark(where="bands", text=f"{own} is left out: its type is {facts.dtype}."))
            continue
        source: dict[str, object] = {} if name == own else {"band": own}
        band, _ = draft_band(name, facts, source)
        bands.append(band)
        remarks += _nodata_remarks(band)
    if not bands:
        raise SourceCorruptError(
            f"no band of {asset!r} has a data type that a collection can hold", href=f"earthengine:{asset}"
        )
    return tuple(bands), remarks


def _facts(table: Mapping[str, Any]) -> BandFacts:
    dtype = _dtype(table.get("dataType", {}))
    return BandFacts(
        index=1,
        dtype=dtype,
        nodata=_RANGES[dtype][0] if dtype.startswith("int") and dtype in _RANGES else None,
        scale=1.0,
        offset=0.0,
        units="",
        description="",
        colour="",
        classes=table.get("pyramidingPolicy") in {"MODE", "SAMPLE"},
        masked=True,
    )


def _dtype(kind: Mapping[str, Any]) -> str:
    match kind.get("precision"):
        case "FLOAT":
            return "float32"
        case "DOUBLE":
            return "float64"
        case "INT":
            limits = kind.get("range", {})
            low, high = float(limits.get("min", 0)), float(limits.get("max", math.inf))
            return next(
                (name for name, (least, most) in _RANGES.items() if least <= low and high <= most), "int64"
            )
        case other:
            return str(other)[:40]


def _nodata_remarks(band: DraftBand) -> Iterator[Remark]:
    """Say what becomes of masked pixels: Earth Engine has masks, and no nodata."""
    if band.nodata is None:
        yield Remark(
            where=f"band:{band.name}",
            text="Masked pixels become 0, like pixels that are 0. If no valid pixel is:\n nodata = 0",
            fill_in=True,
        )
    elif not math.isnan(band.nodata):
        yield Remark(
            where=f"band:{band.name}",
            text="Masked pixels become nodata: a value that valid pixels must not have.",
        )


def _about(document: Mapping[str, Any]) -> dict[str, str]:
    """Return title, description and provider of a published asset."""
    properties = document.get("properties") or {}
    longest = {"title": _LONGEST, "provider": _LONGEST, "description": _LONGEST_DESCRIPTION}
    found = {}
    for key, most in longest.items():
        value = properties.get(key, document.get(key))
        if isinstance(value, str):
            found[key] = " ".join(_TAG.sub(" ", value).split())[:most]
    return found


def _interval(
    document: Mapping[str, Any], images: Sequence[Mapping[str, Any]], *, whole: bool
) -> tuple[str | None, str | None]:
    first, last = _date(document.get("startTime")), _date(document.get("endTime"))
    if whole and first is None:
        starts = [date for image in images if (date := _date(image.get("startTime"))) is not None]
        ends = [date for image in images if (date := _date(image.get("endTime"))) is not None]
        first, last = min(starts, default=None), max(ends, default=None)
    return _text(first), _text(last)


def _time(dates: Sequence[datetime], document: Mapping[str, Any]) -> dict[str, object]:
    period = longest_period(sorted(set(dates)))
    first = _date(document.get("startTime")) or dates[0]
    return {
        "start": first.strftime("%Y" if period == "yearly" else "%Y-%m"),
        "period": period,
        "delay": "P10D",
    }


def _remarks(
    asset: str,
    about: Mapping[str, str],
    chosen: ChosenGrid,
    count: int,
    *,
    is_image: bool,
    whole: bool,
    inquiry: Inquiry,
) -> Iterator[Remark]:
    where = f": {_CATALOG}{asset.replace('/', '_')}" if _is_public(asset) else ""
    yield Remark(
        where="license",
        text=f'Earth Engine\'s documents name no licence{where}\n license = "CC-BY-4.0"',
        fill_in=True,
    )
    if not about.get("provider"):
        yield Remark(where="attribution", text='Who is to be named:\n attribution = "..."', fill_in=True)
    if not is_image and not whole and inquiry.wish.bbox is None:
        yield Remark(
            where="grid",
            text=f"The grid holds the {count} images that were looked at, of more. "
            "Choose your own: --bbox, with --crs and --resolution.",
            fill_in=True,
        )
    elif chosen.warped:
        yield Remark(
            where="grid", text="Earth Engine resamples to this grid: not all pixels are those of the images."
        )
    if not is_image:
        yield Remark(
            where="source",
            text="What becomes of images that overlap: mosaic (the last on top), median, mean, min, max, "
            "first, last. [source.filter] keeps some of them.",
            fill_in=True,
        )


def _time_remarks() -> Iterator[Remark]:
    yield Remark(
        where="time", text="Images of one place have several dates. Choose how long a step is.", fill_in=True
    )


def _is_public(asset: str) -> bool:
    return not asset.startswith(("users/", "projects/"))


def _date(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
