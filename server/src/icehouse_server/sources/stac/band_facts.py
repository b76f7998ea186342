"""What an item document says of one band of a file: its units, and what invalid pixels hold."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.raster.units import Units
from icehouse_server.raster.validity import number_of
from icehouse_server.sources.stac.documents import AssetDocument, number

type Corrupt = Callable[[str], SourceCorruptError]
"""Makes the error that names the item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandFacts:
    """What a document says of a band."""

    units: Units | None
    """None where it does not say."""
    nodata: float | None
    """None where it does not say; the file's own goes first."""


def band_facts(asset: AssetDocument, index: int, corrupt: Corrupt, *, offset_applied: bool) -> BandFacts:
    """Return what an asset says of one of its bands: by ``raster:bands``, or ``bands`` of STAC 1.1.

    Args:
        asset: of an item.
        index: band of the file, from 1.
        corrupt: makes the error that names the item.
        offset_applied: whether offsets are in the pixels already.

    Raises:
        SourceCorruptError: what it says is malformed.
    """
    facts = facts_table(asset, index)
    units = _units(facts, corrupt, offset_applied=offset_applied)
    return BandFacts(units=units, nodata=_nodata(facts, corrupt))


def facts_table(asset: AssetDocument, index: int) -> Mapping[str, object]:
    """Return all that an asset says of one of its bands, in the form of ``raster:bands``."""
    found: dict[str, object] = dict(asset.extra_fields)
    for key in ("raster:bands", "bands"):
        tables = asset.extra_fields.get(key)
        if isinstance(tables, list) and len(tables) >= index and isinstance(tables[index - 1], dict):
            found.update(tables[index - 1])
    for name in ("scale", "offset"):
        if f"raster:{name}" in found:
            found[name] = found[f"raster:{name}"]
    return found


def _units(facts: Mapping[str, object], corrupt: Corrupt, *, offset_applied: bool) -> Units | None:
    if facts.get("scale") is None and facts.get("offset") is None:
        return None
    scale = _number(facts.get("scale"), 1.0, "scale", corrupt)
    offset = _number(facts.get("offset"), 0.0, "offset", corrupt)
    if scale == 0:
        raise corrupt("its scale is 0")
    return Units(scale=scale, offset=0.0 if offset_applied else offset)


def _nodata(facts: Mapping[str, object], corrupt: Corrupt) -> float | None:
    """Return nodata as a number; documents also write it as text, and Python's as a bare NaN."""
    value = facts.get("nodata")
    if isinstance(value, str):
        return number_of(value)  # one that says no number says nothing
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return value
    return _number(value, 0.0, "nodata", corrupt)


def _number(value: object, default: float, name: str, corrupt: Corrupt) -> float:
    if value is None:
        return default
    found = number(value)
    if found is None or not math.isfinite(found):
        raise corrupt(f"its {name} is not a number")
    return found
