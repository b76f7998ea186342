"""What the documentation points to is there."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import typer

from icehouse_server.cli.commands import app
from icehouse_server.settings import Settings
from icehouse_server.settings.sources import NOT_SETTINGS

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_FOLDERS = "server|client|tests|docs|docker|scripts|changes"
_PATH = re.compile(rf"(?:{_FOLDERS})/[\w./-]*\w/?|Makefile|compose\.yaml|pyproject\.toml")
_VARIABLE = re.compile(r"ICEHOUSE_[A-Z_]+\b")
_MACHINE = re.compile(r"(?<![\w.])/(?:work|root|tmp|home/\w+)/")


def anchors(text):
    """The anchors of a page, as GitHub makes them from its headings."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in _HEADING.findall(text))
    return {word.replace(" ", "-") for word in words}


def test_links_inside_the_repository_resolve(page):
    for target in _LINK.findall(_FENCE.sub("", page.text)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith(("https://", "http://127.0.0.1")), target
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.path.parent / path).resolve() if path else page.path
        assert file.is_relative_to(ROOT), target
        assert file.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(file.read_text()), f"{page}: {target}"


def test_files_settings_and_commands_that_a_page_names_exist(page):
    commands = set(typer.main.get_command(app).commands)
    settings = {f"ICEHOUSE_{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    for name in _VARIABLE.findall(page.text):
        assert name in settings, f"{page}: {name}"
    for code in _CODE.findall(_FENCE.sub("", page.text)):
        if _PATH.fullmatch(code):
            assert (ROOT / code).exists(), f"{page}: {code}"
        command = re.match(r"icehouse ([a-z][a-z-]*)", code)
        assert not command or command[1] in commands, f"{page}: {code}"


def test_no_page_knows_the_machine_that_it_was_written_on(page):
    assert not _MACHINE.search(page.text)


def test_every_page_is_reached_from_the_index(page_of, pages):
    index = page_of("docs/index.md")
    linked = {
        (index.path.parent / target.partition("#")[0]).resolve() for target in _LINK.findall(index.text)
    }
    lost = [str(page) for page in pages if str(page).startswith("docs/") and page.path not in linked]
    assert set(lost) <= {"docs/index.md"}


def test_tests_that_the_guarantees_name_exist(page_of):
    text = page_of("docs/explanation/guarantees.md").text
    named = set(re.findall(r"`((?:unit|component|property|contract|integration|faults)/[\w*./]+\.py)`", text))
    assert len(named) > 20
    for name in named:
        assert list((ROOT / "tests").glob(name)), name
