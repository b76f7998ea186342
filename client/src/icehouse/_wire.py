"""The wire format: one Zarr v3 store in a ZIP with stored entries, decoded into views of the answer's bytes.

Nothing is copied and zarr is not imported. The daemon pads entries so that chunk data start aligned; an array
that does not is copied. CRC sums of metadata are checked, those of pixels are not: the transport below has
its own, and 4 MB of CRC would cost as much as their transfer. Sizes and bounds are checked for every array.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from icehouse._errors import ProtocolError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_HAS_DESCRIPTOR = 1 << 3
"""Flag of an entry whose sizes and sum follow its data as well."""

_DTYPES = frozenset(
    {"bool", "float16", "float32", "float64", "complex64", "complex128"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class WireArray:
    """One array of an answer."""

    dims: tuple[str, ...]
    """A name for each axis: `time` where there is one, then rows, then columns."""
    data: np.ndarray[Any, np.dtype[Any]]  # Any: shape and dtype are known at run time only
    """Writable, C order, native byte order; a view into the answer where that is possible."""
    fill_value: float | bool | None
    """What the array holds where nothing was written; None where the metadata do not say."""
    attrs: dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class WireGroup:
    """A whole answer."""

    arrays: dict[str, WireArray]
    attrs: dict[str, Any]  # Any: JSON


def decode(body: memoryview) -> WireGroup:
    """Decode an answer of `application/vnd.zarr; version=3`.

    Args:
        body: the ZIP; the arrays keep it alive.

    Raises:
        ProtocolError: it is not a ZIP, or an entry is compressed, missing, cut short or malformed.
    """
    try:
        return _decode(body)
    except ProtocolError:
        raise
    except (zipfile.BadZipFile, struct.error, OSError, NotImplementedError) as error:
        raise ProtocolError(f"the answer is not a ZIP, or a damaged one: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"the Zarr store of the answer has an unexpected format: {error!r}") from error


def _decode(body: memoryview) -> WireGroup:
    with zipfile.ZipFile(_View(body)) as archive:
        infos = archive.infolist()
        stops = sorted({info.header_offset for info in infos} | {archive.start_dir})
    entries = {
        info.filename: _Entry(info=info, stop=stops[stops.index(info.header_offset) + 1]) for info in infos
    }
    group = _json_entry(body, entries, "zarr.json")
    arrays = {
        name: _array(body, entries, name, meta)
        for name, meta in group["consolidated_metadata"]["metadata"].items()
        if meta["node_type"] == "array"
    }
    return WireGroup(arrays=arrays, attrs=dict(group.get("attributes") or {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An entry as the ZIP's directory has it."""

    info: zipfile.ZipInfo
    stop: int
    """Where the next entry begins, or the directory: its data end there."""


class _View(io.RawIOBase):
    """Just enough of a file over memory for `zipfile`; io.BytesIO would copy all of it."""

    def __init__(self, body: memoryview) -> None:
        super().__init__()
        self._body = body
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._body)}[whence]
        if base + offset < 0:
            raise OSError("negative position")  # what zipfile expects where a file is too short
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._body) if size is None or size < 0 else self._position + size
        data = bytes(self._body[self._position : end])
        self._position += len(data)
        return data


def _entry(body: memoryview, entries: dict[str, _Entry], name: str) -> memoryview:
    entry = entries.get(name)
    if entry is None:
        raise ProtocolError(f"the answer lacks {name}")
    info = entry.info
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ProtocolError(f"{name} is compressed; entries have to be stored")
    # The local header's extra field pads the data to an aligned offset, so its length is not the directory's.
    magic, name_size, extra_size = _LOCAL_HEADER.unpack_from(body, info.header_offset)
    named = info.header_offset + _LOCAL_HEADER.size
    start = named + name_size + extra_size
    stop = start + info.file_size
    # No sum of pixels is checked, so they have to fill their place: a wrong bit in a length moves them.
    fits = stop == entry.stop or _is_descriptor(bytes(body[stop : entry.stop]), info)
    if magic != b"PK\x03\x04" or body[named : named + name_size] != name.encode() or not fits:
        raise ProtocolError(f"{name} does not lie where the ZIP's directory says")
    return body[start:stop]


def _is_descriptor(tail: bytes, info: zipfile.ZipInfo) -> bool:
    """Whether what follows an entry's data is their descriptor, as writers to a stream add it."""
    sums = tail.removeprefix(b"PK\x07\x08")[:4]
    return bool(info.flag_bits & _HAS_DESCRIPTOR) and sums == info.CRC.to_bytes(4, "little")


def _json_entry(body: memoryview, entries: dict[str, _Entry], name: str) -> dict[str, Any]:
    data = bytes(_entry(body, entries, name))
    if zlib.crc32(data) != entries[name].info.CRC:
        raise ProtocolError(f"{name} is damaged: its CRC does not match")
    document: dict[str, Any] = json.loads(data)
    return document


def _array(body: memoryview, entries: dict[str, _Entry], name: str, meta: dict[str, Any]) -> WireArray:
    shape = tuple(int(size) for size in meta["shape"])
    dtype = _dtype(meta, name)
    dims = tuple(map(str, meta.get("dimension_names") or ()))
    chunk_shape = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
    if len(dims) != len(shape) or chunk_shape != shape or 0 in shape:
        raise ProtocolError(f"{name}: expected one chunk with named dimensions, got {chunk_shape} of {shape}")
    if [codec["name"] for codec in meta["codecs"]] != ["bytes"]:
        raise ProtocolError(f"{name}: expected plain bytes, got codecs {meta['codecs']}")
    raw = _entry(body, entries, "/".join([name, "c", *"0" * len(shape)]))
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ProtocolError(f"{name}: {len(raw)} bytes are not {shape} of {dtype}")
    data: np.ndarray[Any, np.dtype[Any]] = np.frombuffer(raw, dtype=dtype).reshape(shape)
    if not (data.flags.aligned and data.flags.writeable and dtype.isnative):
        data = data.astype(dtype.newbyteorder("="))  # always copies, into memory of its own
    return WireArray(
        dims=dims,
        data=data,
        fill_value=_fill_value(meta.get("fill_value"), dtype),
        attrs=dict(meta.get("attributes") or {}),
    )


def _dtype(meta: dict[str, Any], name: str) -> np.dtype[Any]:
    data_type = meta["data_type"]
    if isinstance(data_type, dict) and data_type["name"] in {"numpy.datetime64", "numpy.timedelta64"}:
        unit, scale = data_type["configuration"]["unit"], int(data_type["configuration"]["scale_factor"])
        kind = data_type["name"].removeprefix("numpy.")
        dtype = np.dtype(f"{kind}[{unit if scale == 1 else f'{scale}{unit}'}]")
    elif data_type in _DTYPES:
        dtype = np.dtype(data_type)
    else:
        raise ProtocolError(f"{name}: unknown data type {data_type!r}")
    endian = (meta["codecs"][0].get("configuration") or {}).get("endian", "little")
    stored = dtype.newbyteorder(">" if endian == "big" else "<")
    # The native one by its own name: NetCDF's writer warns of an order that is spelt out.
    return dtype if stored.isnative else stored


def _fill_value(value: Any, dtype: np.dtype[Any]) -> float | bool | None:  # noqa: ANN401 - JSON
    if dtype.kind == "f" and isinstance(value, str):
        return _FLOATS.get(value)
    return value if dtype.kind in "bifu" and isinstance(value, bool | int | float) else None
