"""What there is in the stand-in world: which tiles exist, where they have content, what is odd about some.

Everything is declared or follows from a rule, so that tests can say what must come out.
"""

from __future__ import annotations

import functools
import itertools
from typing import Final

from icehouse_server.demo.pgc import DOMAINS, QUARTER_M, RESOLUTIONS, TILE_M, Domain, Tile, tile_of

type Box = tuple[float, float, float, float]
"""Left, bottom, right, top in metres of the domain's plane."""

OCEAN: Final[dict[str, frozenset[str]]] = {"arcticdem": frozenset({"68_32"}), "rema": frozenset({"44_05"})}
"""Supertiles that don't exist although their neighbours do."""

PLACES: Final[dict[str, tuple[str, ...]]] = {
    "arcticdem": (
        "67_33",  # (150 E, 65 N), the place of smart-geocubes' own tests
        "55_26",  # Wrangel Island, on the antimeridian
        "58_23",  # Chukotka, on the antimeridian
        "29_52",  # on longitude 0
        "44_74",
        "14_52",
        "46_19",  # (150 W, 70 N), the place of SlideRule's test
        "07_40",
    ),
    "rema": ("44_06", "45_30", "29_30", "26_12", "06_37"),
}
"""Supertiles that exist together with all their neighbours (those in `OCEAN` excepted)."""

MISSING_QUARTERS: Final[dict[str, frozenset[str]]] = {
    "arcticdem": frozenset({"67_34_2_2"}),
    "rema": frozenset(),
}
"""2 m quarters that don't exist although their supertile does."""

BARE_BUFFERS: Final[dict[str, dict[str, str]]] = {
    "arcticdem": {"67_33": "E", "66_33": "N"},
    "rema": {"44_06": "E"},
}
"""Supertiles whose buffer on one side (N, E, S or W) is nodata, while the neighbour is valid there."""

OLD_FORM: Final[dict[str, frozenset[str]]] = {
    "arcticdem": frozenset({"66_33", "58_23"}),
    "rema": frozenset({"44_07"}),
}
"""Supertiles whose items are served in the form of 2023: STAC 1.0.0, proj:epsg, no datetime."""

CONTENT: Final[dict[str, tuple[Box, ...]]] = {
    "arcticdem": (
        (-717_500, 2_643_500, -710_500, 2_657_500),  # lon/lat (150, 65, 150.1, 65.1)
        (-702_000, 2_648_000, -698_000, 2_652_000),  # the bare buffer of 67_33, where four quarters meet
        (
            -1_453_000,
            1_447_000,
            -1_447_000,
            1_453_000,
        ),  # the middle of 55_26: four quarters and the antimeridian
        (-1_752_000, 1_748_000, -1_748_000, 1_752_000),  # the middle of 58_23, the same
        (1_148_000, -1_152_000, 1_152_000, -1_148_000),  # the middle of 29_52, on longitude 0
        (-2_115_400, 564_300, -2_111_400, 568_300),  # (150 W, 70 N)
    ),
    "rema": ((-2_402_000, 1_348_000, -2_398_000, 1_352_000),),
}
"""Where 2 m tiles have pixels, in addition to the square in the middle of each; 10 m tiles have 10 km more
around."""

_MIDDLE_M: Final = {2: 4_000, 10: 20_000}
"""Side of the square of content in the middle of every 2 m and 10 m tile."""
_MARGIN_M: Final = {2: 0, 10: 10_000}


def exists(tile: Tile) -> bool:
    """True if the tile is published in the stand-in world."""
    if not supertile_exists(tile.domain, tile.row, tile.column):
        return False
    if tile.quarter is None:
        return True
    return set(tile.quarter) <= {1, 2} and tile.name not in MISSING_QUARTERS[tile.domain.name]


