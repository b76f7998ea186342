"""What every inspector must keep, as a test class that each implementation's tests inherit.

    class TestMyInspector(InspectorConformance):
        @pytest.fixture
        def case(self): return InspectorCase(...)

pytest-asyncio in auto mode runs it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from odc.geo.crs import CRS

from icehouse_server.collections.draft_text import draft_text
from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.drafts.draft import Draft, GridWish, Inquiry, Inspector
from icehouse_server.core.errors import BadParameterError, SourceError
from icehouse_server.core.ports import Source


@dataclass(frozen=True, kw_only=True)
class InspectorCase:
    """An inspector to be tested, and addresses of its kind."""

    make: Callable[[], Inspector]
    inquiry: Inquiry
    """Of something that is there."""
    missing: str
    """Of this kind, and not there."""
    foreign: tuple[str, ...]
    """Addresses of other kinds."""
    make_source: Callable[[CollectionSpec], Source]
    """Makes the source that the daemon would use; opens no connection."""


class InspectorConformance:
    """Inherit this, and give a ``case`` fixture that returns an ``InspectorCase``."""

    @pytest.fixture
    async def draft(self, case: InspectorCase) -> Draft:
        """What the inspector says."""
        return await _inspected(case, case.inquiry)

    def test_recognises_its_addresses_and_no_others(self, case: InspectorCase) -> None:
        """Of all inspectors the first that recognises an address is asked."""
        inspector = case.make()
        assert inspector.recognises(case.inquiry.address)
        assert not any(inspector.recognises(address) for address in case.foreign)

    async def test_the_file_is_read_by_the_loader_and_the_source(
        self, case: InspectorCase, draft: Draft, tmp_path: Path
    ) -> None:
        """A draft is whole: with nothing filled in it is a collection."""
        spec = parse_collection(draft_text(draft), "new.toml", home=tmp_path)
        assert spec.bands
        await case.make_source(spec).close()

    async def test_what_is_left_open_names_what_it_is_about(self, draft: Draft) -> None:
        """A remark on anything else would not appear in the file."""
        bands = {f"band:{band.name}" for band in draft.bands}
        tables = {"", "license", "attribution", "grid", "extent", "time", "source", "bands", "styles"}
        tables |= {f"source.{key}" for key in draft.source}
        assert {remark.where for remark in draft.remarks} <= bands | tables
        for remark in draft.remarks:
            assert remark.text in remark.text.strip() or remark.text.startswith(" ")

    async def test_the_same_source_gives_the_same_draft(self, case: InspectorCase, draft: Draft) -> None:
        """What is written depends on the source alone."""
        again = await _inspected(case, case.inquiry)
        assert draft_text(again) == draft_text(draft)

    async def test_a_grid_of_the_users_own_is_kept(self, case: InspectorCase, draft: Draft) -> None:
        """With CRS, resolution and box of the user's nothing of the grid is the source's."""
        at = draft.at or (0.0, 0.0)
        box = (at[0] - 0.01, at[1] - 0.01, at[0] + 0.01, at[1] + 0.01)
        wish = GridWish(crs=CRS("EPSG:3857"), resolution=30.0, bbox=box)
        found = await _inspected(
            case,
            Inquiry(address=case.inquiry.address, wish=wish, asset_hosts=case.inquiry.asset_hosts),
        )
        spec = parse_collection(draft_text(found), "new.toml")
        assert spec.grid.crs == CRS("EPSG:3857")
        assert spec.grid.geobox.affine.a == wish.resolution
        assert max(spec.grid.shape) < 1000  # noqa: PLR2004 - a fiftieth of a degree is 75 pixels and more
        await case.make_source(spec).close()

    async def test_what_is_not_there_is_said(self, case: InspectorCase) -> None:
        """With an error that names it."""
        with pytest.raises((SourceError, BadParameterError)) as caught:
            await _inspected(case, Inquiry(address=case.missing))
        assert case.missing.rpartition("/")[2] in caught.value.detail

    async def test_closing_twice_does_no_harm(self, case: InspectorCase) -> None:
        """Whoever made it closes it."""
        inspector = case.make()
        await inspector.close()
        await inspector.close()


async def _inspected(case: InspectorCase, inquiry: Inquiry) -> Draft:
    inspector = case.make()
    try:
        return await inspector.inspect(inquiry)
    finally:
        await inspector.close()
