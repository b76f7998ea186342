"""The Earth Search stand-in: a STAC API and the object stores behind it, as child processes.

with EarthSearchStandIn.start(folder=folder) as earth:
    client = pystac_client.Client.open(earth.open_stac_url)
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import httpx

from icehouse_server.demo.standins import Servers, server
from support import CHILD_PATH, SERVE
from support.earth_search import catalogue
from support.earth_search.api import PUBLISHED_HOST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EarthSearchStandIn(Servers):
    """The two servers, running. Ended when the `with` block is left, however that happens."""

    @classmethod
    @contextlib.contextmanager
    def start(
        cls,
        *,
        folder: Path,
        latency: float = 0.0,
        bandwidth: float | None = None,
        page_size: int = 10,
        lifetime: int = 3600,
    ) -> Iterator[Self]:
        """Start both servers and wait until they answer.

        Args:
            folder: Where built files are kept; one folder may serve many runs.
            latency: Seconds before each answer, at both servers.
            bandwidth: Bytes a second of the object stores, shared by their connections.
            page_size: Items in a page of a search.
            lifetime: Seconds that signed hrefs hold.
        """
        shape = ["--latency", str(latency)] + ([] if bandwidth is None else ["--bandwidth", str(bandwidth)])
        with contextlib.ExitStack() as stack:
            cogs = stack.enter_context(
                server(["earth-cogs", "--folder", str(folder), *shape], module=SERVE, environment=CHILD_PATH)
            )
            pages = ["--page-size", str(page_size), "--lifetime", str(lifetime), "--cogs-url", cogs]
            stac = stack.enter_context(
                server(
                    ["earth-stac", *pages, "--latency", str(latency)], module=SERVE, environment=CHILD_PATH
                )
            )
            # trust_env: a proxy set for the outer world is none for the loopback.
            http = stack.enter_context(httpx.Client(timeout=30, trust_env=False))
            yield cls(stac_base=stac, cogs_base=cogs, _http=http)

    @property
    def stac_url(self) -> str:
        """Root of the API whose documents carry the published URLs, as https://earth-search.aws.element84.com/v1."""
        return f"{self.stac_base}v1"

    @property
    def open_stac_url(self) -> str:
        """Root of the API whose documents carry the stand-in's own URLs, for clients that can't map URLs."""
        return f"{self.stac_base}open/v1"

    @property
    def presigned_stac_url(self) -> str:
        """Root of the API whose rasters lie in a private bucket, with hrefs presigned as S3's are."""
        return f"{self.stac_base}presigned/v1"

    @property
    def sas_stac_url(self) -> str:
        """Root of the API whose rasters lie in a private container, with Azure's shared access signatures."""
        return f"{self.stac_base}sas/v1"

    @property
    def mirrors(self) -> dict[str, str]:
        """The daemon's `mirrors` setting: published https prefix -> the stand-in's. None is of s3://."""
        public = {
            url: f"{self.cogs_base}{bucket}/"
            for url, bucket in catalogue.PUBLIC_URLS.items()
            if not url.startswith("s3:")
        }
        private = {
            url: f"{self.cogs_base}{catalogue.PRIVATE_FOLDERS[form]}/"
            for form, url in catalogue.PRIVATE_URLS.items()
        }
        return {PUBLISHED_HOST: self.stac_base, **public, **private}

    def pass_time(self, seconds: float, *, lifetime: int = 3600) -> None:
        """Set both servers' clocks this far ahead of the machine's, and the lifetime of signed hrefs.

        Hrefs that were signed before expire without anybody waiting; those signed afterwards hold.
        """
        self._tell("signing", {"ahead": seconds, "lifetime": lifetime})

    def reset(self) -> None:
        """Forget counts, faults and lies, at both servers, and put their clocks right."""
        self._tell("reset", None)
        self.pass_time(0)
