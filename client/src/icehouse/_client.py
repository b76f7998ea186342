"""The client of one Icehouse daemon: its collections, its jobs and its state."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from icehouse._collection import Collection
from icehouse._errors import BadParameter, ProtocolError
from icehouse._jobs import Job, job_from
from icehouse._session import Session, normal_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Unpack

    import xarray as xr

    from icehouse._asgi import AsgiApp
    from icehouse._geobox import HasShape
    from icehouse._jobs import Region
    from icehouse._options import (
        InventoryOptions,
        JobOptions,
        LoadLikeOptions,
        LoadOptions,
        PlanOptions,
        PointOptions,
        SeedOptions,
    )
    from icehouse._plan import Plan, Point

_DEFAULT_URL = "http://127.0.0.1:4326"


def _options_of[F: Callable[..., object]](method: Callable[..., object]) -> Callable[[F], F]:
    """Show the options of `method`, with their defaults, as those of what passes them on to it.

    Type checkers read `Unpack[...]`; `help`, notebooks and Sphinx read the signature.
    """

    def show(delegate: F) -> F:
        own = inspect.signature(delegate)
        named = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        options = inspect.signature(method).parameters.values()
        named += [each for each in options if each.kind is each.KEYWORD_ONLY]
        delegate.__signature__ = own.replace(parameters=named)  # type: ignore[attr-defined]
        return delegate

    return show


class Client:
    """A client of one daemon; cheap to make, and used by many threads at once.

    Making one uses no network. It pickles (its connections stay behind), and a process that forked may go on
    using it: each process opens connections of its own.

    `client["arcticdem-32m"]` is a `Collection`, which does all that concerns one, and documents it. The calls
    of the same names here take the collection's id as an argument; it may be left out where the client was
    made for one, or the daemon serves only one.

    Methods: more than fifteen, because ten are one-line delegates to `Collection`, and the protocols of
        mappings and context managers come on top.

    Args:
        url: address of the daemon; default `ICEHOUSE_URL`, then `http://127.0.0.1:4326`.
        collection: id of the collection meant where a call names none.
        timeout: seconds that one call may take in all, retries included, unless it says otherwise.
        token: bearer token, where the daemon asks for one; default that of `ICEHOUSE_TOKEN`, then of the file
            that `ICEHOUSE_TOKEN_FILE` names, looked up for each request: a pickle does not hold it.

    Raises:
        BadParameter: the URL can't be one of a daemon, the timeout is not above zero, or the token is not
            printable ASCII.
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
        """Make a client of an ASGI application in this process, for tests.

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

    # One collection

    @_options_of(Collection.load)
    def load(
        self,
        geobox: HasShape | None = None,
        collection: str | None = None,
        **options: Unpack[LoadOptions],
    ) -> xr.Dataset:
        """Load one region, on exactly the pixel grid asked for; see `Collection.load`."""
        return self._choose(collection).load(geobox, **options)

    def load_like(
        self,
        like: xr.Dataset | xr.DataArray,
        collection: str | None = None,
        **options: Unpack[LoadLikeOptions],
    ) -> xr.Dataset:
        """Load the region and grid of another xarray object; see `Collection.load_like`."""
        return self._choose(collection).load_like(like, **options)

    @_options_of(Collection.plan)
    def plan(
        self,
        geobox: HasShape | None = None,
        collection: str | None = None,
        **options: Unpack[PlanOptions],
    ) -> Plan:
        """Say what `load` with the same arguments would need and cost; see `Collection.plan`."""
        return self._choose(collection).plan(geobox, **options)

    @_options_of(Collection.point)
    def point(
        self,
        lon: float | None = None,
        lat: float | None = None,
        collection: str | None = None,
        **options: Unpack[PointOptions],
    ) -> Point:
        """Read the values of all bands at one point; see `Collection.point`."""
        return self._choose(collection).point(lon, lat, **options)

    @_options_of(Collection.inventory)
    def inventory(
        self,
        bbox: Sequence[float] | None = None,
        collection: str | None = None,
        **options: Unpack[InventoryOptions],
    ) -> dict[str, Any]:  # Any: JSON
        """List the chunks that are cached, void, in flight or failed; see `Collection.inventory`."""
        return self._choose(collection).inventory(bbox, **options)

    @_options_of(Collection.seed)
    def seed(
        self, region: Region = None, collection: str | None = None, **options: Unpack[SeedOptions]
    ) -> Job:
        """Start a job that fetches what is absent of a region; see `Collection.seed`."""
        return self._choose(collection).seed(region, **options)

    @_options_of(Collection.refresh)
    def refresh(
        self, region: Region = None, collection: str | None = None, **options: Unpack[JobOptions]
    ) -> Job:
        """Start a job that fetches again what is cached of a region; see `Collection.refresh`."""
        return self._choose(collection).refresh(region, **options)

    @_options_of(Collection.truncate)
    def truncate(
        self, region: Region = None, collection: str | None = None, **options: Unpack[JobOptions]
    ) -> Job:
        """Start a job that deletes what is cached of a region; see `Collection.truncate`."""
        return self._choose(collection).truncate(region, **options)

    def open_zarr(self, collection: str | None = None, *, level: int = 0, **options: Any) -> xr.Dataset:  # noqa: ANN401 - of xarray.open_zarr
        """Open a whole collection lazily, as a Zarr store; see `Collection.open_zarr`."""
        return self._choose(collection).open_zarr(level=level, **options)

    def metadata(self, collection: str | None = None) -> dict[str, Any]:  # Any: JSON
        """Read the STAC Collection; see `Collection.metadata`."""
        return self._choose(collection).metadata

    # The daemon

    def jobs(self) -> list[Job]:
        """List the jobs that the daemon remembers, the newest first."""
        document = self._session.get_json("/jobs?limit=1000")
        try:
            return [job_from(self._session, entry) for entry in document["jobs"]]
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"the list of jobs has an unexpected format: {error!r}") from error

    def job(self, id: str) -> Job:  # noqa: A002 - its name everywhere
        """Make a handle on the job of an id, without asking whether there is one."""
        return Job(self._session, quote(id, safe=""))

    def collections(self) -> list[str]:
        """List the ids of the collections that the daemon serves."""
        document = self._session.get_json("/collections")
        try:
            return [str(entry["id"]) for entry in document["collections"]]
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"the list of collections has an unexpected format: {error!r}") from error

    def status(self) -> dict[str, Any]:  # Any: JSON
        """Read what the daemon says about its readiness (`/readyz`), also where it is not ready."""
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

    def _choose(self, collection: str | None) -> Collection:
        """The collection that a call means.

        Raises:
            BadParameter: none is named, and the daemon serves several or none.
        """
        name = collection or self._collection
        if name is None:
            found = self.collections()
            if len(found) != 1:
                raise BadParameter(f"name a collection; the daemon serves {', '.join(found) or 'none'}")
            # Asked once: a daemon's collections come from its configuration.
            name = self._collection = found[0]
        return self[name]
