"""What the client makes of damaged answers: its typed error, or the answer as it was; nothing else, ever."""

from __future__ import annotations

import io
import json
import math
import pickle
import random
import struct
import time
import zipfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from icehouse import IcehouseError
from icehouse._errors import Busy, ProtocolError, SourceFailed
from icehouse._problems import _KINDS, error_of
from icehouse._session import _wait
from icehouse._transport import Deadline, Response
from icehouse._wire import decode
from icehouse_server.output.zipparts import stored_zip

SHAPE = (3, 4)
PIXELS = np.arange(12, dtype="<f4").reshape(SHAPE)
META = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": list(SHAPE),
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(SHAPE)}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": "NaN",
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {"units": "m"},
    "dimension_names": ["y", "x"],
}
COUNTS = {**META, "data_type": "uint8", "fill_value": 0}


def archive(dem=META):
    """An answer as the daemon sends it, with this metadata for its first array."""
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"title": "a"},
        "consolidated_metadata": {"kind": "inline", "metadata": {"dem": dem, "count": COUNTS}},
    }
    return pack(json.dumps(group).encode())


def pack(group):
    pixels = memoryview(PIXELS.reshape(-1).view(np.uint8))
    counts = memoryview(np.arange(12, dtype=np.uint8))
    return b"".join(stored_zip([("zarr.json", group), ("dem/c/0/0", pixels), ("count/c/0/0", counts)]))


GOOD = archive()


def attempt(body):
    """What the client decodes; None where it refuses."""
    try:
        return decode(memoryview(bytearray(body)))
    except ProtocolError as error:
        pickle.loads(pickle.dumps(error))
        return None


def test_what_is_whole_is_read():
    group = attempt(GOOD)
    np.testing.assert_array_equal(group.arrays["dem"].data, PIXELS)
    np.testing.assert_array_equal(group.arrays["count"].data.ravel(), np.arange(12))


@given(st.integers(0, len(GOOD) - 1))
def test_an_answer_cut_short_is_refused(size):
    assert attempt(GOOD[:size]) is None


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused(noise):
    assert attempt(noise) is None


