"""A handle on one collection of one daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from icehouse._client import Client
    from icehouse._geobox import HasShape
    from icehouse._jobs import Job, Region
    from icehouse._plan import Plan, Point


@dataclass(frozen=True, slots=True)
class Collection:
    """`client["arcticdem-32m"]`: the client's calls, for one collection. Pickles with its client."""

    client: Client
    id: str

    def load(self, geobox: HasShape | None = None, **options: Any) -> xr.Dataset:  # noqa: ANN401 - of Client.load
        """Load one region; see `Client.load`."""
        return self.client.load(geobox, self.id, **options)

    def load_like(self, like: xr.Dataset | xr.DataArray, **options: Any) -> xr.Dataset:  # noqa: ANN401
        """Load the region and grid of another xarray object; see `Client.load`."""
        return self.client.load(None, self.id, like=like, **options)

    def plan(self, geobox: HasShape | None = None, **options: Any) -> Plan:  # noqa: ANN401 - of Client.plan
        """What a load would need and cost; see `Client.plan`."""
        return self.client.plan(geobox, self.id, **options)

    def point(self, lon: float | None = None, lat: float | None = None, **options: Any) -> Point:  # noqa: ANN401
        """Band values at one point; see `Client.point`."""
        return self.client.point(lon, lat, self.id, **options)

    def inventory(self, bbox: Sequence[float] | None = None, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Which chunks are cached, void, in flight or failed; see `Client.inventory`."""
        return self.client.inventory(bbox, self.id, **options)

    def seed(self, region: Region = None, **options: Any) -> Job:  # noqa: ANN401 - of Client.seed
        """Have what is absent of a region fetched ahead; see `Client.seed`."""
        return self.client.seed(region, self.id, **options)

    def refresh(self, region: Region = None, **options: Any) -> Job:  # noqa: ANN401 - of Client.refresh
        """Have what is cached fetched again; see `Client.refresh`."""
        return self.client.refresh(region, self.id, **options)

    def truncate(self, region: Region = None, **options: Any) -> Job:  # noqa: ANN401 - of Client.truncate
        """Have what is cached deleted; see `Client.truncate`."""
        return self.client.truncate(region, self.id, **options)

    def open_zarr(self, **options: Any) -> xr.Dataset:  # noqa: ANN401 - of Client.open_zarr
        """Open the whole collection lazily; see `Client.open_zarr`."""
        return self.client.open_zarr(self.id, **options)

    @property
    def metadata(self) -> dict[str, Any]:  # Any: JSON
        """The STAC Collection, asked anew each time; see `Client.metadata`."""
        return self.client.metadata(self.id)
