"""The store: repositories, index, the writer, the readers and the cache of decoded chunks."""

from icehouse_server.core.limits import MaintenanceSettings, StoreSettings
from icehouse_server.store.disk_usage import folder_bytes
from icehouse_server.store.documents import SqliteDocuments
from icehouse_server.store.inspection import inspect_repository
from icehouse_server.store.layout.codec import DamagedError, frame_of
from icehouse_server.store.layout.cube import AxisChunk, Cube, make_cube
from icehouse_server.store.lock import FolderLock
from icehouse_server.store.repository.collection import CollectionStore
from icehouse_server.store.repository.decoded import DecodedCache
from icehouse_server.store.repository.index import Index
from icehouse_server.store.repository.leases import Lease
from icehouse_server.store.repository.mutations import DROPPED_AT_ONCE
from icehouse_server.store.repository.reader import BATCH_BYTES, DamagedChunksError
from icehouse_server.store.sidecar import SidecarDb
from icehouse_server.store.store import Store

__all__ = [
    "BATCH_BYTES",
    "DROPPED_AT_ONCE",
    "AxisChunk",
    "CollectionStore",
    "Cube",
    "DamagedChunksError",
    "DamagedError",
    "DecodedCache",
    "FolderLock",
    "Index",
    "Lease",
    "MaintenanceSettings",
    "SidecarDb",
    "SqliteDocuments",
    "Store",
    "StoreSettings",
    "folder_bytes",
    "frame_of",
    "inspect_repository",
    "make_cube",
]
