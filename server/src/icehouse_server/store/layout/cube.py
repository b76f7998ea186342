"""A whole collection as one Zarr v3 store: which keys it has, and what is under those that need no fetch.

The layout is the repository's, complete: every level and every time step of now. Level 0 is the root group,
and once more the group ``0``, because GeoZarr wants each level in a group of its own.

The chunks are the stored ones without the checksum behind each, and the metadata do not name it: GDAL 3.12
has no ``crc32c``. It is looked at before a chunk is sent.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import UnknownKeyError
from icehouse_server.core.grid import ChunkKey, Grid
from icehouse_server.store.layout import arrays
from icehouse_server.store.layout.codec import frame_of
from icehouse_server.store.layout.geozarr import level_attributes, pyramid_attributes
from icehouse_server.store.layout.metadata import DOCUMENT, Json, dumped, group_document

_AXIS_KEY = re.compile(r"(?:([1-9][0-9]{0,3})/)?([yx])/c/(0|[1-9][0-9]{0,9})")
_ALIAS_KEY = re.compile(r"0/([A-Za-z].*)")
_CHECKSUM = "crc32c"


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisChunk:
    """A chunk of the coordinate ``y`` or ``x``: computed when it is asked for."""

    grid: Grid
    name: str
    number: int

    def encoded(self) -> bytes:
        """Return it as it would be stored. Blocking; takes 2 ms."""
        return bytes(frame_of(memoryview(arrays.axis_chunk(self.grid, self.name, self.number))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cube:
    """The store of one collection, with N time steps."""

    spec: CollectionSpec
    steps: int
    documents: Mapping[str, bytes]
    """Metadata, and chunks that hold nothing of the source: times, and the grid mapping."""

    def find(self, key: str) -> bytes | AxisChunk | ChunkKey:
        """Return what is under a key: bytes, or what they are to be made or read from.

        Raises:
            UnknownKeyError: nothing is.
        """
        held = self.documents.get(key)
        if held is not None:
            return held
        alias = _ALIAS_KEY.fullmatch(key)
        path = key if alias is None else alias[1]
        found = self._axis(path) or self._chunk(path)
        if found is None:
            raise UnknownKeyError(
                f"the store of collection {self.spec.id!r} has no key {key[:80]!r}",
                hint="zarr.json names its groups and arrays; a chunk's key is such as dem/c/120/7",
            )
        return found

    def _axis(self, path: str) -> AxisChunk | None:
        found = _AXIS_KEY.fullmatch(path)
        if found is None or int(found[1] or 0) >= len(self.spec.grids):
            return None
        chunk = AxisChunk(grid=self.spec.grids[int(found[1] or 0)], name=found[2], number=int(found[3]))
        beyond = chunk.number * arrays.COORDINATE_CHUNK >= chunk.grid.shape[arrays.AXES.index(chunk.name)]
        return None if beyond else chunk

    def _chunk(self, path: str) -> ChunkKey | None:
        try:
            key = ChunkKey.from_path(self.spec.id, path)
        except ValueError:
            return None
        names = {band.name for band in self.spec.bands}
        if key.band not in names or key.level >= len(self.spec.grids):
            return None
        if (key.time is None) != (self.spec.time is None) or (key.time or 0) >= max(1, self.steps):
            return None
        rows, cols = self.spec.grids[key.level].chunk_shape
        return key if key.row < rows and key.col < cols else None


def make_cube(spec: CollectionSpec, steps: int) -> Cube:
    """Return the store of a collection. Blocking; takes some hundredths of a second."""
    attributes = arrays.dataset_attributes(spec)
    documents = {DOCUMENT: dumped(group_document({**attributes, **pyramid_attributes(spec)}))}
    documents |= arrays.describe(spec, 0, steps)
    for level in range(len(spec.grids)):
        group = group_document({**attributes, **level_attributes(spec, level)})
        held = {DOCUMENT: dumped(group), **arrays.describe(spec, level, steps)}
        documents |= {f"{level}/{key}": value for key, value in held.items()}
    metadata = {key: json.loads(value) for key, value in documents.items() if key.endswith(DOCUMENT)}
    _drop_checksums(metadata, documents)
    documents |= {key: dumped(document) for key, document in metadata.items()}
    for prefix in ("", *(f"{level}/" for level in range(len(spec.grids)))):
        documents[f"{prefix}{DOCUMENT}"] = dumped(_consolidated(metadata, prefix))
    return Cube(spec=spec, steps=steps, documents=documents)


def _drop_checksums(metadata: Mapping[str, Json], documents: dict[str, bytes]) -> None:
    """Take the checksum out of the metadata of arrays, and off the chunks of them that are held."""
    for key, document in metadata.items():
        if _CHECKSUM in [codec["name"] for codec in document.get("codecs", [])]:
            document["codecs"] = [codec for codec in document["codecs"] if codec["name"] != _CHECKSUM]
            chunks = f"{key.removesuffix(DOCUMENT)}c/"
            for chunk in [path for path in documents if path.startswith(chunks)]:
                documents[chunk] = bytes(frame_of(memoryview(documents[chunk])))


def _consolidated(metadata: Mapping[str, Json], prefix: str) -> Json:
    """Return a group with the metadata of all below it, as zarr-python writes it; no standard has that."""
    below = {
        key[len(prefix) : -len(DOCUMENT) - 1]: document
        for key, document in metadata.items()
        if key.startswith(prefix) and key != f"{prefix}{DOCUMENT}"
    }
    inline = {"kind": "inline", "must_understand": False, "metadata": below}
    return {**metadata[f"{prefix}{DOCUMENT}"], "consolidated_metadata": inline}
