"""Remote data that changes: every chunk has a version, and its pixels follow from it."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

import numpy as np

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.ports import Block, BlockRequest, Mask, Pixels
from icehouse_server.core.time import TimeStep
from icehouse_server.testing.fakes import ScriptedSource, Truth, keys_of

type Place = tuple[int, int]
"""Row and column of a chunk."""


@dataclass(frozen=True, kw_only=True)
class ChangingTruth(Truth):
    """A truth of which each chunk has a version, 0 at first. Those in ``void`` are void in even versions."""

    versions: dict[Place, int] = field(default_factory=dict)

    def __hash__(self) -> int:
        return id(self)

    def change(self, place: Place) -> None:
        """Raise a chunk's version: all its pixels change, in every band."""
        self.versions[place] = self.version(place) + 1

    def version(self, place: Place) -> int:
        """Return the version of a chunk."""
        return self.versions.get(place, 0)

    def is_void(self, place: Place, version: int) -> bool:
        """Return whether a chunk holds nothing in a version."""
        return place in self.void and version % 2 == 0

    def block(
        self, band: BandSpec, window: Window, step: TimeStep | None = None, level: int = 0
    ) -> tuple[Pixels, Mask]:
        """Return (values, valid) of a window, each chunk of it in its version."""
        values = np.empty((window.height, window.width), dtype=band.dtype)
        valid = np.empty((window.height, window.width), dtype=np.bool_)
        under = self.spec.grid.chunks_under(window)
        for row in range(under.row, under.stop_row):
            for col in range(under.col, under.stop_col):
                common = self.spec.grid.chunk_window(row, col).intersection(window)
                assert common is not None
                part = common.slices(window)
                values[part], valid[part] = self._part(
                    band, (row, col), self.version((row, col)), common, step, level
                )
        return cast("Pixels", values), cast("Mask", valid)

    def _part(
        self, band: BandSpec, place: Place, version: int, window: Window, step: TimeStep | None, level: int
    ) -> tuple[Pixels, Mask]:
        void = frozenset({place} if self.is_void(place, version) else ())
        return Truth(spec=self.spec, seed=version, void=void).block(band, window, step, level)

    @lru_cache(maxsize=2000)  # noqa: B019 - as few truths as there are examples
    def chunk(self, key: ChunkKey, version: int) -> Pixels:
        """Return a whole chunk in a version as it is stored: fill beyond the grid's edge."""
        band, size = self.spec.band(key.band), self.spec.grid.chunk
        area = self.spec.grid.chunk_window(key.row, key.col)
        values, valid = self._part(band, (key.row, key.col), version, area, None, key.level)
        whole = np.full((size, size), band.fill, dtype=band.dtype)
        whole[: area.height, : area.width] = np.where(valid, values, band.fill)
        whole.flags.writeable = False
        return cast("Pixels", whole)


@dataclass(kw_only=True)
class ChangingSource(ScriptedSource):
    """A source of a truth that changes. It remembers which versions it gave.

    Attributes:
        served: versions given of each chunk, since it was emptied.
    """

    truth: ChangingTruth
    served: defaultdict[ChunkKey, set[int]] = field(default_factory=lambda: defaultdict(set))

    def give(self, request: BlockRequest) -> Block:
        """Return the truth of a request, as it is now."""
        for key in keys_of(request):
            self.served[key].add(self.truth.version((key.row, key.col)))
        return super().give(request)
