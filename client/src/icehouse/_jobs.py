"""Jobs: work that the daemon does in the background, such as fetching a region ahead."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from icehouse._errors import BadParameter, ClientTimeout, JobFailed, ProtocolError
from icehouse._geobox import as_geobox, crs_text
from icehouse._progress import draw_line
from icehouse._request import encode_datetime
from icehouse._session import collection_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from icehouse._geobox import HasShape
    from icehouse._request import When
    from icehouse._session import Session

    type Region = HasShape | Sequence[float] | Mapping[str, Any] | None  # Any: GeoJSON
    """A geobox, a bbox (minx, miny, maxx, maxy), a GeoJSON polygon in lon/lat, or None for the whole."""
    type StatusCallback = Callable[["JobStatus"], object]

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0
_CORNERS = 4
_FINE = "successful"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChunks:
    """Chunks of a job, over all its bands."""

    total: int
    """Chunks that it covers; 0 until it runs."""
    present: int
    """Cached already when a seed reached them."""
    fetched: int
    failed: int
    dropped: int
    """Deleted by a truncate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """State and progress of a job at one moment."""

    state: str
    """`accepted`, `running`, `successful`, `failed` or `dismissed`."""
    progress: int
    """Percent."""
    message: str
    """For people."""
    chunks: JobChunks
    document: Mapping[str, Any]  # Any: JSON
    """The daemon's whole answer: OGC's statusInfo with times, rate and failed chunks."""

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state not in {"accepted", "running"}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the daemon's answer; members this version does not know are ignored.

        Raises:
            ProtocolError: a member is missing or of the wrong type.
        """
        try:
            chunks = document["chunks"]
            return cls(
                state=str(document["status"]),
                progress=int(document["progress"]),
                message=str(document["message"]),
                chunks=JobChunks(**{name: int(chunks[name]) for name in JobChunks.__slots__}),
                document=document,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the job has an unexpected format: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the daemon. Pickles with its client's address; a fork may go on using it.

    Dropping this object does not end the job. `client.job(id)` finds it again.
    """

    _session: Session
    id: str

    @property
    def url(self) -> str:
        """Address of its status in the daemon."""
        return f"{self._session.url}/jobs/{self.id}"

    def status(self, *, timeout: float | None = None) -> JobStatus:
        """Ask for its state and progress.

        Raises:
            NotFound: the daemon has forgotten it, or was restarted.
        """
        return JobStatus.from_json(self._session.get_json(f"/jobs/{self.id}", timeout=timeout))

    def wait(self, timeout: float | None = None, progress: bool | StatusCallback | None = None) -> Self:  # noqa: FBT001
        """Wait for its end.

        Args:
            timeout: seconds; without it, as long as it takes.
            progress: True for a line on stderr, or a callable that gets a `JobStatus` now and then.

        Returns:
            The job itself.

        Raises:
            JobFailed: it failed, or was dismissed; what it has fetched is kept.
            ClientTimeout: the time is up; the job goes on.
        """
        report = _status_callback(progress)
        end, pause = None if timeout is None else time.monotonic() + timeout, _FIRST_WAIT
        while True:
            status = self.status(timeout=None if end is None else max(1.0, end - time.monotonic()))
            report(status)
            if status.over:
                break
            if end is not None and time.monotonic() + pause > end:
                raise ClientTimeout(f"the job {self.id} did not end within {timeout:g} s; it goes on")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_WAIT)
        if status.state != _FINE:
            raise _failed(status)
        return self

    def cancel(self) -> JobStatus:
        """End it; what it has fetched is kept. Does nothing to a job that is over.

        Raises:
            NotFound: the daemon has forgotten it.
        """
        status = self.status()
        if status.over:
            return status
        return JobStatus.from_json(self._session.ask_json("DELETE", f"/jobs/{self.id}"))

    def __repr__(self) -> str:
        return f"icehouse.Job({self.url!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRegion:
    """The region that a job covers, as the caller gives it; the fields are those of `Collection.seed`."""

    region: Region
    crs: object
    bands: str | Sequence[str] | None
    datetime: When
    level: int | None
    whole: bool = False

    def to_json(self) -> dict[str, object]:
        """The body of `POST .../seed`, `.../refresh` and `.../truncate`; what is None is left out.

        Raises:
            BadParameter: the region, its CRS or a time can't be read.
        """
        body = region_json(self.region, self.crs)
        if self.bands is not None:
            body["bands"] = (
                [self.bands] if isinstance(self.bands, str) else [str(name) for name in self.bands]
            )
        moments = encode_datetime(self.datetime)
        if moments is not None:
            body["datetime"] = moments
        if self.level is not None:
            body["level"] = self.level
        if self.whole:
            body["all"] = True
        return body


def start_job(
    session: Session, collection: str, kind: str, about: JobRegion, *, timeout: float | None
) -> Job:
    """Start a job of a collection.

    Args:
        session: the daemon.
        collection: its id.
        kind: `seed`, `refresh` or `truncate`.
        about: the region, bands, times and level.
        timeout: seconds for this call, not for the job.

    Raises:
        OutsideCollection: the region lies outside the collection.
        TooLarge: it covers too many chunks.
    """
    body = json.dumps(about.to_json()).encode()
    path = f"{collection_path(collection)}/{kind}"
    return job_from(session, session.ask_json("POST", path, body=body, timeout=timeout))


def job_from(session: Session, document: Mapping[str, Any]) -> Job:
    """The job that a document of the daemon describes.

    Raises:
        ProtocolError: the document has no `jobID`.
    """
    try:
        return Job(session, str(document["jobID"]))
    except KeyError as error:
        raise ProtocolError(f"the job has an unexpected format: {error!r}") from error


def region_json(region: Region, crs: object) -> dict[str, object]:
    """A region as the daemon takes it.

    Raises:
        BadParameter: it is not a region, or a CRS is given for one that has its own.
    """
    if isinstance(region, Sequence):
        own = getattr(region, "crs", None) if crs is None else crs  # odc-geo's bounding boxes have one
        box: dict[str, object] = {"bbox": _corners(region)}
        return box if own is None else {**box, "bbox-crs": crs_text(own)}
    if crs is not None:
        raise BadParameter("crs: is for a bbox only; other regions have their own")
    if region is None:
        return {}
    return {"geometry": dict(region)} if isinstance(region, Mapping) else as_geobox(region).to_json()


def _corners(region: Any) -> list[float]:  # noqa: ANN401 - checked here
    try:
        corners = [float(number) for number in region]
    except (TypeError, ValueError):
        corners = []
    if len(corners) != _CORNERS:
        raise BadParameter(
            f"region: expected a geobox, a bbox of four numbers or GeoJSON, got {region!r:.80}"
        )
    return corners


def _failed(status: JobStatus) -> JobFailed:
    document = status.document
    failed = f"the job {document.get('jobID')} failed: {status.message} {document.get('hint') or ''}".rstrip()
    return JobFailed(
        f"the job {document.get('jobID')} was dismissed" if status.state == "dismissed" else failed,
        kind="job-dismissed" if status.state == "dismissed" else str(document.get("kind") or "job-failed"),
        detail=status.message,
        problem=document,
    )


def _status_callback(progress: bool | StatusCallback | None) -> StatusCallback:  # noqa: FBT001 - as in the API
    if progress is None or progress is False:
        return lambda _: None
    return _draw if progress is True else progress


def _draw(status: JobStatus) -> None:
    draw_line(f"icehouse: {status.state}, {status.message}", last=status.over)
