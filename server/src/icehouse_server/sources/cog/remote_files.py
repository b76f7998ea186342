"""The remote files of one source: opened with what is remembered of them, forgotten where a read failed."""

import math
from dataclasses import dataclass, field

from icehouse_server.raster.file_facts import FileFacts
from icehouse_server.sources.cog.checks import Expectation
from icehouse_server.sources.cog.gdal_fallback import facts_with_gdal
from icehouse_server.sources.cog.reader import Cog, open_cog
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.http.allowed_hosts import AllowedHosts
from icehouse_server.sources.http.ranges import HeaderCache, RangeReader
from icehouse_server.sources.http.shared_ranges import SharedRanges


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFiles:
    """Opens GeoTIFFs over HTTP. Used from one event loop."""

    context: SourceContext
    allowed: AllowedHosts
    """Judges redirects."""
    headers: HeaderCache = field(default_factory=HeaderCache)
    shared: SharedRanges = field(default_factory=SharedRanges)

    async def open(self, url: str, expected: Expectation, not_before: float = -math.inf) -> Cog:
        """Open a file for one read.

        Args:
            url: what to ask for, mirrors applied.
            expected: what it must be.
            not_before: monotonic seconds; a header that is remembered from before is not considered fresh.

        Raises:
            SourceError: by what happened.
        """
        reader = self._reader(url, expected.item, not_before)
        return await open_cog(reader, expected, self.context.pool)

    def _reader(self, url: str, item: str, not_before: float) -> RangeReader:
        return RangeReader(
            hosts=self.context.hosts,
            headers=self.headers,
            shared=self.shared,
            url=url,
            item=item,
            allowed=self.allowed,
            not_before=not_before,
        )

    async def facts(self, url: str, *, item: str, href: str) -> FileFacts:
        """Return what a file says of itself, whatever a collection would need.

        Args:
            url: what to ask for, mirrors applied.
            item: id, for errors.
            href: as a document gives it, for errors.

        Raises:
            SourceError: by what happened.
        """
        reader = self._reader(url, item, -math.inf)
        return await facts_with_gdal(reader, item=item, href=href, pool=self.context.pool)

    def forget(self, url: str) -> None:
        """Drop what is remembered of a file: what was made of it was wrong, so the next read asks anew."""
        self.headers.drop(url)
        self.shared.forget(url)

    async def close(self) -> None:
        """End questions that are under way. Safe to call twice."""
        await self.headers.flights.close()
