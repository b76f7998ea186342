"""What a collection file says about a STAC source: ``[source]`` and ``[bands.source]``."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.sources.tables import parse_table
from icehouse_server.sources.tiling import Tiling
from icehouse_server.sources.trust import Trust
from icehouse_server.sources.urls import fault_of, host_of

_STRICT = ConfigDict(extra="forbid", frozen=True)

type _Numbers = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


_NEIGHBOURS = ((11, 12, 1, 1), (12, 12, 1, 1), (11, 13, 1, 1), (11, 12, 2, 1), (11, 12, 1, 2))
"""Places (row, column, subrow, subcolumn) whose ids must differ; the first three where nothing is divided."""


class TilingTable(BaseModel):
    """``[source.tiling]``: items by arithmetic in place of a search."""

    model_config = _STRICT

    origin: tuple[float, float]
    size: Annotated[float, Field(gt=0)]
    buffer: Annotated[float, Field(ge=0)] = 0.0
    rows: _Numbers
    columns: _Numbers
    divisions: Annotated[int, Field(ge=1, le=100)] = 1
    item: str

    @field_validator("rows", "columns")
    @classmethod
    def _ascending(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("the first number must not be above the last")
        return value

    @model_validator(mode="after")
    def _tells_tiles_apart(self) -> "TilingTable":
        try:
            ids = {
                self.item.format(row=row, col=col, subrow=subrow, subcol=subcol)
                for row, col, subrow, subcol in _NEIGHBOURS
            }
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(
                f"item = {self.item!r} is no format of row, col, subrow and subcol, "
                'such as "{row:02d}_{col:02d}"'
            ) from error
        if len(ids) < (5 if self.divisions > 1 else 3):
            raise ValueError(f"item = {self.item!r} gives two tiles the same id")
        return self

    def tiling(self) -> Tiling:
        """Return the arithmetic."""
        return Tiling(
            origin=self.origin,
            size=self.size,
            buffer=self.buffer,
            rows=self.rows,
            columns=self.columns,
            divisions=self.divisions,
            item=self.item,
        )


class StacTable(BaseModel):
    """``[source]`` of type ``stac``."""

    model_config = _STRICT

    api: str
    collection: Annotated[str, Field(min_length=1)]
    asset_hosts: tuple[str, ...] = ()
    tiling: TilingTable | None = None

    @field_validator("api")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if fault_of(value):
            raise ValueError(f"must be an http or https URL without credentials; {fault_of(value)}")
        return value.rstrip("/")

    @field_validator("asset_hosts")
    @classmethod
    def _are_hosts(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if fault_of(f"https://{value}/") or "/" in value:
                raise ValueError(f"{value!r} is no host; write name or name:port, without https://")
        return tuple(host_of(f"https://{value}").removesuffix(":80") for value in values)

    def collection_url(self) -> str:
        """Return the URL of the collection's document."""
        return f"{self.api}/collections/{self.collection}"

    def item_url(self, item: str) -> str:
        """Return the URL of an item's document."""
        return f"{self.collection_url()}/items/{item}"

    def trust(self, mirrors: Mapping[str, str]) -> Trust:
        """Return which hosts the collection file and the mirrors vouch for."""
        return Trust(hosts=frozenset({host_of(self.api), *self.asset_hosts}), mirrors=mirrors)


class BandTable(BaseModel):
    """``[bands.source]`` of a STAC source."""

    model_config = _STRICT

    asset: Annotated[str, Field(min_length=1)]
    index: Annotated[int, Field(ge=1)] = 1
    """Band of the asset's file, from 1."""
    optional: bool = False
    """True where an item may lack the asset; its pixels are then invalid."""


def parse_source(spec: CollectionSpec) -> StacTable:
    """Check ``[source]``.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    return parse_table(StacTable, spec.source, f"collection {spec.id!r}: [source]")


def parse_band(spec: CollectionSpec, band: BandSpec) -> BandTable:
    """Check ``[bands.source]`` of a band.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    return parse_table(BandTable, band.source, f"collection {spec.id!r}: [bands.source] of band {band.name!r}")
