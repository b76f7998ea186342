"""Looks at a collection of a STAC API, and says what a collection file for it holds."""

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pydantic import ValidationError

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.core.drafts.draft import Draft, GridWish, Inquiry, Inspector
from icehouse_server.core.errors import (
    BadParameterError,
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
)
from icehouse_server.sources.cog.remote_files import RemoteFiles
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.http.urls import host_of, is_http, mirrored, public, url_error
from icehouse_server.sources.stac.api import StacApi
from icehouse_server.sources.stac.drafting import MOST_ASSETS, Drafting, Sample
from icehouse_server.sources.stac.inspected_assets import FoundAsset, found_assets, placed_raster
from icehouse_server.sources.stac.inspected_collection import collection_facts
from icehouse_server.sources.stac.items import parse_item
from icehouse_server.sources.stac.search_boxes import Box, search_boxes
from icehouse_server.sources.stac.settings import StacTable

_MOST_ITEMS = 200
"""Items that are looked at."""

_APPLIED = "offset_applied"
"""How properties end that say that an offset is in the pixels already."""

_REGION = re.compile(r"[a-z0-9-]{1,32}")

_PRIVATE = {
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "private",
    "arpa",
}
"""Last labels of names that are not of the internet."""


def create_inspector(context: SourceContext) -> Inspector:
    """Make the inspector of STAC collections."""
    return StacInspector(context=context)


@dataclass(slots=True, kw_only=True)
class StacInspector:
    """Reads the document of a collection, some items, and a header of each of their files."""

    context: SourceContext
    _files: list[RemoteFiles] = field(default_factory=list)
    _apis: list[StacApi] = field(default_factory=list)

    def recognises(self, address: str) -> bool:
        """Return whether an address is a URL."""
        return is_http(address)

    async def inspect(self, inquiry: Inquiry) -> Draft:
        """Look at a collection; see ``Inspector.inspect``."""
        self.context.hosts.enter(self)
        sample = await self._sample(inquiry)
        assets, pictures = found_assets(sample.items)
        if not assets:
            raise SourceCorruptError(
                f"no item of {sample.table.collection!r} has an asset that is a GeoTIFF",
                href=public(inquiry.address),
                hint="the media type of such an asset begins with image/tiff",
            )
        table = _completed(sample.table, assets, self.context)
        failures = await self._read_headers(assets[:MOST_ASSETS], table)
        return Drafting(
            sample=sample, table=table, assets=assets, pictures=pictures, failures=failures, inquiry=inquiry
        ).draft()

    async def _sample(self, inquiry: Inquiry) -> Sample:
        table = _table(inquiry)
        api = StacApi(settings=table, context=self.context)
        self._apis.append(api)
        document = await api.document(table.collection_url())
        if document is None:
            raise await _missing(api, table)
        found = json.loads(document)
        if found.get("type") != "Collection":
            raise SourceCorruptError(
                f"{public(inquiry.address)} is not a STAC collection: its type is not Collection",
                href=public(inquiry.address),
            )
        texts = json.loads(await api.sample(_boxes(inquiry.wish), _MOST_ITEMS))
        items = tuple(
            parse_item(json.dumps(one), table.item_url(str(one.get("id"))), expected_id=one.get("id"))
            for one in texts
        )
        if not items:
            raise SourceRefusedError(
                f"the API has no item of {table.collection!r}"
                + ("" if inquiry.wish.bbox is None else " in --bbox"),
                href=public(table.api),
            )
        return Sample(
            table=table,
            facts=collection_facts(found, table.collection),
            items=items,
            whole=len(items) < _MOST_ITEMS,
        )

    async def _read_headers(self, assets: Sequence[FoundAsset], table: StacTable) -> dict[str, SourceError]:
        """Read the header of the first file of each asset. Return what failed, by key."""
        allowed = table.allowed_hosts(self.context.mirrors)
        files = RemoteFiles(context=self.context, allowed=allowed)
        self._files.append(files)
        failures: dict[str, SourceError] = {}

        async def read(asset: FoundAsset) -> None:
            item, document = asset.owners[0]
            try:
                url = allowed.url_of(document.href, item=item.id)
                asset.header = await files.facts(url, item=item.id, href=document.href)
            except SourceError as error:
                failures[asset.key] = error
                return
            header = asset.header
            if asset.placed or not header.crs:
                return
            placed = placed_raster(item.id, CRS(header.crs), header.transform, header.shape)
            asset.placed += [] if placed is None else [placed]

        await gather_or_cancel(read(asset) for asset in assets)
        return failures

    async def close(self) -> None:
        """Let connections go."""
        while self._files:
            await self._files.pop().close()
        while self._apis:
            self._apis.pop().close()
        await self.context.hosts.leave(self)


