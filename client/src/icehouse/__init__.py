"""Client of Icehouse, a local cache daemon for remote Earth-observation rasters.

`icehouse.Client().load(geobox, "arcticdem-32m")` gives an `xarray.Dataset` on exactly that pixel grid. NumPy
and xarray are imported by the first load, so that passing clients around costs a worker nothing.
"""

from icehouse._client import Client
from icehouse._collection import Collection
from icehouse._errors import (
    BadParameter,
    Busy,
    ClientTimeout,
    ConnectionFailed,
    DiskFull,
    IcehouseError,
    JobFailed,
    NotAllowed,
    NotCached,
    NotFound,
    OutsideCollection,
    ProtocolError,
    ServerError,
    SourceFailed,
    SourceTimeout,
    TooLarge,
)
from icehouse._geobox import GeoBox
from icehouse._jobs import Job, JobChunks, JobStatus
from icehouse._plan import Plan, PlanChunks, PlanWindow, Point
from icehouse._progress import Progress

__all__ = [
    "BadParameter",
    "Busy",
    "Client",
    "ClientTimeout",
    "Collection",
    "ConnectionFailed",
    "DiskFull",
    "GeoBox",
    "IcehouseError",
    "Job",
    "JobChunks",
    "JobFailed",
    "JobStatus",
    "NotAllowed",
    "NotCached",
    "NotFound",
    "OutsideCollection",
    "Plan",
    "PlanChunks",
    "PlanWindow",
    "Point",
    "Progress",
    "ProtocolError",
    "ServerError",
    "SourceFailed",
    "SourceTimeout",
    "TooLarge",
    "__version__",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        # importlib.metadata takes longer to import than the rest of this package.
        from importlib.metadata import version  # noqa: PLC0415

        return version("icehouse")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
