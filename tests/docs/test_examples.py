"""Every example of the documentation runs, from top to bottom of its page, against a real daemon."""

from __future__ import annotations

import os
import tomllib

from icehouse_server.settings import load_settings
from icehouse_server.settings.files import parse_collection
from icehouse_server.sources import earthengine_settings, stac_settings

LANGUAGES = {"python", "sh", "toml", "json", "yaml", "text"}
"""Of the last three nothing is run: they show answers, and files of other programs."""
TABLES = {"earthengine": earthengine_settings, "stac": stac_settings}
"""Which module checks the tables of a kind of source."""
ELSEWHERE = {
    "docs/how-to/docker.md": "needs Docker",
    "docs/explanation/benchmarks.md": "the benchmarks run for minutes",
}
"""Pages of which nothing is run, and why."""
MARKS = ("not run: ", "refused", "the daemon is stopped here")
"""What a comment above a block may say; see `Runner.run`. The second: the daemon is meant to refuse."""


def test_every_block_has_a_language_that_is_known_and_a_mark_that_is_understood(page):
    for block in page.blocks():
        assert not block.language or block.language in LANGUAGES, f"{page}:{block.line}: {block.language!r}"
        assert not block.code or block.language, f"{page}:{block.line}: the block names no language"
        known = not block.code or not block.mark or block.mark.startswith(MARKS)
        assert known, f"{page}:{block.line}: {block.mark!r}"


def test_the_examples_of_a_page_run(page, runner):
    if str(page) in ELSEWHERE:
        return  # nothing of it is run, for the reason given there
    for block in page.blocks():
        runner.run(block, str(page))


def test_toml_is_what_the_daemon_reads(page, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("ICEHOUSE_")]:
        monkeypatch.delenv(name)
    for block in page.blocks():
        if block.language != "toml" or block.mark.startswith("not run:"):
            continue
        place = f"{page}:{block.line}"
        if "grid" in tomllib.loads(block.code):
            spec = parse_collection(block.code, place)
            tables = TABLES[spec.source_type]
            tables.parse_source(spec)
            for band in spec.bands:
                tables.parse_band(spec, band)
        else:
            file = tmp_path / "icehouse.toml"
            file.write_text(block.code)
            load_settings(config=file)
