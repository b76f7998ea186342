"""What a collection file says about an Earth Engine source: ``[source]`` and ``[bands.source]``."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.sources.tables import parse_table

EE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""Data types that are asked for: Earth Engine has neither uint64 nor half floats, and doubles for int64."""

MAX_HOLE = 64
"""Longest side of a hole that may be filled, in pixels: twice as much is read around every block."""

_STRICT = ConfigDict(extra="forbid", frozen=True)

type _Asset = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./:-]{0,255}$")]
type _Band = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,127}$")]
"""Earth Engine takes selectors for regular expressions: none of their characters."""
type _Bands = Annotated[tuple[_Band, ...], Field(min_length=1, max_length=1024)]
type Scalar = str | int | float
type Condition = Scalar | tuple[Scalar, ...] | dict[str, Scalar]

COMPARISONS = ("eq", "neq", "lt", "lte", "gt", "gte")
"""What a filter may ask of a property, by Earth Engine's names."""


class Select(BaseModel):
    """Keep some bands, and perhaps rename them."""

    model_config = _STRICT

    op: Literal["select"]
    bands: _Bands
    rename: _Bands | None = None

    @model_validator(mode="after")
    def _as_many(self) -> "Select":
        if self.rename is not None and len(self.rename) != len(self.bands):
            raise ValueError(f"rename has {len(self.rename)} names for {len(self.bands)} bands")
        return self


class Cast(BaseModel):
    """Change the data type as Earth Engine does it: fractions are cut off, and values beyond it clamped."""

    model_config = _STRICT

    op: Literal["cast"]
    dtype: str
    bands: _Bands | None = None

    @field_validator("dtype")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in EE_DTYPES:
            raise ValueError(f"{value!r} is not one of {', '.join(EE_DTYPES)}")
        return value


class Scale(BaseModel):
    """Multiply, then add."""

    model_config = _STRICT

    op: Literal["scale"]
    multiply: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    add: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    bands: _Bands | None = None


class MaskBy(BaseModel):
    """Mask pixels by what a band says of them."""

    model_config = _STRICT

    op: Literal["mask"]
    band: _Band
    drop: Annotated[tuple[int, ...], Field(max_length=256)] = ()
    keep: Annotated[tuple[int, ...], Field(max_length=256)] = ()
    bits: Annotated[tuple[Annotated[int, Field(ge=0, le=30)], ...], Field(max_length=31)] = ()

    @model_validator(mode="after")
    def _one_rule(self) -> "MaskBy":
        if sum(map(bool, (self.drop, self.keep, self.bits))) != 1:
            raise ValueError(
                "give one of drop = [values to mask], keep = [values to keep], bits = [bits that mask]"
            )
        return self


type Operation = Annotated[Select | Cast | Scale | MaskBy, Field(discriminator="op")]


class EarthEngineTable(BaseModel):
    """``[source]`` of type ``earthengine``."""

    model_config = _STRICT

    image: _Asset | None = None
    collection: _Asset | None = None
    composite: Literal["mosaic", "median", "mean", "min", "max", "first", "last"] | None = None
    filter: dict[str, Condition] = {}
    operations: tuple[Operation, ...] = ()
    fill_holes: Annotated[int, Field(ge=0, le=MAX_HOLE)] = 0

    @field_validator("filter", mode="before")
    @classmethod
    def _conditions(cls, value: object) -> object:
        for name, condition in value.items() if isinstance(value, dict) else ():
            if fault := _fault(condition):
                raise ValueError(f"{name}: {fault}")
        return value

    @model_validator(mode="after")
    def _one_asset(self) -> "EarthEngineTable":
        if (self.image is None) == (self.collection is None):
            raise ValueError('give either image = "asset id", or collection = "asset id" and composite')
        if self.image is not None and (self.composite is not None or self.filter):
            raise ValueError("composite and filter are for a collection of images; leave them out")
        if self.collection is not None and self.composite is None:
            raise ValueError(
                "the key 'composite' is missing: how overlapping images become one, "
                "such as mosaic (the last on top) or median"
            )
        return self

    @property
    def asset(self) -> str:
        """Id of the image or of the collection."""
        return self.image or self.collection or ""


def _fault(condition: object) -> str:
    """Return what is wrong with a condition of the filter, or an empty string."""
    if isinstance(condition, list | tuple):
        return "" if condition and all(map(_is_scalar, condition)) else "a list holds texts or numbers"
    if isinstance(condition, dict):
        fits = condition and set(condition) <= set(COMPARISONS) and all(map(_is_scalar, condition.values()))
        return "" if fits else f"a table compares with {', '.join(COMPARISONS)}, such as {{ lt = 20 }}"
    return "" if _is_scalar(condition) else "it is a text, a number, a list of them, or such as { lt = 20 }"


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


class BandTable(BaseModel):
    """``[bands.source]`` of an Earth Engine source."""

    model_config = _STRICT

    band: _Band | None = None
    """Name at Earth Engine; the band's own where none is given."""
    mask_of: _Band | None = None
    """This band is 1 where that one has a value."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "BandTable":
        if self.band is not None and self.mask_of is not None:
            raise ValueError("give either band or mask_of")
        return self


def parse_source(spec: CollectionSpec) -> EarthEngineTable:
    """Check ``[source]``.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    where = f"collection {spec.id!r}: [source]"
    table = parse_table(EarthEngineTable, spec.source, where)
    if spec.time is not None and table.image is not None:
        raise ConfigurationError(
            f"{where}: an image has no steps of time",
            hint="name a collection of images, or leave the table [time] out",
        )
    return table


def parse_band(spec: CollectionSpec, band: BandSpec) -> BandTable:
    """Check ``[bands.source]`` of a band.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    where = f"collection {spec.id!r}: [bands.source] of band {band.name!r}"
    table = parse_table(BandTable, band.source, where)
    if band.dtype.name not in EE_DTYPES:
        raise ConfigurationError(
            f"{where}: Earth Engine gives no {band.dtype.name}; the dtypes are {', '.join(EE_DTYPES)}"
        )
    if table.mask_of is not None and (band.dtype != np.dtype(np.uint8) or band.nodata != 0):
        raise ConfigurationError(f'{where}: a band with mask_of has dtype = "uint8" and nodata = 0')
    return table