def _table(inquiry: Inquiry) -> StacTable:
    """Return ``[source]`` of an address.

    Raises:
        BadParameterError: it is not the URL of a collection.
    """
    address = inquiry.address.partition("?")[0].partition("#")[0].rstrip("/")
    api, separator, rest = address.rpartition("/collections/")
    name = rest.partition("/")[0]
    if not separator or not name:
        raise BadParameterError(
            "--from",
            f"--from: {public(inquiry.address)} is not the URL of a collection of a STAC API",
            hint=f"it ends in /collections/ and an id; {public(address)}/collections may list what there is",
        )
    try:
        return StacTable(api=api, collection=name, asset_hosts=inquiry.asset_hosts)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--asset-host" if "asset_hosts" in first["loc"] else "--from"
        raise BadParameterError(option, f"{option}: {first['msg'].removeprefix('Value error, ')}") from None


async def _missing(api: StacApi, table: StacTable) -> SourceRefusedError:
    if await api.document(table.api) is None:
        return SourceRefusedError(f"there is no STAC API at {table.api}", hint="correct the URL")
    return SourceRefusedError(
        f"the API at {table.api} has no collection {table.collection!r}",
        hint=f"{table.api}/collections lists what there is",
    )


def _boxes(wish: GridWish) -> tuple[Box, ...] | None:
    """Return where items are looked for; None for anywhere."""
    if wish.bbox is None:
        return None
    return search_boxes(GeoBox.from_bbox(wish.bbox, crs=wish.bbox_crs, shape=(64, 64)))


def _completed(table: StacTable, assets: Sequence[FoundAsset], context: SourceContext) -> StacTable:
    """Return ``[source]`` with what the items say: hosts, region, and where offsets are applied.

    Raises:
        SourceRefusedError: a host is not one that can be taken from a document.
    """
    owners = [owner for asset in assets for owner in asset.owners]
    regions = {
        str(value)
        for item, document in owners
        for value in (
            document.extra_fields.get("storage:region"),
            item.document.properties.get("storage:region"),
        )
        if value
    }
    region = next(iter(regions)) if len(regions) == 1 and _REGION.fullmatch(next(iter(regions))) else None
    hosts = _hosts(assets, table, context)
    if region is not None:
        buckets = {"s3://" + document.href[5:].partition("/")[0] for _, document in owners
                   if document.href.startswith("s3://")}  # fmt: skip
        hosts = (*hosts, *sorted(buckets))
    applied = sorted(
        {
            key
            for item, _ in owners
            for key, value in item.document.properties.items()
            if key.endswith(_APPLIED) and isinstance(value, bool)
        }
    )
    return table.model_copy(
        update={
            "asset_hosts": hosts,
            "s3_region": region if any(host.startswith("s3://") for host in hosts) else None,
            "offset_applied": applied[0] if applied else None,
        }
    )


def _hosts(assets: Iterable[FoundAsset], table: StacTable, context: SourceContext) -> tuple[str, ...]:
    """Return the hosts on which the files lie, other than the API's.

    They come from the network, so each must be a name of the internet, asked by https: who holds no
    certificate for it can't answer. Others are for the user to name.

    Raises:
        SourceRefusedError: one is neither.
    """
    found: dict[str, None] = dict.fromkeys(table.asset_hosts)
    for asset in assets:
        for item, document in asset.owners:
            href = document.href
            if not is_http(href) or url_error(href):
                continue  # a mirror may lead elsewhere; reading the header says what is wrong
            host = host_of(href)
            if host == host_of(table.api) or host in found:
                continue
            if mirrored(href, context.mirrors) is None and not _is_of_internet(href):
                raise SourceRefusedError(
                    f"item {item.id!r} points to {host[:100]!r}, which is not an https name of the internet",
                    item=item.id,
                    href=public(href),
                    hint=f"if that is right, vouch for it: --asset-host {host[:100]}",
                )
            found[host] = None
    return tuple(found)


def _is_of_internet(href: str) -> bool:
    parts = urlsplit(href)
    host = (parts.hostname or "").lower().rstrip(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        return parts.scheme == "https" and parts.port in {None, 443} and _is_public(labels)
    return False


def _is_public(labels: Sequence[str]) -> bool:
    return len(labels) > 1 and labels[-1].isalpha() and labels[-1] not in _PRIVATE
