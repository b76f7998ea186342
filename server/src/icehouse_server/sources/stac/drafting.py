"""A draft of what was read of a STAC collection: grid, bands, time axis and what is left open."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from odc.geo.crs import CRS

from icehouse_server.core.drafts.draft import Draft, DraftBand, Inquiry, Remark, id_of
from icehouse_server.core.errors import BadParameterError, SourceCorruptError, SourceError
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.toml_text import toml_value
from icehouse_server.sources.cog.georeference import lattice_window, same_crs
from icehouse_server.sources.raster.draft_grid import ChosenGrid, choose_grid
from icehouse_server.sources.raster.repeats import is_repeated, longest_period
from icehouse_server.sources.stac.inspected_assets import FoundAsset, bands_of
from icehouse_server.sources.stac.inspected_collection import CollectionFacts
from icehouse_server.sources.stac.items import Item
from icehouse_server.sources.stac.settings import StacTable

MOST_ASSETS = 40
"""Assets whose headers are read."""

_NAMED = 5
_NEAR = 15.0
"""Degrees by which a collection may reach beyond the area that its CRS is meant for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A collection, and some of its items."""

    table: StacTable
    facts: CollectionFacts
    items: tuple[Item, ...]
    whole: bool
    """Whether these are all there are, in the box that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """Makes a draft of what was read."""

    sample: Sample
    table: StacTable
    assets: Sequence[FoundAsset]
    pictures: Sequence[str]
    failures: dict[str, SourceError]
    inquiry: Inquiry

    def draft(self) -> Draft:
        """Return the draft.

        Raises:
            SourceError: the files can't be placed, or no band is known.
        """
        main = self._main()
        chosen, area_known = self._grid(main)
        off = [asset.key for asset in self.assets if asset.placed and not self._is_on(asset, chosen)]
        composite = bool(chosen.warped) or any(asset.key in off and asset.holds_data for asset in self.assets)
        bands, remarks = self._bands(off, composite=composite)
        dates = self._dates()
        repeated = is_repeated(main.placed, [dates.get(one.name) for one in main.placed])
        facts = self.sample.facts
        x, y = chosen.main.geobox.affine @ (chosen.main.shape[1] / 2, chosen.main.shape[0] / 2)
        at = transformer(chosen.main.crs, CRS("EPSG:4326")).transform(x, y)
        return Draft(
            id=id_of(self.table.collection),
            title=facts.title,
            description="" if facts.description == facts.title else facts.description,
            license=facts.license,
            attribution=facts.attribution,
            citation=facts.citation,
            keywords=facts.keywords,
            links=facts.links,
            grid=chosen.grid,
            interval=facts.interval,
            time=self._time(sorted(dates.values())) if repeated else {},
            source=self._source(composite=composite or repeated),
            bands=bands,
            default_bands=_default_bands(bands),
            remarks=(
                *self._remarks(chosen, main, off, composite=composite, area_known=area_known),
                *(_time_remarks() if repeated else ()),
                *remarks,
            ),
            at=(float(at[0]), float(at[1])),
            moment=_text(dates.get(chosen.main.name)) if repeated else None,
        )

    def _buckets(self) -> list[str]:
        """Return the buckets of s3:// hrefs."""
        hrefs = (document.href for asset in self.assets for _, document in asset.owners)
        found = {"s3://" + href[5:].partition("/")[0] for href in hrefs if href.startswith("s3://")}
        return sorted(found - set(self.table.asset_hosts))[:_NAMED]

    def _main(self) -> FoundAsset:
        """Return the asset that decides on the grid: of those with data the one with the finest pixels."""
        placed = [asset for asset in self.assets if asset.placed]
        if not placed:
            raise next(iter(self.failures.values()), None) or SourceCorruptError(
                f"neither items of {self.table.collection!r} nor their files say where they lie"
            )
        data = [asset for asset in placed if asset.holds_data] or placed
        return min(data, key=lambda asset: (asset.pixel, -len(asset.placed)))

    def _grid(self, main: FoundAsset) -> tuple[ChosenGrid, bool]:
        """Return the grid, and whether it holds all of the collection."""
        wish, bbox = self.inquiry.wish, self.sample.facts.bbox
        overviews = 4 if main.header is None else main.header.overviews
        codes = Counter(str(one.crs) for one in main.placed)
        if self.sample.whole or wish.bbox is not None:
            return choose_grid(main.placed, wish, overviews=overviews), True
        if bbox is not None and len(codes) == 1 and _is_meant_for(main.placed[0].crs, bbox):
            try:
                return choose_grid(main.placed, wish, bbox, overviews), True
            except BadParameterError:
                pass
        return choose_grid(main.placed, wish, overviews=overviews), False

    @staticmethod
    def _is_on(asset: FoundAsset, chosen: ChosenGrid) -> bool:
        raster = asset.placed[0]
        return (
            same_crs(str(raster.crs), str(chosen.geobox.crs))
            and lattice_window(chosen.geobox, raster.transform, raster.shape) is not None
        )

    def _bands(self, off: Sequence[str], *, composite: bool) -> tuple[tuple[DraftBand, ...], list[Remark]]:
        bands: list[DraftBand] = []
        remarks: list[Remark] = []
        for asset in self.assets[:MOST_ASSETS]:
            if asset.key in off and not composite:
                continue
            for band, more in bands_of(
                asset,
                len(self.sample.items),
                composite=composite,
                offset_applied=self.table.offset_applied,
            ):
                if band.name not in {one.name for one in bands}:
                    bands.append(band)
                    remarks += more
        if not bands:
            raise next(iter(self.failures.values()), None) or SourceCorruptError(
                f"no asset of {self.table.collection!r} has a data type that a collection can hold"
            )
        return tuple(bands), remarks

    def _dates(self) -> dict[str, datetime]:
        found = {}
        for item in self.sample.items:
            try:
                found[item.id] = item.time
            except SourceError:
                continue
        return found

    def _time(self, dates: Sequence[datetime]) -> dict[str, object]:
        """Return ``[time]`` from the beginning of the collection, open where that is."""
        first, last = self.sample.facts.interval
        period = longest_period(dates)
        digits = 4 if period == "yearly" else 7
        table: dict[str, object] = {"start": (first or _text(dates[0]) or "")[:digits], "period": period}
        if last is not None:
            year, month = int(last[:4]), int(last[5:7])
            after = (year + 1, 1) if period == "yearly" else (year + month // 12, month % 12 + 1)
            return {**table, "end": f"{after[0]:04d}-{after[1]:02d}"[:digits]}
        return {**table, "delay": "P10D"}

    def _source(self, *, composite: bool) -> dict[str, object]:
        source: dict[str, object] = {
            "type": "stac",
            "api": self.table.api,
            "collection": self.table.collection,
        }
        for key in ("asset_hosts", "s3_region", "offset_applied"):
            if value := getattr(self.table, key):
                source[key] = value
        return {**source, "composite": {"rule": "first"}} if composite else source

    def _remarks(
        self, chosen: ChosenGrid, main: FoundAsset, off: Sequence[str], *, composite: bool, area_known: bool
    ) -> Iterator[Remark]:
        facts = self.sample.facts
        if facts.license in {"", "other"}:
            yield Remark(
                where="license",
                text="The document names no SPDX identifier of a licence. If there is one:\n"
                ' license = "CC-BY-4.0"',
                fill_in=True,
            )
        if not facts.attribution:
            yield Remark(where="attribution", text='Who is to be named:\n attribution = "..."', fill_in=True)
        number = len(self.sample.items)
        if not area_known:
            yield Remark(
                where="grid",
                text=f"The grid holds the {number} items that were looked at, of more. "
                "Choose your own: --bbox, with --crs and --resolution.",
                fill_in=True,
            )
        if chosen.warped:
            codes = ", ".join(sorted({str(one.crs) for one in main.placed})[:_NAMED])
            yield Remark(
                where="grid",
                text=f"Of {len(main.placed)} items {len(chosen.exact)} lie on this grid; all are warped "
                f"to it ({codes}).",
            )
        if self.table.asset_hosts:
            yield Remark(
                where="source",
                text="The hosts come from the hrefs of items: files are read from there alone.",
            )
        if self.table.s3_region is None and self._buckets():
            yield Remark(
                where="source",
                text="Files lie in buckets of S3, and no document says in which region. Fill in:\n"
                ' s3_region = "us-west-2"\n'
                f" asset_hosts = [{', '.join(map(toml_value, self._buckets()))}]",
                fill_in=True,
            )
        if composite:
            yield Remark(
                where="source.composite",
                text="What is on top where items overlap: first, last (by datetime), min, max, mean, median.",
                fill_in=True,
            )
        left_out = [
            *self.pictures,
            *([] if composite else off),
            *(one.key for one in self.assets[MOST_ASSETS:]),
        ]
        if left_out:
            yield Remark(
                where="bands",
                text=f"Left out, as pictures or not on the grid: {', '.join(map(_short, left_out))}.",
            )
        for key, error in self.failures.items():
            yield Remark(
                where="bands",
                text=f"The header of {_short(key)} could not be read ({error.detail}); "
                "what is known of it is from the documents.",
                fill_in=True,
            )


def _is_meant_for(crs: CRS, bbox: tuple[float, float, float, float]) -> bool:
    """Return whether a CRS is meant for an area in degrees, about."""
    area = crs.proj.area_of_use
    if area is None:
        return False
    west, south, east, north = bbox
    width = east - west if east >= west else east - west + 360
    meant = area.east - area.west if area.east >= area.west else area.east - area.west + 360
    return width <= meant + _NEAR and south >= area.south - _NEAR and north <= area.north + _NEAR


def _default_bands(bands: Sequence[DraftBand]) -> tuple[str, ...]:
    picture = ("red", "green", "blue")
    return picture if {band.name for band in bands}.issuperset(picture) else ()


def _time_remarks() -> Iterator[Remark]:
    yield Remark(
        where="time",
        text="Items of one place have several dates. Choose how long a step is.",
        fill_in=True,
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _short(text: str) -> str:
    return text[:60]
