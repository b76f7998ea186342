"""The codec: damage of stored bytes is always seen."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import blosc

from icehouse_server.core.collection import DTYPES, BandSpec
from icehouse_server.store.layout.codec import DamagedError, decode, encode, void_chunk

SIDE = 16


def band_of(dtype, nodata=None):
    return BandSpec(name="b", dtype=np.dtype(dtype), nodata=nodata)


def chunk_of(dtype, seed, kind="noise"):
    rng = np.random.default_rng(seed)
    if kind == "constant":
        return np.full((SIDE, SIDE), seed % 100, dtype=dtype)
    if np.dtype(dtype).kind == "f":
        values = rng.normal(size=(SIDE, SIDE)).astype(dtype)
        values[0, :3] = np.nan, np.inf, -0.0
        return values
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (SIDE, SIDE), dtype=dtype, endpoint=True)


chunks = st.builds(
    lambda dtype, seed, kind: (band_of(dtype), chunk_of(dtype, seed, kind)),
    st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["noise", "constant"]),
)


def bits(values):
    return values.dtype.name, values.shape, values.tobytes()


@given(chunks)
def test_what_went_in_comes_out_bit_for_bit(case):
    band, values = case
    again = decode(encode(values), band, SIDE)
    assert bits(again) == bits(values)
    assert not again.flags.writeable


@given(chunks)
def test_byte_order_and_layout_in_memory_do_not_matter(case):
    band, values = case
    for same in (
        values.astype(values.dtype.newbyteorder(">")),
        np.asfortranarray(values),
        values[::-1][::-1],
    ):
        assert encode(same) == encode(values)
    assert bits(decode(encode(values.astype(values.dtype.newbyteorder(">"))), band, SIDE)) == bits(values)


@given(chunks, st.data())
def test_a_flipped_bit_anywhere_is_damage(case, data):
    """Header, offsets, streams or checksum: never other pixels."""
    band, values = case
    encoded = bytearray(encode(values))
    places = st.one_of(
        st.integers(0, 15), st.integers(16, len(encoded) - 1), st.integers(len(encoded) - 4, len(encoded) - 1)
    )
    for place in data.draw(st.lists(places, min_size=1, max_size=3, unique=True)):
        encoded[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DamagedError):
        decode(bytes(encoded), band, SIDE)


@given(chunks, st.data())
def test_a_length_that_is_wrong_is_damage(case, data):
    band, values = case
    encoded = encode(values)
    cut = data.draw(st.one_of(st.integers(0, 24), st.integers(0, len(encoded) - 1)))
    for damaged in (encoded[:cut], encoded[cut + 1 :], encoded + b"\0", encoded + encoded):
        with pytest.raises(DamagedError):
            decode(damaged, band, SIDE)


@given(st.binary(max_size=300))
def test_any_other_bytes_are_damage(data):
    with pytest.raises(DamagedError):
        decode(data, band_of("uint8"), SIDE)


@given(chunks, st.data())
def test_frame_that_blosc_cannot_read_is_damage_despite_checksum(case, data):
    """Another writer, or a write that was cut before the checksum was made."""
    band, values = case
    frame = bytearray(encode(values)[:-4])
    kind = data.draw(st.sampled_from(["cut", "longer", "flags", "blocksize", "cbytes", "zeros"]))
    if kind == "cut":
        frame = frame[: data.draw(st.integers(16, len(frame) - 1))]
    elif kind == "longer":
        frame += bytes(7)
    elif kind == "flags":
        frame[2] ^= 1 << data.draw(st.integers(5, 7))
    elif kind == "blocksize":
        frame[8:12] = data.draw(st.sampled_from([0, 1, 2**31, 2**32 - 1])).to_bytes(4, "little")
    elif kind == "cbytes":
        frame[12:16] = data.draw(st.sampled_from([0, 15, 17, len(frame) + 1, 2**31])).to_bytes(4, "little")
    else:
        frame[16:] = bytes(len(frame) - 16)
    if bytes(frame) == encode(values)[:-4]:
        return
    crc = google_crc32c.value(bytes(frame)).to_bytes(4, "little")
    try:
        again = decode(bytes(frame) + crc, band, SIDE)
    except DamagedError:
        return
    assert kind not in {"cut", "longer", "cbytes"}
    assert again.shape == (SIDE, SIDE), "some bits say nothing to Blosc"


@pytest.mark.parametrize(("side", "dtype"), [(SIDE, "uint16"), (SIDE * 2, "uint8"), (SIDE // 2, "uint8")])
def test_a_chunk_of_another_size_is_damage(side, dtype):
    encoded = encode(chunk_of("uint8", 1))
    with pytest.raises(DamagedError, match="bytes"):
        decode(encoded, band_of(dtype), side)


def test_our_frames_are_blosc_zstd():
    frame = encode(chunk_of("float32", 1))[:-4]
    assert blosc.cbuffer_complib(frame) == "Zstd"


def test_a_void_chunk_is_all_fill_in_no_memory():
    band = band_of("float32", -9999.0)
    void = void_chunk(band, 512)
    assert void.shape == (512, 512)
    assert (void == np.float32(-9999)).all()
    assert void.base.nbytes == 4
    assert len(encode(void)) < 512, "short enough to be stored inline"