def flipped(bits):
    body = bytearray(GOOD)
    for bit in bits:
        body[bit // 8] ^= 1 << bit % 8
    return body


DATA_BITS = {
    8 * byte + bit
    for size, first in ((48, PIXELS.tobytes()), (12, bytes(range(12))))
    for byte in range(GOOD.index(first), GOOD.index(first) + size)
    for bit in range(8)
}
"""Bits of pixels: no checksum of ours watches them, TCP's does."""

ELSEWHERE = sorted(set(range(8 * len(GOOD))) - DATA_BITS)


def check_unchanged(body):
    """Refused, or the pixels of the answer that was sent."""
    group = attempt(body)
    if group is None:
        return
    for name, pixels in (("dem", PIXELS), ("count", np.arange(12, dtype="u1").reshape(SHAPE))):
        array = group.arrays[name]
        assert (array.dims, array.data.dtype, array.data.shape) == (("y", "x"), pixels.dtype, SHAPE)
        np.testing.assert_array_equal(array.data, pixels)


def test_no_single_bit_moves_a_pixel():
    for bit in ELSEWHERE:
        check_unchanged(flipped([bit]))


@given(st.lists(st.sampled_from(ELSEWHERE), min_size=2, max_size=4))
def test_a_few_bits_move_no_pixel(bits):
    check_unchanged(flipped(bits))


@given(st.integers(0, len(GOOD)), st.integers(0, 200), st.binary(max_size=40))
def test_a_piece_that_is_another(start, length, piece):
    group = attempt(GOOD[:start] + piece + GOOD[start + length :])
    if group is not None:
        assert {array.data.shape for array in group.arrays.values()} <= {SHAPE}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10)
    | st.floats()
    | st.sampled_from([10**30, -(10**30), 2**63, "float64", "datetime64", "", "y", "\ud800", "bytes", "NaN"])
    | st.text(max_size=4)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def wounded(draw, document):
    """A document in which up to three nodes are others, or gone."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, place = draw(st.sampled_from(places))
        if draw(st.booleans()):
            del holder[place]
        else:
            holder[place] = draw(JSON)
    return document


def _places(node):
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


@given(wounded(META))
@example({**META, "shape": [-1, 4], "chunk_grid": {"configuration": {"chunk_shape": [-1, 4]}}})
@example({**META, "shape": [2**62, 4], "chunk_grid": {"configuration": {"chunk_shape": [2**62, 4]}}})
@example({**META, "shape": [3.0, 4], "chunk_grid": {"configuration": {"chunk_shape": [3, 4]}}})
@example(
    {**META, "data_type": {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 0}}}
)
@example({**META, "data_type": "uint8"})
def test_metadata_that_lie(meta):
    group = attempt(archive(meta))
    if group is not None and "dem" in group.arrays:
        array = group.arrays["dem"]
        assert array.data.nbytes == PIXELS.nbytes
        assert len(array.dims) == array.data.ndim


@pytest.mark.parametrize(
    "group",
    [
        b"[" * 100_000,
        b'{"consolidated_metadata":' * 50_000,
        b"1" * 10_000,
        b"null",
        b"\xff",
        b'{"consolidated_metadata": {"metadata": {"dem": ' + b"[" * 100_000,
    ],
    ids=lambda group: ascii(group[:20]),
)
def test_a_document_that_can_not_be_read(group):
    assert attempt(pack(group)) is None


def test_a_name_that_stands_for_other_bytes():
    """The directory points into another entry."""
    body = bytearray(GOOD)
    with zipfile.ZipFile(io.BytesIO(GOOD)) as whole:
        offsets = {info.filename: info.header_offset for info in whole.infolist()}
    place = body.rindex(b"count/c/0/0") - 4
    assert struct.unpack_from("<I", body, place) == (offsets["count/c/0/0"],)
    struct.pack_into("<I", body, place, offsets["dem/c/0/0"])
    assert attempt(body) is None


# Problems

PROBLEM = {
    "type": "urn:icehouse:problem:busy",
    "title": "Service Unavailable",
    "status": 503,
    "kind": "busy",
    "detail": "too much to do",
    "hint": "try again in 3 s",
    "retry_after": 3,
    "chunks": [{"chunk": "dem/c/0/0", "kind": "source-failed", "detail": "x", "item": "y"}],
}


def answer(body, status=503, **headers):
    named = {
        "content-type": "application/problem+json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    return Response(status=status, headers=named, body=memoryview(bytearray(body)))


def check_error(given_answer):
    error = error_of(given_answer, "http://127.0.0.1:4326/x")
    assert isinstance(error, IcehouseError)
    assert error.status == given_answer.status
    assert isinstance(str(error), str)
    assert isinstance(error.kind, str)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.kind) == (type(error), str(error), error.kind)
    if isinstance(error, SourceFailed):
        assert all(isinstance(chunk, dict) for chunk in error.chunks)
    if isinstance(error, Busy):
        after = error.retry_after
        assert after is None or (math.isfinite(after) and after >= 0)
    return error


@given(wounded(PROBLEM), st.sampled_from(sorted(_KINDS)), st.integers(400, 599))
def test_problems_of_any_shape(document, kind, status):
    if document.get("kind") == "busy":
        document["kind"] = kind
    check_error(answer(json.dumps(document).encode(), status))


@given(st.binary(max_size=60), st.integers(400, 599), st.text(max_size=20))
@example(b"[" * 100_000, 503, "application/json")
@example(b'{"kind":' * 100_000, 400, "application/problem+json")
@example(b'{"kind": "busy", "retry_after": 1' + b"0" * 400 + b"}", 503, "application/json")
@example(b'{"kind": "busy", "retry_after": 1' + b"0" * 5000 + b"}", 503, "application/json")
@example(b'{"kind": "busy", "retry_after": NaN}', 503, "application/json")
@example(b'{"kind": "busy", "retry_after": -Infinity}', 503, "application/json")
@example(b'{"kind": "chunks-failed", "chunks": [1, "ab", [["a", 1, 2]]]}', 502, "application/json")
def test_error_bodies_of_any_kind(body, status, media_type):
    check_error(answer(body, status, content_type=media_type))


@given(
    st.text(max_size=12)
    | st.sampled_from(["nan", "inf", "-1", "1e400", "٣", "Sun, 22 Nov 2026 16:00:00 GMT"])
)
def test_retry_after_of_any_kind(text):
    check_error(answer(b"busy", 503, retry_after=text))
    check_error(answer(b'{"kind": "busy"}', 503, retry_after=text))


def test_a_wait_that_is_no_number_is_the_clients_own(monkeypatch):
    """Was a ValueError out of `time.sleep`."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(random, "random", lambda: 0.0)
    error = check_error(answer(b'{"kind": "busy", "retry_after": NaN}'))
    _wait(error, 0, Deadline(60, "http://127.0.0.1:4326/x"))
    assert 0 < slept[0] < 1
