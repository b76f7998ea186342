"""What the repositories of one cache folder share."""

from concurrent.futures import Executor
from dataclasses import dataclass

from icehouse_server.store.disk_quota import DiskQuota
from icehouse_server.store.repository.decoded import DecodedCache
from icehouse_server.store.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreResources:
    """What the repositories of one cache folder share."""

    decoded: DecodedCache
    pool: Executor
    room: DiskQuota
    usage: Usage
    write_timeout: float
    """Seconds that a commit may take."""
