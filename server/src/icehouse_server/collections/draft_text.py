"""A draft as the text of a collection file: tables, and in comments what is assumed or left to fill in."""

import textwrap
from collections.abc import Iterator, Mapping

from icehouse_server.core.drafts.draft import Draft, DraftBand, Remark
from icehouse_server.core.toml_text import toml_key, toml_value

_WIDTH = 100
"""Characters of a line of comment."""


def draft_text(draft: Draft) -> str:
    """Return the text of a collection file. A draft's texts may be anything: they come from elsewhere."""
    blocks = [_head(draft), *_tables(draft)]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _head(draft: Draft) -> list[str]:
    known: dict[str, object] = {
        "id": draft.id,
        "title": draft.title,
        "description": draft.description,
        "license": draft.license,
        "attribution": draft.attribution,
        "citation": draft.citation,
        "keywords": draft.keywords,
        "default_bands": draft.default_bands,
        "links": [{"title": title, "href": href} for title, href in draft.links],
    }
    lines = _comments(draft, "")
    for key, value in known.items():
        lines += _comments(draft, key)
        lines += [f"{key} = {toml_value(value)}"] if value else []
    return lines


def _tables(draft: Draft) -> Iterator[list[str]]:
    grid = draft.grid
    yield _table(
        draft,
        "grid",
        {
            "crs": grid.crs,
            "resolution": _short(grid.resolution),
            "bounds": [_short(edge) for edge in grid.bounds],
            **({} if grid.chunk is None else {"chunk": grid.chunk}),
            **({} if grid.overviews is None else {"overviews": grid.overviews}),
        },
    )
    if draft.interval != (None, None):
        yield _table(draft, "extent", {"interval": [end or ".." for end in draft.interval]})
    yield _table(draft, "time", draft.time)
    plain = {key: value for key, value in draft.source.items() if not isinstance(value, Mapping)}
    yield _table(draft, "source", plain)
    for key, value in draft.source.items():
        if isinstance(value, Mapping):
            yield _table(draft, f"source.{key}", value)
    above = _comments(draft, "bands")
    for band in draft.bands:
        yield [*above, *_band(draft, band)]
        above = []
    yield _comments(draft, "styles")


def _table(draft: Draft, name: str, values: Mapping[str, object]) -> list[str]:
    body = [f"{toml_key(key)} = {toml_value(value)}" for key, value in values.items()]
    return [*_comments(draft, name), *([f"[{name}]", *body] if body else [])]


def _band(draft: Draft, band: DraftBand) -> list[str]:
    values: dict[str, object] = {"name": band.name, "dtype": band.dtype}
    if band.nodata is not None:
        values["nodata"] = _short(band.nodata)
    for key, default in (("units", ""), ("long_name", ""), ("resampling", "nearest")):
        value = getattr(band, key)
        values |= {key: value} if value != default else {}
    if (band.scale, band.offset) != (1, 0):
        values |= {"scale": band.scale, "offset": band.offset}
    lines = [*_comments(draft, f"band:{band.name}"), "[[bands]]"]
    lines += [f"{key} = {toml_value(value)}" for key, value in values.items()]
    if band.source:
        lines += ["[bands.source]"]
        lines += [f"{toml_key(key)} = {toml_value(value)}" for key, value in band.source.items()]
    return lines


def _comments(draft: Draft, where: str) -> list[str]:
    return [line for remark in draft.remarks if remark.where == where for line in _comment(remark)]


def _comment(remark: Remark) -> Iterator[str]:
    """Yield the lines of a comment; what would end it is taken out of the text."""
    for line in remark.text.splitlines():
        clean = "".join(character for character in line if character.isprintable())
        if clean.startswith(" "):
            yield f"#{clean}"
        else:
            yield from (f"# {part}" for part in textwrap.wrap(clean, _WIDTH, break_on_hyphens=False))


def _short(number: float) -> float | int:
    """Return a number without a fraction that it does not have."""
    return int(number) if float(number).is_integer() and abs(number) < 1e15 else number  # noqa: PLR2004
