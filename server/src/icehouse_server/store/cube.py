"""A whole collection as one Zarr v3 store: which keys it has, and what is under those that need no fetch.

The layout is the repository's, complete: every level and every time step of now. Level 0 is the root group,
and once more the group ``0``, because GeoZarr wants each level in a group of its own.

The chunks are the stored ones without the checksum behind each, and the metadata do not name it: GDAL 3.12
has no ``crc32c``. It is looked at before a chunk is sent.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import zarr
from zarr.storage import MemoryStore

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import UnknownKeyError
from icehouse_server.core.grid import ChunkKey, Grid
from icehouse_server.store import layout
from icehouse_server.store.codec import encode, frame_of
from icehouse_server.store.geozarr import Json, level_attributes, pyramid_attributes

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

_DOCUMENT = "zarr.json"
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
        values = layout.axis_values(self.grid, self.name, self.number)
        size = min(layout.COORDINATE_CHUNK, self.grid.shape[layout.AXES.index(self.name)])
        whole = np.zeros(size, dtype=np.float64)
        whole[: len(values)] = values
        return bytes(frame_of(memoryview(encode(whole))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cube:
    """The store of one collection, with so many time steps."""

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
        beyond = chunk.number * layout.COORDINATE_CHUNK >= chunk.grid.shape[layout.AXES.index(chunk.name)]
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
    """Return the store of a collection. Blocking; takes a few tenths of a second."""
    held: dict[str, Buffer] = {}
    store = MemoryStore(store_dict=held)
    attributes = layout.dataset_attributes(spec)
    root = zarr.create_group(store, attributes={**attributes, **pyramid_attributes(spec)})
    layout.describe(spec, 0, root, steps)
    # zarr takes 2 ms for each array, and a collection can have hundreds: one band a level shows what differs.
    first, *others = [band.name for band in spec.bands]
    one = replace(spec, bands=spec.bands[:1], default_bands=(first,), styles=())
    for level in range(len(spec.grids)):
        group = root.create_group(str(level), attributes={**attributes, **level_attributes(spec, level)})
        layout.describe(one, level, group, steps)
    documents = {key: value.to_bytes() for key, value in held.items()}
    metadata = {key: json.loads(value) for key, value in documents.items() if key.endswith(_DOCUMENT)}
    _drop_checksums(metadata, documents)
    for level in range(len(spec.grids)):
        shape = metadata[f"{level}/{first}/{_DOCUMENT}"]["shape"]
        for name in others:
            metadata[f"{level}/{name}/{_DOCUMENT}"] = {**metadata[f"{name}/{_DOCUMENT}"], "shape": shape}
    documents |= {key: _dump(document) for key, document in metadata.items()}
    for prefix in ("", *(f"{level}/" for level in range(len(spec.grids)))):
        documents[f"{prefix}{_DOCUMENT}"] = _dump(_consolidated(metadata, prefix))
    return Cube(spec=spec, steps=steps, documents=documents)


def _drop_checksums(metadata: Mapping[str, Json], documents: dict[str, bytes]) -> None:
    """Take the checksum out of the metadata of arrays, and off the chunks of them that are held."""
    for key, document in metadata.items():
        if _CHECKSUM in [codec["name"] for codec in document.get("codecs", [])]:
            document["codecs"] = [codec for codec in document["codecs"] if codec["name"] != _CHECKSUM]
            chunks = f"{key.removesuffix(_DOCUMENT)}c/"
            for chunk in [path for path in documents if path.startswith(chunks)]:
                documents[chunk] = bytes(frame_of(memoryview(documents[chunk])))


def _consolidated(metadata: Mapping[str, Json], prefix: str) -> Json:
    """Return a group with the metadata of all below it, as zarr-python writes it; no standard has that."""
    below = {
        key[len(prefix) : -len(_DOCUMENT) - 1]: document
        for key, document in metadata.items()
        if key.startswith(prefix) and key != f"{prefix}{_DOCUMENT}"
    }
    inline = {"kind": "inline", "must_understand": False, "metadata": below}
    return {**metadata[f"{prefix}{_DOCUMENT}"], "consolidated_metadata": inline}


def _dump(document: Json) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
