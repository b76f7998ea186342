"""``icehouse collections add``: a collection file of a template, or of what a source says of itself."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from icehouse_server.app import source_context
from icehouse_server.cli.collection_check import MemoryDocuments, Trial, try_chunk
from icehouse_server.collections import template_files
from icehouse_server.collections.draft_text import draft_text
from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.drafts.draft import Draft, GridWish, Inquiry, Remark
from icehouse_server.core.errors import BadParameterError, SourceTimeoutError, UnknownTimeError
from icehouse_server.raster.grid_bounds import GridBounds, snapped
from icehouse_server.settings import Settings, own_collections_dir
from icehouse_server.sources import create_inspectors

_THREADS = 8
_SECONDS = 600.0
"""That looking at a source may take, beyond the limits of each request."""

STDOUT = "-"
"""Output that is not a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridOptions:
    """What the command line says of the grid, not read yet."""

    crs: str | None
    bbox: str | None
    bbox_crs: str
    resolution: float | None
    chunk: int | None

    def wish(self) -> GridWish:
        """Read them.

        Raises:
            BadParameterError: names the option.
        """
        return GridWish(
            crs=None if self.crs is None else template_files.parse_crs("--crs", self.crs),
            resolution=self.resolution,
            bbox=None if self.bbox is None else tuple(template_files.parse_bbox(self.bbox)),  # type: ignore[arg-type]
            bbox_crs=template_files.parse_crs("--bbox-crs", self.bbox_crs),
        )


def template_file(name: str, id_: str | None, options: GridOptions) -> str:
    """Return the text of a template with a grid.

    Raises:
        BadParameterError: names the option that is missing or can't be used.
    """
    wish = options.wish()
    text = template_files.template_text(name)
    if wish.crs is None or wish.bbox is None or wish.resolution is None:
        missing = [
            option
            for option, value in (
                ("--crs", wish.crs),
                ("--bbox", wish.bbox),
                ("--resolution", wish.resolution),
            )
            if value is None
        ]
        raise BadParameterError(
            missing[0],
            f"a template needs {', '.join(missing)}",
            hint="such as --crs EPSG:32633 --bbox 12.0,47.5,12.2,47.6 --resolution 10",
        )
    box = GridBounds(*wish.bbox)
    return template_files.filled(
        text,
        id_=id_,
        crs=str(options.crs),
        resolution=wish.resolution,
        bounds=snapped(box, wish.bbox_crs, wish.crs, wish.resolution),
        chunk=options.chunk or 512,
    )


def inspected(
    address: str, settings: Settings, id_: str | None, options: GridOptions, hosts: tuple[str, ...]
) -> Draft:
    """Look at a source, and return what a collection file for it holds.

    Raises:
        BadParameterError: an option can't be used.
        SourceError: the source can't be read.
    """
    inquiry = Inquiry(address=address, wish=options.wish(), asset_hosts=hosts)
    draft = asyncio.run(_inspect(inquiry, settings))
    head = Remark(where="", text=f"Written by icehouse collections add --from {address}")
    return replace(
        draft,
        id=id_ or draft.id,
        grid=replace(draft.grid, chunk=options.chunk),
        remarks=(head, *draft.remarks),
    )


async def _inspect(inquiry: Inquiry, settings: Settings) -> Draft:
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="inspect") as pool:
        context = source_context(settings, MemoryDocuments(), pool)
        inspectors = create_inspectors(context)
        try:
            chosen = next((one for one in inspectors if one.recognises(inquiry.address)), None)
            if chosen is None:
                raise BadParameterError(
                    "--from",
                    f"--from: {inquiry.address!r} is not a folder, the URL of a STAC collection "
                    "or the id of an Earth Engine asset",
                    hint="such as ./dems, https://stac.example.org/collections/dem or USGS/SRTMGL1_003",
                )
            async with asyncio.timeout(_SECONDS):
                return await chosen.inspect(inquiry)
        except TimeoutError as error:
            raise SourceTimeoutError(f"the source was not read within {_SECONDS:.0f} s") from error
        finally:
            for one in inspectors:
                await one.close()


def write_file(
    text: str, output: str | None, settings: Settings, *, force: bool
) -> tuple[Path, CollectionSpec]:
    """Write a collection file to the user's folder, or to a file; return where, and what it says.

    Raises:
        BadParameterError: there is one already.
        ConfigurationError: the text is not a collection file.
    """
    spec = parse_collection(text, "the new file")
    path = (
        own_collections_dir(settings.collections_dir) / f"{spec.id}.toml"
        if output is None
        else Path(output).absolute()
    )
    if path.exists() and not force:
        raise BadParameterError(
            "--id" if output is None else "--output",
            f"there is a file {path}",
            hint=f"give another {'--id' if output is None else '--output'}, or --force to replace it",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path, spec


def write_draft(draft: Draft, output: str | None, settings: Settings, *, force: bool) -> Path:
    """Write a draft as a collection file, and return where.

    Raises:
        BadParameterError: there is one already.
    """
    return write_file(draft_text(draft), output, settings, force=force)[0]


def print_draft(draft: Draft) -> None:
    """Print a draft in place of writing it; what is left to do goes to the standard error."""
    text = draft_text(draft)
    parse_collection(text, "the new file")
    sys.stdout.write(text)
    for line in left_to_do(draft):
        print(line, file=sys.stderr)


def left_to_do(draft: Draft) -> list[str]:
    """Return what the user has to fill in or decide, a line each."""
    return [
        f"  {remark.where.removeprefix('band:') or 'file'}: {remark.text.partition('\n')[0]}"
        for remark in draft.remarks
        if remark.fill_in
    ]


def try_draft(draft: Draft, spec: CollectionSpec, settings: Settings) -> Trial:
    """Read one chunk of a collection file that was just written, where there should be data.

    Raises:
        SourceError: by what happened.
    """
    if draft.at is not None:
        place = f"{draft.at[0]:.7f},{draft.at[1]:.7f}"
        try:
            return try_chunk(spec, settings, place, draft.moment)
        except (BadParameterError, UnknownTimeError):  # the grid or its axis is another, as the user wanted
            pass
    return try_chunk(spec, settings, None, None)
