"""What a cache may hold and give: the plain dictionary that a run of it at random is compared with."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import icechunk
import numpy as np
from zarr.core.buffer import default_buffer_prototype

from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.ports import Stack
from icehouse_server.store import CollectionStore
from icehouse_server.store.layout.codec import DamagedError, decode
from icehouse_server.store.repository.index import Index
from support.changing import ChangingSource, ChangingTruth

DAMAGED: frozenset[int] = frozenset()
"""What is stored of a chunk whose file can't be read: none of its versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """What was known when a caller asked for something."""

    floor: Mapping[ChunkKey, int]
    """Versions that a caller had been given."""
    removals: int
    """Removals that had begun."""
    removing: int
    """Removals that were under way: what was read since may have been pinned before they landed."""


@dataclass(kw_only=True)
class Ledger:
    """What is known of one collection's chunks.

    Versions of a chunk never go back, so each answer lies between the version that was acknowledged before
    it was asked for, and the newest that there is.
    """

    truth: ChangingTruth
    source: ChangingSource
    stored: dict[ChunkKey, int] = field(default_factory=dict)
    """Versions in the repository when all was quiet the last time."""
    floor: dict[ChunkKey, int] = field(default_factory=dict)
    """Versions that a caller was given."""
    acknowledged: set[ChunkKey] = field(default_factory=set)
    """Chunks that a caller knows are there, since all was quiet."""
    removable: set[ChunkKey] = field(default_factory=set)
    """Chunks that may have been dropped since a caller got them."""
    removals: int = 0
    """Removals that have begun so far."""
    removing: int = 0
    """Removals under way."""
    damaged: set[ChunkKey] = field(default_factory=set)
    """Chunks that have not been read since their file was spoilt."""

    def keys_under(self, window: Window, bands: Iterable[str]) -> set[ChunkKey]:
        """Return the chunks under a window."""
        under = self.truth.spec.grid.chunks_under(window)
        rows, cols = range(under.row, under.stop_row), range(under.col, under.stop_col)
        return {self.truth.spec.key(band, row, col) for band in bands for row in rows for col in cols}

    def now(self, key: ChunkKey) -> int:
        """Return the version that the source has of a chunk."""
        return self.truth.version((key.row, key.col))

    def check_pixels(
        self, bands: Mapping[str, Stack], window: Window, since: Since, missing: set[str]
    ) -> None:
        """Check that every chunk of an answer is one whole version that the cache may hold by now.

        Args:
            bands: the answer.
            window: where it lies on the grid.
            since: what was known when it was asked for.
            missing: paths of chunks that must be fill.
        """
        for key in self.keys_under(window, bands):
            area = self.truth.spec.grid.chunk_window(key.row, key.col)
            common = area.intersection(window)
            assert common is not None
            got = bands[key.band][common.slices(window)]
            if key.path in missing:
                fill = np.full_like(got, self.truth.spec.band(key.band).fill)
                np.testing.assert_array_equal(got, fill)
                continue
            may = self._may_give(key, since.floor.get(key, 0))
            fits = [v for v in may if np.array_equal(got, self.truth.chunk(key, v)[common.slices(area)])]
            assert fits, f"{key.path} is none of the versions {may}: {self._describe(key)}"
            self.tell(key, min(fits), since)

    def begin(self) -> Since:
        """Return what is known now, as a caller asks for something."""
        return Since(floor=dict(self.floor), removals=self.removals, removing=self.removing)

    @contextmanager
    def removal(self, keys: Collection[ChunkKey]) -> Iterator[None]:
        """Note that chunks may go meanwhile. Where the caller leaves, it may go on until all is quiet."""
        self.may_go(keys)
        self.removals += 1
        self.removing += 1
        try:
            yield
        except asyncio.CancelledError:
            raise
        except BaseException:
            self.removing -= 1
            raise
        self.removing -= 1

    def may_go(self, keys: Collection[ChunkKey]) -> None:
        """Note that chunks may be absent from now on."""
        self.removable.update(keys)

    def tell(self, key: ChunkKey, version: int, since: Since) -> None:
        """Note that a caller knows that a chunk is there, in a version or a newer one.

        Args:
            key: the chunk.
            version: the version.
            since: what was known when he asked.
        """
        undisturbed = since.removals == self.removals and not since.removing and not self.removing
        self.note(key, version, stays=undisturbed)

    def note(self, key: ChunkKey, version: int, *, stays: bool) -> None:
        """Note a chunk that a caller knows of; where it stays, nothing has dropped it by now."""
        self.floor[key] = max(self.floor.get(key, 0), version)
        self.acknowledged.add(key)
        if stays:
            self.removable.discard(key)

    def settle(self, actual: Mapping[ChunkKey, frozenset[int]], index: Index) -> None:
        """Compare with what the repository holds now that all is quiet, and go on from there."""
        spec, stored = self.truth.spec, dict[ChunkKey, int]()
        for band in spec.bands:
            for row, col in np.ndindex(spec.grid.chunk_shape):
                key = spec.key(band.name, row, col)
                found = actual.get(key)
                if found is None:
                    self._check_absent(key)
                else:
                    stored[key] = self._check_stored(key, found)
                assert index.has(key) == (found is not None) or found == DAMAGED, self._describe(key)
                void = found and self.truth.is_void((row, col), max(found))
                assert not index.is_void(key) or void, f"{key.path} is not void: {self._describe(key)}"
        self.damaged = {key for key, found in actual.items() if found == DAMAGED}
        self.stored = stored
        self.acknowledged.clear()
        self.removable.clear()
        self.removing = 0
        self.source.served.clear()

    def _may_give(self, key: ChunkKey, floor: int) -> list[int]:
        may = set(self.source.served[key])
        if key in self.stored:  # one that is damaged may be decoded still
            may.add(self.stored[key])
        return sorted(version for version in may if version >= floor)

    def _check_absent(self, key: ChunkKey) -> None:
        kept = key in self.stored or key in self.acknowledged
        assert not kept or key in self.removable, f"{key.path} is lost: {self._describe(key)}"

    def _check_stored(self, key: ChunkKey, found: frozenset[int]) -> int:
        """Return the version that is stored; several where they look alike."""
        if found == DAMAGED:
            assert key in self.damaged, f"{key.path} can't be read: {self._describe(key)}"
            return self.stored[key]
        may = found.intersection(self._may_give(key, self.floor.get(key, 0)))
        assert may, f"{key.path} is stored in version {set(found)}: {self._describe(key)}"
        return max(may)

    def _describe(self, key: ChunkKey) -> str:
        return (
            f"stored {self.stored.get(key)}, known to callers {self.floor.get(key)}, "
            f"given {sorted(self.source.served[key])}, newest {self.now(key)}, "
            f"acknowledged {key in self.acknowledged}, removable {key in self.removable}, "
            f"damaged {key in self.damaged}"
        )


async def stored_versions(
    collection: CollectionStore, truth: ChangingTruth
) -> dict[ChunkKey, frozenset[int]]:
    """Return what a repository holds: the versions that each chunk looks like. Looks past the cache."""
    spec = collection.spec
    session = await collection.head.repository.readonly_session_async("main")
    found: dict[ChunkKey, frozenset[int]] = {}
    for key in (await Index.load(spec, session)).keys():  # noqa: SIM118 - it is not a dictionary
        try:
            buffer = await session.store.get(key.path, default_buffer_prototype())
            assert buffer is not None
            values = decode(buffer.to_bytes(), spec.band(key.band), spec.grid.chunk)
        except (DamagedError, icechunk.IcechunkError):
            found[key] = DAMAGED
            continue
        versions = range(truth.version((key.row, key.col)) + 1)
        fits = frozenset(v for v in versions if np.array_equal(values, truth.chunk(key, v)))
        assert fits, f"{key.path} is stored, and is not a version of it"
        found[key] = fits
    return found
