"""The cache of decoded chunks: least recently used, bounded by bytes."""

from collections import OrderedDict
from threading import Lock

from icehouse_server.core.grid import ChunkKey
from icehouse_server.core.ports import Pixels

_ENTRY_BYTES = 512
"""What an entry costs in addition to its pixels: key, array object, place in the dictionary."""


def held_bytes(values: Pixels) -> int:
    """Return the memory behind an array: a void chunk repeats one pixel and holds next to nothing."""
    repeated = 0 in values.strides and values.size > 1
    return _ENTRY_BYTES + (values.itemsize if repeated else values.nbytes)


class DecodedCache:
    """Decoded chunks of all collections. Safe from many threads.

    What a chunk holds changes only when it is fetched again or dropped; both go through ``drop``, which
    also raises the generation, so that a read which began before can't put old pixels back.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[ChunkKey, Pixels] = OrderedDict()
        self._lock = Lock()
        self._bytes = 0
        self._generation = 0
        self.hits = 0
        self.misses = 0
        self.evicted = 0

    @property
    def bytes(self) -> int:
        """Memory in use."""
        return self._bytes

    @property
    def limit(self) -> int:
        """Memory that it may use."""
        return self._max_bytes

    @property
    def generation(self) -> int:
        """Number of times that something was dropped; take it before a read, hand it to ``put``."""
        return self._generation

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: ChunkKey) -> Pixels | None:
        """Return a chunk's pixels, read-only, or None."""
        with self._lock:
            values = self._entries.get(key)
            if values is None:
                self.misses += 1
                return None
            self._entries.move_to_end(key)
            self.hits += 1
            return values

    def put(self, key: ChunkKey, values: Pixels, *, generation: int) -> None:
        """Keep a chunk's pixels, unless something was dropped since ``generation``."""
        size = held_bytes(values)
        with self._lock:
            if generation != self._generation or size > self._max_bytes:
                return
            known = self._entries.pop(key, None)
            self._bytes += size - (0 if known is None else held_bytes(known))
            self._entries[key] = values
            while self._bytes > self._max_bytes:
                _, oldest = self._entries.popitem(last=False)
                self._bytes -= held_bytes(oldest)
                self.evicted += 1

    def drop(self, keys: tuple[ChunkKey, ...]) -> None:
        """Forget chunks."""
        with self._lock:
            self._generation += 1
            for key in keys:
                values = self._entries.pop(key, None)
                if values is not None:
                    self._bytes -= held_bytes(values)
