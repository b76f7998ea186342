"""Neighbouring ranges become one request: never too large, never mostly waste."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.sources.http.ranges import GAP, MAX_REQUEST, Header, HeaderCache, coalesce


@given(
    st.lists(
        st.tuples(st.integers(0, 40_000_000), st.integers(1, 3_000_000)).map(lambda r: (r[0], r[0] + r[1])),
        max_size=30,
    )
)
def test_every_range_is_served_once(ranges):
    parts = coalesce(ranges)
    assert sorted(index for part in parts for index in part.members) == list(range(len(ranges)))
    for part in parts:
        assert part.stop - part.start <= MAX_REQUEST
        for index in part.members:
            assert part.start <= ranges[index][0]
            assert ranges[index][1] <= part.stop


@given(st.lists(st.integers(1, 400_000), min_size=1, max_size=30), st.integers(0, 500_000))
def test_waste_is_bounded(sizes, gap):
    ranges, at = [], 0
    for size in sizes:
        ranges.append((at, at + size))
        at += size + gap
    for part in coalesce(ranges):
        waste = part.stop - part.start - sum(ranges[index][1] - ranges[index][0] for index in part.members)
        assert waste <= part.wanted / 4 + GAP * len(part.members)


def test_blocks_in_a_row_are_one_request():
    """GDAL's COG layout has 4 bytes before and after each block."""
    (part,) = coalesce([(1000, 201_000), (201_008, 380_000)])
    assert (part.start, part.stop, part.members) == (1000, 380_000, (0, 1))


def test_headers_are_bounded():
    cache = HeaderCache(max_bytes=1000)
    for number in range(20):
        made = Header(prefix=bytes(100), size=5, version="v", etag=None, url="", born=1e12)
        cache.put(str(number), made)
    assert [number for number in range(20) if cache.get(str(number))] == list(range(10, 20))
    aged = HeaderCache(max_age=0)
    aged.put("a", Header(prefix=b"", size=5, version="v", etag=None, url="", born=-1e9))
    assert aged.get("a") is None
