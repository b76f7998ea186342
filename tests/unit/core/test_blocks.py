"""Joining chunks into blocks."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.core.blocks import join
from icehouse_server.core.grid import ChunkKey


def key(band, row, col):
    return ChunkKey(collection="c", level=0, band=band, time=None, row=row, col=col)


keys = st.lists(
    st.builds(key, st.sampled_from(["a", "b"]), st.integers(0, 9), st.integers(0, 9)),
    unique=True,
    max_size=80,
)


@settings(max_examples=200)
@given(keys=keys, side=st.integers(1, 5))
def test_blocks_partition_the_keys(keys, side):
    blocks = join(keys, side)
    covered = Counter(
        (band, row, col) for block in blocks for row, col in block.positions for band in block.bands
    )
    assert covered == Counter((k.band, k.row, k.col) for k in keys), "each key once, and nothing else"
    assert all(1 <= block.chunks.height <= side and 1 <= block.chunks.width <= side for block in blocks)


@settings(max_examples=100)
@given(keys=keys, side=st.integers(1, 5), seed=st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(keys, side, seed):
    """What is fetched together must not depend on how a caller listed it."""
    expected = {(frozenset(block.bands), block.chunks) for block in join(keys, side)}
    shuffled = [*keys, *keys[:3]]
    seed.shuffle(shuffled)
    again = join(shuffled, side)
    assert {(frozenset(block.bands), block.chunks) for block in again} == expected
    assert all(len(set(block.bands)) == len(block.bands) for block in again)


def test_a_full_rectangle_is_few_blocks():
    blocks = join([key(band, row, col) for band in "ab" for row in range(8) for col in range(8)], 4)
    assert len(blocks) == 4
    assert all(set(block.bands) == {"a", "b"} for block in blocks)
    assert join([], 4) == ()
