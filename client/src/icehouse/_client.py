"""The client: questions to one Icehouse daemon."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from icehouse._collection import Collection
from icehouse._errors import BadParameter, ProtocolError
from icehouse._geobox import GeoBox, as_geobox
from icehouse._jobs import Job, JobRegion, job_of, start
from icehouse._plan import Plan, Point
from icehouse._progress import sink_of
from icehouse._request import encode_datetime, make_query
from icehouse._session import Session, normal_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    import xarray as xr

    from icehouse._asgi import AsgiApp
    from icehouse._geobox import HasShape
    from icehouse._jobs import Region
    from icehouse._progress import ProgressSink
    from icehouse._request import Resampling, When

_DEFAULT_URL = "http://127.0.0.1:4326"


class Client:
    """A client of one daemon; cheap to make, and used by many threads at once.

    Making one uses no network. It pickles (its connections stay behind), and a process that forked may go on
    using it: each process opens connections of its own.

    Args:
        url: address of the daemon; default `ICEHOUSE_URL`, then `http://127.0.0.1:4326`.
        collection: the collection meant where a call names none.
        timeout: seconds that one call may take in all, retries included, unless it says otherwise.
        token: bearer token, where the daemon asks for one; default that of `ICEHOUSE_TOKEN`, then of the file
            that `ICEHOUSE_TOKEN_FILE` names, looked up for each request: a pickle does not hold it.

    Raises:
        BadParameter: the URL, the timeout or the token makes no sense.
    """

    def __init__(
        self,
        url: str | None = None,
        collection: str | None = None,
        *,
        timeout: float = 300.0,
        token: str | None = None,
    ) -> None:
        address = normal_url(url or os.environ.get("ICEHOUSE_URL") or _DEFAULT_URL)
        self._session = Session(address, timeout=timeout, token=token)
        self._collection = collection

    @classmethod
    def from_app(cls, app: AsgiApp, collection: str | None = None) -> Self:
        """A client of an ASGI application in this process, for tests.

        The application's lifespan runs from here until `close()`. Such a client can't be pickled, and a
        forked child can't use it.

        Raises:
            ServerError: the application failed to start.
        """
        client = cls("http://127.0.0.1:4326", collection)
        client._session.run_app(app)
        return client

    @property
    def url(self) -> str:
        """Address of the daemon, without a slash at its end."""
        return self._session.url

    def load(
        self,
        geobox: HasShape | None = None,
        collection: str | None = None,
        *,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        resampling: Resampling | None = None,
        level: int | None = None,
        like: xr.Dataset | xr.DataArray | None = None,
        chunks: Mapping[str, int] | None = None,
        progress: bool | ProgressSink | None = None,
        fail_on_error: bool = True,
        timeout: float | None = None,
    ) -> xr.Dataset:
        """Load one region, on exactly the pixel grid asked for.

        Args:
            geobox: the grid wanted: anything with `.crs`, `.affine` (or `.transform`) and `.shape`.
            collection: its id; may be left out where the client was made for one, or the daemon serves one.
            bands: names; by default those that the collection names (`icehouse:default_bands`).
            datetime: an instant; an interval as slice, (start, end) or "start/end"; or a list of such. Each
                has to touch a time step: nothing is snapped. All steps where left out.
            resampling: a GDAL name such as "bilinear", for all bands or by band; default as the band says.
            level: what to read from: 0 is the full resolution, each further level halves it. By default the
                coarsest whose cells are no larger than the geobox's, as GDAL chooses among overviews.
            like: an xarray object whose grid is wanted, in place of `geobox`.
            chunks: sizes by dimension: gives arrays of dask, each piece loaded when it is computed.
            progress: True for a line on stderr, or a callable that gets `Progress` values.
            fail_on_error: False gives nodata where the source failed, where True raises.
            timeout: seconds for this call in all.

        Returns:
            A dataset with a variable for each band, dims `(y, x)`, `(latitude, longitude)` or with `time`
            first, in the bands' own dtype (not masked; `nodata` stands in the attributes), and a
            `spatial_ref`. Bands are views of one buffer: keeping one keeps them all in memory.

        Raises:
            IcehouseError: see its subclasses.
        """
        query = make_query(
            grid_of(geobox, like),
            bands=bands,
            datetime=datetime,
            resampling=resampling,
            level=level,
            fail_on_error=fail_on_error,
        )
        name = self._name(collection)
        if chunks is not None:
            from icehouse._lazy import load_lazily  # noqa: PLC0415 - dask is the caller's choice

            return load_lazily(self._session, name, query, chunks, timeout)
        from icehouse._load import load_query  # noqa: PLC0415 - brings in xarray

        return load_query(self._session, name, query, sink=sink_of(progress), timeout=timeout)

    def load_like(
        self,
        like: xr.Dataset | xr.DataArray,
        collection: str | None = None,
        **options: Any,  # noqa: ANN401 - those of `load`
    ) -> xr.Dataset:
        """`load(like=like, ...)`: the region and grid of another xarray object."""
        return self.load(None, collection, like=like, **options)

    def plan(
        self,
        geobox: HasShape | None = None,
        collection: str | None = None,
        *,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        resampling: Resampling | None = None,
        level: int | None = None,
        like: xr.Dataset | xr.DataArray | None = None,
        timeout: float | None = None,
    ) -> Plan:
        """What `load` with the same arguments would need and cost. Fetches nothing.

        Raises:
            IcehouseError: see its subclasses.
        """
        query = make_query(
            grid_of(geobox, like), bands=bands, datetime=datetime, resampling=resampling, level=level
        )
        return self._session.plan(self._name(collection), query, timeout=timeout)

    def point(
        self,
        lon: float | None = None,
        lat: float | None = None,
        collection: str | None = None,
        *,
        x: float | None = None,
        y: float | None = None,
        crs: str | None = None,
        datetime: When = None,
        timeout: float | None = None,
    ) -> Point:
        """Band values at one point: by `lon`, `lat` in degrees, or by `x`, `y` in `crs`.

        Where the collection has a time axis, values at each step that `datetime` names, as in `load`.

        Raises:
            BadParameter: both or neither are given.
        """
        if lon is not None and lat is not None and x is None and y is None and crs is None:
            where: dict[str, object] = {"lon": lon, "lat": lat}
        elif x is not None and y is not None and lon is None and lat is None:
            where = {"x": x, "y": y} if crs is None else {"x": x, "y": y, "crs": crs}
        else:
            raise BadParameter("point: give lon and lat, or x and y (with crs)")
        moments = encode_datetime(datetime)
        if moments is not None:
            where["datetime"] = moments
        path = f"{collection_path(self._name(collection))}/point?{urlencode(where)}"
        return Point.from_json(self._session.get_json(path, timeout=timeout))

    def inventory(
        self,
        bbox: Sequence[float] | None = None,
        collection: str | None = None,
        *,
        crs: str | None = None,
        level: int = 0,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        cell: int = 1,
        timeout: float | None = None,
    ) -> dict[str, Any]:  # Any: JSON
        """Which chunks are cached, void, in flight or failed: a GeoJSON FeatureCollection.

        A chunk that is absent is left out. `geopandas.GeoDataFrame.from_features` takes the answer.

        Args:
            bbox: minx, miny, maxx, maxy in `crs`; the whole collection where left out.
            collection: its id; may be left out as in `load`.
            crs: of the bbox and of the answer's coordinates; lon/lat (CRS84) by default.
            level: 0 is the full resolution.
            bands: names; by default those that `load` takes. A chunk counts as cached where all of them are.
            datetime: as in `load`.
            cell: above 1, squares of so many chunks each way are counted instead; a power of two.
            timeout: seconds.

        Raises:
            TooLarge: there would be too many features; a larger `cell` makes fewer.
        """
        asked: dict[str, object] = {"level": level, "cell": cell}
        if bbox is not None:
            asked["bbox"] = ",".join(repr(float(edge)) for edge in bbox)
            if crs is not None:
                asked["bbox-crs"] = crs
        if crs is not None:
            asked["crs"] = crs
        if bands is not None:
            asked["properties"] = bands if isinstance(bands, str) else ",".join(bands)
        moments = encode_datetime(datetime)
        if moments is not None:
            asked["datetime"] = moments
        path = f"{collection_path(self._name(collection))}/inventory?{urlencode(asked)}"
        return self._session.get_json(path, timeout=timeout)

    def seed(
        self,
        region: Region = None,
        collection: str | None = None,
        *,
        crs: object = None,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        level: int | None = None,
        whole: bool = False,
        timeout: float | None = None,
    ) -> Job:
        """Have the daemon fetch ahead what is absent of a region, by itself; a later load finds it cached.

        Args:
            region: a geobox (what `load` with it needs), a bbox (minx, miny, maxx, maxy), or a GeoJSON
                polygon in lon/lat, of which the bbox counts.
            collection: its id; may be left out as in `load`.
            crs: of a bbox; lon/lat by default.
            bands: names; by default those that `load` takes.
            datetime: as in `load`; all time steps where left out.
            level: 0 is the full resolution, each further level halves it; by default the one that a load of
                the same region reads.
            whole: True for the whole collection, in place of a region.
            timeout: seconds for this call; the job takes as long as it takes.

        Raises:
            TooLarge: it is about more chunks than `max_job_chunks`.
            OutsideCollection: the region lies outside the collection.
        """
        path = f"{collection_path(self._name(collection))}/seed"
        asked = JobRegion(region=region, crs=crs, bands=bands, datetime=datetime, level=level, whole=whole)
        return start(self._session, path, asked, timeout=timeout)

    def refresh(
        self,
        region: Region = None,
        collection: str | None = None,
        *,
        crs: object = None,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        level: int | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Have what is cached of a region fetched again; of the whole collection, where none is given.

        The arguments are those of `seed`; all bands and levels count where none is named. What is
        absent stays absent.
        """
        path = f"{collection_path(self._name(collection))}/refresh"
        asked = JobRegion(region=region, crs=crs, bands=bands, datetime=datetime, level=level)
        return start(self._session, path, asked, timeout=timeout)

    def truncate(
        self,
        region: Region = None,
        collection: str | None = None,
        *,
        crs: object = None,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        level: int | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Have what is cached of a region deleted; of the whole collection, where none is given.

        The arguments are those of `seed`; all bands and levels count where none is named.
        """
        path = f"{collection_path(self._name(collection))}/truncate"
        asked = JobRegion(region=region, crs=crs, bands=bands, datetime=datetime, level=level)
        return start(self._session, path, asked, timeout=timeout)

    def open_zarr(self, collection: str | None = None, *, level: int = 0, **options: Any) -> xr.Dataset:  # noqa: ANN401 - of xarray.open_zarr
        """Open a whole collection lazily, as the Zarr store that the daemon serves.

        What a computation touches is fetched when it is computed, once. Needs zarr, fsspec and aiohttp, which
        the client does not bring: `pip install zarr "fsspec[http]"`. They can't be used after `fork`.

        Args:
            collection: id; may be left out as in `load`.
            level: 0 is the full resolution; each further level halves it.
            options: of `xarray.open_zarr`, such as `chunks` (dask where it is installed) or `mask_and_scale`.

        Returns:
            All bands and all time steps on the collection's own grid, with `spatial_ref`.

        Raises:
            ImportError: zarr, fsspec or aiohttp is not installed.
            NotFound: there is no such collection.
            IcehouseError: see its subclasses.
        """
        from icehouse._cube import open_cube  # noqa: PLC0415 - brings in xarray

        name = self._name(collection)
        self.metadata(name)  # an error with a name, where there is no daemon or no such collection
        path = f"{collection_path(name)}/cube.zarr"
        return open_cube(f"{self.url}{path}", level, self._session.authorization(), options)

    def jobs(self) -> list[Job]:
        """The jobs that the daemon remembers, the newest first."""
        document = self._session.get_json("/jobs?limit=1000")
        try:
            return [job_of(self._session, entry) for entry in document["jobs"]]
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"the list of jobs is not as agreed: {error!r}") from error

    def job(self, id: str) -> Job:  # noqa: A002 - its name everywhere
        """The job of an id, without asking whether there is one."""
        return Job(self._session, quote(id, safe=""))

    def collections(self) -> list[str]:
        """Ids of the collections that the daemon serves."""
        document = self._session.get_json("/collections")
        try:
            return [str(entry["id"]) for entry in document["collections"]]
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"the list of collections is not as agreed: {error!r}") from error

    def metadata(self, collection: str | None = None) -> dict[str, Any]:  # Any: JSON
        """The STAC Collection: extent, `cube:dimensions`, `cube:variables`, `proj:*`."""
        return self._session.get_json(collection_path(self._name(collection)))

    def status(self) -> dict[str, Any]:  # Any: JSON
        """What the daemon says about its readiness (`/readyz`), also where it is not ready."""
        return self._session.get_json("/readyz", accept_status=503)

    def __getitem__(self, collection: str) -> Collection:
        return Collection(self, collection)

    def __iter__(self) -> Iterator[str]:
        return iter(self.collections())

    def __contains__(self, collection: object) -> bool:
        return collection in self.collections()

    def keys(self) -> list[str]:
        """The same as `collections()`."""
        return self.collections()

    def close(self) -> None:
        """Drop the connections of this process. A client of a URL may be used again afterwards."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        chosen = f", collection={self._collection!r}" if self._collection else ""
        return f"icehouse.Client({self.url!r}{chosen})"

    def _name(self, collection: str | None) -> str:
        name = collection or self._collection
        if name is None:
            found = self.collections()
            if len(found) != 1:
                raise BadParameter(f"name a collection; the daemon serves {', '.join(found) or 'none'}")
            # Asked once: a daemon's collections come from its configuration.
            name = self._collection = found[0]
        return name


def collection_path(collection: str) -> str:
    """Path of one collection below the daemon's URL."""
    return f"/collections/{quote(collection, safe='')}"


def grid_of(geobox: HasShape | None, like: xr.Dataset | xr.DataArray | None) -> GeoBox:
    """The grid that one of the two arguments stands for.

    Raises:
        BadParameter: both or neither are given, or it is no grid.
    """
    if (geobox is None) == (like is None):
        raise BadParameter("give either a geobox or like=")
    if like is None:
        return as_geobox(geobox)
    from icehouse._like import geobox_like  # noqa: PLC0415 - brings in numpy

    return geobox_like(like)
