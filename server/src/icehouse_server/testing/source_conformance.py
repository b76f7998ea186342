"""What every source must keep, as a test class that each implementation's tests inherit.

    class TestMySource(SourceConformance):
        @pytest.fixture
        def case(self): return SourceCase(...)

pytest-asyncio in auto mode runs it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import numpy as np
import pytest

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import SourceError
from icehouse_server.core.grid import Window, tiles
from icehouse_server.core.ports import Block, BlockRequest, Mask, Pixels, Source

type Truth = Callable[[str, Window], tuple[Pixels, Mask]]
"""(band, window) to what a source must say there: values, and True = valid."""


@dataclass(frozen=True, kw_only=True)
class SourceCase:
    """A source to be tested, and what is known about its data by other means than the source."""

    spec: CollectionSpec
    make: Callable[[], Source]
    """Makes a fresh source that has seen nothing yet."""
    truth: Truth
    area: Window
    """Valid and invalid pixels, and a border between overlapping items where the source has any."""
    void: Window
    """Inside the grid, where there is nothing."""
    bands: tuple[str, ...]
    """Bands to read; the more dtypes, the better."""

    def request(self, window: Window, bands: tuple[str, ...] | None = None, level: int = 0) -> BlockRequest:
        """Return the request for a window of the grid at a level."""
        return BlockRequest(
            collection=self.spec,
            level=level,
            bands=tuple(self.spec.band(name) for name in bands or self.bands),
            window=window,
            geobox=self.spec.grids[level].geobox_of(window),
        )

    def shrunk(self, window: Window, level: int) -> Window:
        """Return the window of a level that holds a window of the grid."""
        factor = 2**level
        return Window.from_bounds(
            window.row // factor,
            window.col // factor,
            -(-window.stop_row // factor),
            -(-window.stop_col // factor),
        )

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Source]:
        """A fresh source, closed at the end."""
        source = self.make()
        try:
            yield source
        finally:
            await source.close()

    def check(self, block: Block, window: Window, bands: tuple[str, ...] | None = None) -> None:
        """Assert that a block is the truth, bit for bit where it is valid."""
        names = bands or self.bands
        assert tuple(block.bands) == names
        for name in names:
            found, (values, valid) = block.bands[name], self.truth(name, window)
            shape = (window.height, window.width)
            assert found.values.shape == found.valid.shape == shape
            assert found.values.dtype == self.spec.band(name).dtype
            assert found.valid.dtype == np.bool_
            np.testing.assert_array_equal(found.valid, valid, err_msg=name)
            np.testing.assert_array_equal(found.values[valid], values[valid], err_msg=name)


_KERNELS = 16
"""Pixels of a level that a void must be wide for its middle to lie beyond the reach of every kernel."""


class SourceConformance:
    """Inherit this and give a ``case`` fixture."""

    async def test_a_block_is_the_truth(self, case: SourceCase) -> None:
        """Values and validity, each band in its own dtype."""
        async with case.open() as source:
            block = await source.read(case.request(case.area))
        case.check(block, case.area)
        assert all(band.valid.any() and not band.valid.all() for band in block.bands.values())
        assert block.provenance
        assert list(block.provenance) == sorted(set(block.provenance))

    async def test_bands_come_as_asked(self, case: SourceCase) -> None:
        """The order of the request, and nothing but it."""
        async with case.open() as source:
            turned = tuple(reversed(case.bands))
            case.check(await source.read(case.request(case.area, turned)), case.area, turned)
            single = case.bands[-1:]
            case.check(await source.read(case.request(case.area, single)), case.area, single)

    @pytest.mark.parametrize("order", ["forth", "back", "at once"])
    async def test_what_a_pixel_holds_does_not_depend_on_window_or_order(
        self, case: SourceCase, order: str
    ) -> None:
        """Promise 2: cut into windows of an odd size, in any order, the outcome is the same."""
        step = max(case.area.height, case.area.width) // 3 + 1
        windows = list(tiles(case.area, step))
        band = case.bands[:1]
        async with case.open() as source:
            if order == "at once":
                blocks = await asyncio.gather(*(source.read(case.request(part, band)) for part in windows))
            else:
                windows = windows if order == "forth" else windows[::-1]
                blocks = [await source.read(case.request(part, band)) for part in windows]
        for part, block in zip(windows, blocks, strict=True):
            case.check(block, part, band)

    async def test_the_same_twice_at_once(self, case: SourceCase) -> None:
        """Concurrent readers do not disturb each other."""
        async with case.open() as source:
            blocks = await asyncio.gather(*(source.read(case.request(case.area)) for _ in range(3)))
        for block in blocks:
            case.check(block, case.area)

    async def test_nothing_there_is_no_error(self, case: SourceCase) -> None:
        """Void is an answer, with every pixel invalid."""
        async with case.open() as source:
            block = await source.read(case.request(case.void))
        for name in case.bands:
            assert block.bands[name].values.shape == (case.void.height, case.void.width)
            assert block.bands[name].values.dtype == case.spec.band(name).dtype
            assert not block.bands[name].valid.any()

    @pytest.mark.parametrize("corner", ["first", "last"])
    async def test_the_edge_of_the_grid_cuts(self, case: SourceCase, corner: str) -> None:
        """Chunks at the grid's edge are cut; what is read there lies where it should."""
        grid = case.spec.grid
        rows, cols = grid.chunk_shape
        row, col = (0, 0) if corner == "first" else (rows - 1, cols - 1)
        window = grid.chunk_window(row, col)
        async with case.open() as source:
            block = await source.read(case.request(window, case.bands[:1]))
        case.check(block, window, case.bands[:1])

    async def test_one_pixel(self, case: SourceCase) -> None:
        """The smallest window there is."""
        window = Window(row=case.area.row, col=case.area.col, height=1, width=1)
        async with case.open() as source:
            case.check(await source.read(case.request(window)), window)

    @pytest.mark.parametrize("level", [1, 2])
    async def test_a_level_is_the_same_however_it_is_cut(self, case: SourceCase, level: int) -> None:
        """Promise 2 holds for overviews; they show what is there, and where nothing is, nothing."""
        level = min(level, len(case.spec.grids) - 1)
        area = case.shrunk(case.area, level)
        async with case.open() as source:
            whole = await source.read(case.request(area, level=level))
            parts = list(tiles(area, max(area.height, area.width) // 2 + 1))
            blocks = [await source.read(case.request(part, level=level)) for part in parts]
            void = case.shrunk(case.void, level)
            inner = Window(row=void.row + void.height // 2, col=void.col + void.width // 2, height=1, width=1)
            nothing = await source.read(case.request(inner, level=level))
            wide = min(case.void.height, case.void.width) >= _KERNELS * 2**level
        for name, band in whole.bands.items():
            assert band.values.shape == band.valid.shape == (area.height, area.width)
            assert band.values.dtype == case.spec.band(name).dtype
            assert band.valid.any()
            for part, block in zip(parts, blocks, strict=True):
                inside = part.slices(area)
                valid = block.bands[name].valid
                np.testing.assert_array_equal(valid, band.valid[inside], err_msg=name)
                np.testing.assert_array_equal(
                    block.bands[name].values[valid], band.values[inside][valid], err_msg=name
                )
            assert not (wide and nothing.bands[name].valid.any())

    async def test_a_cancelled_reader_harms_nobody(self, case: SourceCase) -> None:
        """Who shares work with a reader that goes away still gets an answer."""
        async with case.open() as source:
            leaver = asyncio.create_task(source.read(case.request(case.area)))
            stayer = asyncio.create_task(source.read(case.request(case.area)))
            await asyncio.sleep(0.01)
            leaver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaver
            case.check(await stayer, case.area)

    async def test_close_twice_and_read_after(self, case: SourceCase) -> None:
        """Closing is idempotent; a closed source says so."""
        source = case.make()
        await source.read(case.request(case.void))
        await source.close()
        await source.close()
        with pytest.raises(SourceError):
            await source.read(case.request(case.void))

    async def test_close_ends_reads_under_way(self, case: SourceCase) -> None:
        """No caller waits for ever on a source that is being closed."""
        source = case.make()
        reading = asyncio.create_task(source.read(case.request(case.area)))
        await asyncio.sleep(0)
        await source.close()
        async with asyncio.timeout(5):
            (outcome,) = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(outcome, SourceError | asyncio.CancelledError | Block)
