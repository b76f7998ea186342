"""One collection of one daemon, and all that can be asked about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from icehouse._errors import BadParameter
from icehouse._geobox import GeoBox, as_geobox
from icehouse._jobs import JobRegion, start_job
from icehouse._plan import Plan, Point
from icehouse._progress import progress_callback
from icehouse._request import encode_datetime, make_query
from icehouse._session import collection_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    import xarray as xr

    from icehouse._client import Client
    from icehouse._geobox import HasShape
    from icehouse._jobs import Job, Region
    from icehouse._options import LoadLikeOptions
    from icehouse._progress import ProgressCallback
    from icehouse._request import Resampling, When
    from icehouse._session import Session


@dataclass(frozen=True, slots=True)
class Collection:
    """`client["arcticdem-32m"]`: one collection of a daemon, by its id.

    Making one uses no network, so its collection need not exist. It pickles with its client, may be used by
    many threads, and after `fork`.

    All times are UTC. A grid's shape is (rows, columns), x comes before y in coordinates and boxes, and level
    0 is the collection's full resolution, of which each further level has half.

    Every method raises `ConnectionFailed` where no daemon answers, `ClientTimeout` when its time is over,
    `NotFound` where the collection is not served, and `BadParameter` for arguments that it can't use.
    """

    client: Client
    id: str

    def load(
        self,
        geobox: HasShape | None = None,
        *,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        resampling: Resampling | None = None,
        level: int | None = None,
        like: xr.Dataset | xr.DataArray | None = None,
        chunks: Mapping[str, int] | None = None,
        progress: bool | ProgressCallback | None = None,
        fail_on_error: bool = True,
        timeout: float | None = None,
    ) -> xr.Dataset:
        """Load one region, on exactly the pixel grid asked for. What is absent is fetched first.

        Args:
            geobox: the grid wanted, in any CRS: anything with `.crs`, `.affine` (or `.transform`) and
                `.shape` (rows, columns). Either this or `like`.
            bands: names, in the order wanted; by default those that the collection names
                (`icehouse:default_bands`).
            datetime: an instant; an interval as slice, (start, end) or "start/end"; or a list of such. Each
                has to touch a time step: nothing is snapped. By default all time steps.
            resampling: a GDAL name such as "bilinear", for all bands or by band; default as the band says.
            level: what to read from. By default the coarsest level whose cells are no larger than the
                geobox's, as GDAL chooses among overviews.
            like: an xarray object whose grid is wanted, in place of `geobox`.
            chunks: pixels by dimension, such as `{"x": 2048, "y": 2048}`: gives arrays of dask, each piece
                loaded when it is computed.
            progress: True for a line on stderr, or a callable that gets `Progress` values.
            fail_on_error: False gives nodata where the source failed, where True raises.
            timeout: seconds for this call in all, retries included; default that of the client. With
                `chunks`, for each piece.

        Returns:
            A dataset with a variable for each band, of shape (rows, columns) with dims `(y, x)`, or
            `(latitude, longitude)` in a geographic CRS, and `time` before them where the collection has a
            time axis. Coordinates are those of pixel centres, in units of the CRS, which `spatial_ref` holds.
            Pixels are in the band's own dtype and not masked: `attrs["nodata"]` of a band is the value to
            ignore. Bands are views of one buffer: keeping one keeps them all in memory.

        Raises:
            OutsideCollection: the geobox shares no pixel with the collection.
            TooLarge: the region is above a limit of the daemon; ask for less at once, or pass `chunks`.
            SourceFailed: the source failed for a chunk; `.chunks` says which. `SourceTimeout` if it was slow.
            Busy: the daemon stayed busy until the timeout.
            ImportError: `chunks` is given and dask is not installed.
            IcehouseError: anything else; see its subclasses.
        """
        query = make_query(
            _grid_of(geobox, like),
            bands=bands,
            datetime=datetime,
            resampling=resampling,
            level=level,
            fail_on_error=fail_on_error,
        )
        if chunks is not None:
            from icehouse._lazy import load_lazily  # noqa: PLC0415 - dask is the caller's choice

            return load_lazily(self._session, self.id, query, chunks, timeout)
        from icehouse._load import load_query  # noqa: PLC0415 - brings in xarray

        return load_query(
            self._session, self.id, query, on_progress=progress_callback(progress), timeout=timeout
        )

    def load_like(self, like: xr.Dataset | xr.DataArray, **options: Unpack[LoadLikeOptions]) -> xr.Dataset:
        """Load the region and grid of another xarray object: `load(like=like, ...)`.

        Args:
            like: a dataset or array with a grid mapping that holds its CRS, and regular coordinates.
            options: those of `load`.

        Returns:
            As `load`.

        Raises:
            BadParameter: `like` has no CRS, or no regular grid.
            IcehouseError: as `load`.
        """
        return self.load(like=like, **options)

    def plan(
        self,
        geobox: HasShape | None = None,
        *,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        resampling: Resampling | None = None,
        level: int | None = None,
        like: xr.Dataset | xr.DataArray | None = None,
        timeout: float | None = None,
    ) -> Plan:
        """Say what `load` with the same arguments would need and cost. Fetches nothing from the source.

        Args:
            geobox: the grid wanted, as in `load`.
            bands: names; by default those that `load` takes.
            datetime: as in `load`.
            resampling: as in `load`: wider kernels need more pixels around the region.
            level: as in `load`.
            like: an xarray object whose grid is wanted, in place of `geobox`.
            timeout: seconds for this call in all; default that of the client.

        Returns:
            Chunks needed, present, absent and void, over all bands, and bytes to fetch and to return.

        Raises:
            OutsideCollection: the geobox shares no pixel with the collection.
            TooLarge: the region is above a limit of the daemon.
            IcehouseError: anything else; see its subclasses.
        """
        query = make_query(
            _grid_of(geobox, like), bands=bands, datetime=datetime, resampling=resampling, level=level
        )
        return self._session.plan(self.id, query, timeout=timeout)

    def point(
        self,
        lon: float | None = None,
        lat: float | None = None,
        *,
        x: float | None = None,
        y: float | None = None,
        crs: str | None = None,
        datetime: When = None,
        timeout: float | None = None,
    ) -> Point:
        """Read the values of all bands at one point, without interpolation.

        Args:
            lon: degrees east; with `lat`.
            lat: degrees north.
            x: in units of `crs`; with `y`, in place of `lon` and `lat`.
            y: in units of `crs`.
            crs: of `x` and `y`, such as "EPSG:3413"; by default the collection's.
            datetime: as in `load`; by default all time steps.
            timeout: seconds for this call in all; default that of the client.

        Returns:
            A value for each band, None where the collection has no valid pixel; a list of them along the time
            steps, where the collection has a time axis.

        Raises:
            BadParameter: both kinds of coordinates are given, or neither is whole.
            OutsideCollection: the point lies outside the collection.
            IcehouseError: anything else; see its subclasses.
        """
        asked = _point_query(lon, lat, x, y, crs)
        moments = encode_datetime(datetime)
        if moments is not None:
            asked["datetime"] = moments
        path = f"{collection_path(self.id)}/point?{urlencode(asked)}"
        return Point.from_json(self._session.ask_json("GET", path, timeout=timeout))

    def inventory(
        self,
        bbox: Sequence[float] | None = None,
        *,
        crs: str | None = None,
        level: int = 0,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        cell: int = 1,
        timeout: float | None = None,
    ) -> dict[str, Any]:  # Any: JSON
        """List the chunks that are cached, void, in flight or failed. A chunk that is absent is left out.

        Args:
            bbox: minx, miny, maxx, maxy in `crs`; by default the whole collection.
            crs: of the bbox and of the answer's coordinates; lon/lat (CRS84) by default.
            level: 0 is the full resolution.
            bands: names; by default those that `load` takes. A chunk counts as cached where all of them are.
            datetime: as in `load`.
            cell: above 1, squares of this many chunks each way are counted instead; a power of two.
            timeout: seconds for this call in all; default that of the client.

        Returns:
            A GeoJSON FeatureCollection, as `geopandas.GeoDataFrame.from_features` takes it.

        Raises:
            TooLarge: there would be too many features; a larger `cell` makes fewer.
            IcehouseError: anything else; see its subclasses.
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
        path = f"{collection_path(self.id)}/inventory?{urlencode(asked)}"
        return self._session.get_json(path, timeout=timeout)

    def seed(
        self,
        region: Region = None,
        *,
        crs: object = None,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        level: int | None = None,
        whole: bool = False,
        timeout: float | None = None,
    ) -> Job:
        """Start a job that fetches what is absent of a region; a later load finds it cached.

        Args:
            region: a geobox (what `load` with it needs), a bbox (minx, miny, maxx, maxy), or a GeoJSON
                polygon in lon/lat.
            crs: of a bbox; lon/lat by default.
            bands: names; by default those that `load` takes.
            datetime: as in `load`; by default all time steps.
            level: by default the one that a load of the same region reads.
            whole: True for the whole collection, in place of a region.
            timeout: seconds for this call; the job takes as long as it takes.

        Returns:
            The job, which runs in the daemon whether or not it is waited for.

        Raises:
            TooLarge: it covers more chunks than `max_job_chunks`.
            OutsideCollection: the region lies outside the collection.
            IcehouseError: anything else; see its subclasses.
        """
        about = JobRegion(region=region, crs=crs, bands=bands, datetime=datetime, level=level, whole=whole)
        return start_job(self._session, self.id, "seed", about, timeout=timeout)

    def refresh(
        self,
        region: Region = None,
        *,
        crs: object = None,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        level: int | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Start a job that fetches again what is cached of a region. What is absent stays absent.

        Args:
            region: as in `seed`; by default the whole collection.
            crs: of a bbox; lon/lat by default.
            bands: names; by default all bands.
            datetime: as in `load`; by default all time steps.
            level: by default all levels.
            timeout: seconds for this call; the job takes as long as it takes.

        Returns:
            The job, which runs in the daemon whether or not it is waited for.

        Raises:
            IcehouseError: as `seed`.
        """
        about = JobRegion(region=region, crs=crs, bands=bands, datetime=datetime, level=level)
        return start_job(self._session, self.id, "refresh", about, timeout=timeout)

    def truncate(
        self,
        region: Region = None,
        *,
        crs: object = None,
        bands: str | Sequence[str] | None = None,
        datetime: When = None,
        level: int | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Start a job that deletes what is cached of a region.

        Args:
            region: as in `seed`; by default the whole collection.
            crs: of a bbox; lon/lat by default.
            bands: names; by default all bands.
            datetime: as in `load`; by default all time steps.
            level: by default all levels.
            timeout: seconds for this call; the job takes as long as it takes.

        Returns:
            The job, which runs in the daemon whether or not it is waited for.

        Raises:
            IcehouseError: as `seed`.
        """
        about = JobRegion(region=region, crs=crs, bands=bands, datetime=datetime, level=level)
        return start_job(self._session, self.id, "truncate", about, timeout=timeout)

    def open_zarr(self, *, level: int = 0, **options: Any) -> xr.Dataset:  # noqa: ANN401 - of xarray.open_zarr
        """Open the whole collection lazily, as the Zarr store that the daemon serves.

        What a computation touches is fetched when it is computed, once. Needs zarr, fsspec and aiohttp, which
        the client does not bring: `pip install zarr "fsspec[http]"`. They can't be used after `fork`.

        Args:
            level: 0 is the full resolution; each further level halves it.
            options: of `xarray.open_zarr`, such as `chunks` (dask where it is installed) or `mask_and_scale`.

        Returns:
            All bands and all time steps on the collection's own grid, with `spatial_ref`.

        Raises:
            ImportError: zarr, fsspec or aiohttp is not installed.
            IcehouseError: see its subclasses.
        """
        from icehouse._cube import open_cube  # noqa: PLC0415 - brings in xarray

        # Raises a typed error where there is no daemon or no such collection; xarray's would name neither.
        _ = self.metadata
        url = f"{self._session.url}{collection_path(self.id)}/cube.zarr"
        return open_cube(url, level, self._session.authorization(), options)

    @property
    def metadata(self) -> dict[str, Any]:  # Any: JSON
        """The STAC Collection: `cube:dimensions`, `cube:variables`, `proj:*`. Each access asks the daemon."""
        return self._session.get_json(collection_path(self.id))

    @property
    def _session(self) -> Session:
        return self.client._session  # noqa: SLF001 - a handle on what the client holds


def _grid_of(geobox: HasShape | None, like: xr.Dataset | xr.DataArray | None) -> GeoBox:
    """The grid that one of the two arguments stands for.

    Raises:
        BadParameter: both or neither are given, or it is not a grid.
    """
    if (geobox is None) == (like is None):
        raise BadParameter("give either a geobox or like=")
    if like is None:
        return as_geobox(geobox)
    from icehouse._like import geobox_like  # noqa: PLC0415 - brings in numpy

    return geobox_like(like)


def _point_query(
    lon: float | None, lat: float | None, x: float | None, y: float | None, crs: str | None
) -> dict[str, object]:
    """The query parameters of a point.

    Raises:
        BadParameter: both kinds of coordinates are given, or neither is whole.
    """
    if lon is not None and lat is not None and x is None and y is None and crs is None:
        return {"lon": lon, "lat": lat}
    if x is not None and y is not None and lon is None and lat is None:
        return {"x": x, "y": y} if crs is None else {"x": x, "y": y, "crs": crs}
    raise BadParameter("point: give lon and lat, or x and y (with crs)")