def supertile_exists(domain: Domain, row: int, column: int) -> bool:
    """True for declared places and, by a rule, for about two thirds of the ring of land around each pole."""
    in_grid = domain.rows[0] <= row <= domain.rows[1] and domain.columns[0] <= column <= domain.columns[1]
    if not in_grid or f"{row:02d}_{column:02d}" in OCEAN[domain.name]:
        return False
    if (row, column) in _declared(domain.name):
        return True
    x, y = ((index - 0.5) * TILE_M - domain.origin for index in (column, row))
    inner, outer = (400e3, 3_400e3) if domain.name == "arcticdem" else (100e3, 2_500e3)
    land = (row // 3 * 7 + column // 4 * 11 + row // 7 * 5) % 10 < 7  # noqa: PLR2004 - seven of ten blobs of tiles
    return inner < float((x * x + y * y) ** 0.5) < outer and land


@functools.cache
def _declared(domain: str) -> frozenset[tuple[int, int]]:
    steps = tuple(itertools.product((-1, 0, 1), repeat=2))
    places = [tuple(int(part) for part in name.split("_")) for name in PLACES[domain]]
    return frozenset((row + down, column + right) for row, column in places for down, right in steps)


@functools.cache
def tiles(domain: str, resolution: str) -> tuple[Tile, ...]:
    """Every tile that exists, sorted by item id: the order in which overlapping tiles merge.

    Args:
        domain: "arcticdem" or "rema".
        resolution: "2m", "10m" or "32m".
    """
    if resolution not in RESOLUTIONS:
        raise ValueError(f"there is no resolution {resolution!r}")
    grid = DOMAINS[domain]
    ends = [f"_{row}_{column}" for row in (1, 2) for column in (1, 2)] if resolution == "2m" else [""]
    rows, columns = (range(first, last + 1) for first, last in (grid.rows, grid.columns))
    names = (f"{row:02d}_{column:02d}{end}" for row in rows for column in columns for end in ends)
    found = (tile_of(domain, resolution, name) for name in names)
    return tuple(sorted((tile for tile in found if exists(tile)), key=lambda tile: tile.item_id))


def tiles_in(domain: str, resolution: str, box: Box) -> tuple[Tile, ...]:
    """The existing tiles whose rasters (with buffers) share area with a box, sorted by item id."""
    left, bottom, right, top = box
    grid, step = DOMAINS[domain], QUARTER_M if resolution == "2m" else TILE_M

    def indices(low: float, high: float) -> range:
        # One more on each side: a neighbour reaches in by its buffer.
        return range(int((low + grid.origin) // step) - 1, int((high + grid.origin) // step) + 2)

    found = [
        _at(domain, resolution, row, column)
        for row in indices(bottom, top)
        for column in indices(left, right)
    ]
    touching = (
        tile
        for tile in found
        if tile.bounds[0] < right
        and tile.bounds[2] > left
        and tile.bounds[1] < top
        and tile.bounds[3] > bottom
    )
    return tuple(sorted((tile for tile in touching if exists(tile)), key=lambda tile: tile.item_id))


def _at(domain: str, resolution: str, row: int, column: int) -> Tile:
    """The tile at a row and column (from 0) of the resolution's own grid."""
    if resolution != "2m":
        return Tile(
            domain=DOMAINS[domain],
            resolution=int(resolution[:-1]),
            row=row + 1,
            column=column + 1,
            quarter=None,
        )
    return Tile(
        domain=DOMAINS[domain],
        resolution=2,
        row=row // 2 + 1,
        column=column // 2 + 1,
        quarter=(row % 2 + 1, column % 2 + 1),
    )


def content_boxes(tile: Tile) -> tuple[Box, ...] | None:
    """Where the tile has pixels at all, in metres; None means everywhere (as at 32 m)."""
    if tile.resolution not in _MIDDLE_M:
        return None
    left, bottom, right, top = tile.core
    half, margin = _MIDDLE_M[tile.resolution] / 2, _MARGIN_M[tile.resolution]
    x, y = (left + right) / 2, (bottom + top) / 2
    declared = (
        (box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin)
        for box in CONTENT[tile.domain.name]
    )
    reach = tile.bounds
    near = (
        box
        for box in declared
        if box[0] < reach[2] and box[2] > reach[0] and box[1] < reach[3] and box[3] > reach[1]
    )
    return ((x - half, y - half, x + half, y + half), *near)


def bare_side(tile: Tile) -> str | None:
    """N, E, S or W if the tile's buffer is nodata on that side, else None."""
    side = BARE_BUFFERS[tile.domain.name].get(tile.supertile)
    if side is None or tile.quarter is None:
        return side
    north, east = tile.quarter[0] > 1, tile.quarter[1] > 1
    outer = {"N": north, "S": not north, "E": east, "W": not east}
    return side if outer[side] else None
