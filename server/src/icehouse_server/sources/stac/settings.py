"""What a collection file says about a STAC source: ``[source]`` and ``[bands.source]``."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from icehouse_server.core.collection import DTYPES, BandSpec, CollectionSpec
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.sources.http.allowed_hosts import AllowedHosts
from icehouse_server.sources.http.urls import host_of, is_http, s3_url, url_error
from icehouse_server.sources.raster.reducers import RuleName
from icehouse_server.sources.stac.tiling import Tiling
from icehouse_server.sources.tables import parse_table

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
                f"item = {self.item!r} is not a format of row, col, subrow and subcol, "
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


_Number = Annotated[float, Field(allow_inf_nan=False)]


class MaskTable(BaseModel):
    """``[source.composite.mask]``: which pixels of an item count."""

    model_config = _STRICT

    asset: Annotated[str, Field(min_length=1)]
    classes: Annotated[tuple[int, ...], Field(min_length=1)]
    """Values of the asset where the item's pixels are invalid."""
    index: Annotated[int, Field(ge=1)] = 1
    dtype: Literal["uint8", "int8", "uint16", "int16", "uint32", "int32"] = "uint8"
    optional: bool = False
    """True where an item may lack the asset; all of its pixels then count."""


class LimitTable(BaseModel):
    """One property of ``[source.composite.query]``: what it must be for an item to be taken."""

    model_config = _STRICT

    lt: _Number | None = None
    lte: _Number | None = None
    gt: _Number | None = None
    gte: _Number | None = None
    eq: _Number | str | bool | None = None
    one_of: Annotated[tuple[_Number | str, ...], Field(min_length=1)] | None = Field(default=None, alias="in")

    @model_validator(mode="after")
    def _limits(self) -> "LimitTable":
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("give at least one of lt, lte, gt, gte, eq and in")
        return self


class CompositeTable(BaseModel):
    """``[source.composite]``: items are warped to the grid and made one by a rule."""

    model_config = _STRICT

    rule: RuleName
    order_by: Annotated[str, Field(min_length=1)] = "datetime"
    """``datetime``, ``id``, or a property of the items whose values are numbers."""
    mask: MaskTable | None = None
    query: dict[str, LimitTable] = {}

    @model_validator(mode="after")
    def _is_best_by_something(self) -> "CompositeTable":
        if self.rule == "best" and self.order_by in {"datetime", "id"}:
            raise ValueError('rule = "best" needs order_by, a property that is smallest for the best item')
        return self


class StacTable(BaseModel):
    """``[source]`` of type ``stac``."""

    model_config = _STRICT

    api: str
    collection: Annotated[str, Field(min_length=1)]
    asset_hosts: tuple[str, ...] = ()
    s3_region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] | None = None
    """Where the buckets of s3:// hrefs are, which are then asked for without credentials."""
    offset_applied: str | None = None
    """An item property that is true where the offset of ``raster:bands`` is in the pixels already."""
    trust_files: bool = False
    """Where files lie is read from them alone: what their items say of it is left aside."""
    tiling: TilingTable | None = None
    composite: CompositeTable | None = None

    @field_validator("api")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if url_error(value):
            raise ValueError(f"must be an http or https URL without credentials; {url_error(value)}")
        return value.rstrip("/")

    @field_validator("asset_hosts")
    @classmethod
    def _are_hosts(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            name = value.removeprefix("s3://")
            if url_error(f"https://{name}/") or "/" in name:
                raise ValueError(
                    f"{value!r} is not a host; write name or name:port, without https://, or s3://bucket"
                )
        return tuple(
            value if value.startswith("s3://") else host_of(f"https://{value}").removesuffix(":80")
            for value in values
        )

    @model_validator(mode="after")
    def _buckets_have_a_region(self) -> "StacTable":
        if self.s3_region is None and any(host.startswith("s3://") for host in self.asset_hosts):
            raise ValueError(
                'asset_hosts names an s3:// bucket; say where it is, as in s3_region = "us-west-2"'
            )
        return self

    def collection_url(self) -> str:
        """Return the URL of the collection's document."""
        return f"{self.api}/collections/{self.collection}"

    def item_url(self, item: str) -> str:
        """Return the URL of an item's document."""
        return f"{self.collection_url()}/items/{item}"

    def allowed_hosts(self, mirrors: Mapping[str, str]) -> AllowedHosts:
        """Return which hosts the collection file and the mirrors vouch for."""
        hosts = {
            host_of(s3_url(f"{host}/", self.s3_region or "")) if host.startswith("s3://") else host
            for host in self.asset_hosts
        }
        # A mirror that rewrites its documents names its own hosts, which other mirrors may lead to.
        copies = {host_of(url) for url in mirrors.values() if is_http(url)}
        return AllowedHosts(
            hosts=frozenset({host_of(self.api), *hosts, *copies}), mirrors=mirrors, s3_region=self.s3_region
        )


class BandTable(BaseModel):
    """``[bands.source]`` of a STAC source."""

    model_config = _STRICT

    asset: Annotated[str, Field(min_length=1)]
    index: Annotated[int, Field(ge=1)] = 1
    """Band of the asset's file, from 1."""
    optional: bool = False
    """True where an item may lack the asset; its pixels are then invalid."""
    dtype: Literal[DTYPES] | None = None  # type: ignore[valid-type]  # a Literal of a constant
    """Data type of the files, where it is not the band's: values are converted, and held to its range."""
    apply_scale: bool = False
    """Store quantities: each item's own scale and offset are applied. For a band of floats."""
    harmonise: bool = False
    """Bring the values of items whose scale or offset is another than the band's to the band's."""

    @model_validator(mode="after")
    def _one_way(self) -> "BandTable":
        if self.apply_scale and self.harmonise:
            raise ValueError("give either apply_scale or harmonise")
        return self

    @property
    def converts(self) -> bool:
        """Whether values are changed on their way to the band; that takes ``[source.composite]``."""
        return self.apply_scale or self.harmonise or self.dtype is not None


def parse_source(spec: CollectionSpec) -> StacTable:
    """Check ``[source]``.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    table = parse_table(StacTable, spec.source, f"collection {spec.id!r}: [source]")
    if table.tiling is not None and spec.time is not None:
        raise ConfigurationError(
            f"collection {spec.id!r}: [source.tiling] finds items by place alone, not by time",
            hint="leave [source.tiling] out; the API is then searched by place and time",
        )
    return table


def parse_band(spec: CollectionSpec, band: BandSpec) -> BandTable:
    """Check ``[bands.source]`` of a band.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    where = f"collection {spec.id!r}: [bands.source] of band {band.name!r}"
    table = parse_table(BandTable, band.source, where)
    if table.converts and "composite" not in spec.source:
        raise ConfigurationError(
            f"{where}: dtype, apply_scale and harmonise need the table [source.composite]",
            hint='for one that changes nothing else, write rule = "first"',
        )
    if table.apply_scale and (band.dtype.kind != "f" or band.is_scaled):
        raise ConfigurationError(
            f"{where}: apply_scale stores quantities, so the band's dtype is float32 or float64, "
            "without scale and offset"
        )
    if table.apply_scale and table.dtype is None:
        raise ConfigurationError(f'{where}: apply_scale needs the dtype of the files, as in dtype = "uint16"')
    return table
