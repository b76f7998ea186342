"""Bands of a collection that is in the making, of what a file says of them."""

import math

from icehouse_server.core.collection import DTYPES
from icehouse_server.core.drafts.draft import DraftBand, Remark
from icehouse_server.raster.file_facts import BandFacts

_CLASS_WORDS = (
    "mask",
    "class",
    "qa",
    "flag",
    "count",
    "label",
    "scl",
    "landcover",
    "quality",
    "category",
    "date",
)
_UNITS = {"meter": "m", "metre": "m", "meters": "m", "metres": "m", "none": "", "unknown": ""}


def is_storable(facts: BandFacts) -> bool:
    """Return whether a collection can hold a band's data type."""
    return facts.dtype in DTYPES


def draft_band(name: str, facts: BandFacts, source: dict[str, object]) -> tuple[DraftBand, list[Remark]]:
    """Return a band, and what is to be said of it.

    Args:
        name: of the band.
        facts: what is known of it; its dtype is one that a collection can hold.
        source: ``[bands.source]``.
    """
    is_float = facts.dtype.startswith("float")
    nodata = math.nan if is_float and facts.nodata is None else facts.nodata
    remarks = []
    if nodata is None:
        remarks.append(
            Remark(
                where=f"band:{name}",
                text=_without_nodata(facts),
                fill_in=facts.masked,
            )
        )
    return (
        DraftBand(
            name=name,
            dtype=facts.dtype,
            nodata=nodata,
            units=units_of(facts.units),
            long_name="" if facts.description == name else facts.description,
            resampling="nearest" if _is_classes(name, facts) else "bilinear",
            scale=facts.scale if math.isfinite(facts.scale) and facts.scale else 1.0,
            offset=facts.offset if math.isfinite(facts.offset) else 0.0,
            source=source,
        ),
        remarks,
    )


def units_of(text: str) -> str:
    """Return a unit by the name that UDUNITS has for it, as far as it is known here."""
    return _UNITS.get(text.lower(), text)


def _without_nodata(facts: BandFacts) -> str:
    if facts.masked:
        return (
            "The file has a mask and no nodata value. Write a nodata that no valid pixel holds:\n"
            f" nodata = {'0' if facts.dtype.startswith('u') else '-1'}"
        )
    return "The source names no nodata value: every value is valid, and what is void becomes 0."


def _is_classes(name: str, facts: BandFacts) -> bool:
    """Return whether values are names, masks or counts, between which nothing lies."""
    if facts.classes or facts.dtype in {"uint8", "int8"}:
        return not facts.colour
    words = f"{name} {facts.description}".lower()
    return not facts.dtype.startswith("float") and any(word in words for word in _CLASS_WORDS)
