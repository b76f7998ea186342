"""The store: repositories, index, the writer, the readers and the cache of decoded chunks.

Who takes a cube over imports ``store.smart_geocubes``: it needs xarray, which the daemon does not.
"""

from icehouse_server.store.codec import DamagedError, frame_of
from icehouse_server.store.collection import DROPPED_AT_ONCE, CollectionStore, DamagedChunksError, Lease
from icehouse_server.store.cube import AxisChunk, Cube, make_cube
from icehouse_server.store.decoded import DecodedCache
from icehouse_server.store.documents import SqliteDocuments
from icehouse_server.store.index import Index
from icehouse_server.store.lock import FolderLock
from icehouse_server.store.maintenance import MaintenanceSettings
from icehouse_server.store.notes import Notes
from icehouse_server.store.peek import peek
from icehouse_server.store.store import Store, StoreSettings
from icehouse_server.store.upkeep import folder_bytes

__all__ = [
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
    "Notes",
    "SqliteDocuments",
    "Store",
    "StoreSettings",
    "folder_bytes",
    "frame_of",
    "make_cube",
    "peek",
]
