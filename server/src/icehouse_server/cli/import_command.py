"""``icehouse import-smart-geocubes``: take over what a cube of smart-geocubes holds, without a daemon."""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from icehouse_server.cli.options import AsJson
from icehouse_server.cli.process_end import leave, refusals_end_the_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icehouse_server.core.collection import CollectionSpec
    from icehouse_server.migrate.smart_geocubes.importer import ProgressCallback, Takeover
    from icehouse_server.settings import Settings

_INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells have it."""

_SHOWN = 5
"""Ids of patches that are named; all are in --json."""


def import_smart_geocubes(
    path: Annotated[Path, typer.Argument(help="Folder of the cube, such as arcticdem_32m.icechunk.")],
    collection: Annotated[
        str | None, typer.Option(help="Id of the collection; by default what the cube's title says.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and count; write nothing.")] = False,  # noqa: FBT002
    cache_dir: Annotated[Path | None, typer.Option(help="Folder of the cache.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file.")] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Take over what a cube of smart-geocubes holds, so that it need not be fetched again.

    No daemon may run on the cache folder meanwhile; a dry run needs no such care.
    """
    from icehouse_server.cli.logs import configure_logging
    from icehouse_server.collections import read_collections
    from icehouse_server.core.home import expand_home
    from icehouse_server.settings import load_settings, user_collections_dir

    settings = load_settings({"cache_dir": cache_dir}, config=config).settings
    configure_logging(settings)
    specs = read_collections(user_collections_dir(settings.collections_dir))
    try:
        with refusals_end_the_process(), _progress_bar(shown=not as_json) as progress:
            report = asyncio.run(
                _import(
                    expand_home(path, "path").resolve(),
                    settings,
                    specs,
                    collection,
                    progress,
                    dry_run=dry_run,
                )
            )
    except KeyboardInterrupt:
        print("icehouse: interrupted; what was committed is kept, and passed over next time", file=sys.stderr)
        leave(_INTERRUPTED)
    if as_json:
        print(json.dumps({**report.document(), "dry_run": dry_run}))
    else:
        _show(report, dry_run=dry_run)
    leave(0)


async def _import(
    path: Path,
    settings: "Settings",
    specs: "dict[str, CollectionSpec]",
    name: str | None,
    progress: "ProgressCallback",
    *,
    dry_run: bool,
) -> "Takeover":
    from icehouse_server.app import open_store
    from icehouse_server.core.errors import BadParameterError
    from icehouse_server.migrate.smart_geocubes.cube import SmartGeocube
    from icehouse_server.migrate.smart_geocubes.importer import take_over
    from icehouse_server.migrate.smart_geocubes.patches import collection_of
    from icehouse_server.store import inspect_repository

    with ThreadPoolExecutor(1, thread_name_prefix="cube") as pool:
        cube = await SmartGeocube.open(path, pool)
        if name is not None and name not in specs:
            raise BadParameterError("collection", f"there is no collection {name!r}", hint=", ".join(specs))
        spec = collection_of(cube, specs.values()) if name is None else specs[name]
        if dry_run:
            place = settings.cache_folder / "collections" / spec.id
            return await take_over(
                cube, spec, await inspect_repository(spec, place, pool), pool=pool, progress=progress
            )
        async with open_store(settings, spec) as store:
            index = store.collections[spec.id].index
            return await take_over(
                cube, spec, index, pool=pool, progress=progress, store=store, disk_floor=settings.disk_floor
            )


@contextmanager
def _progress_bar(*, shown: bool) -> "Iterator[ProgressCallback]":
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not shown or not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading the cube", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(report: "Takeover", *, dry_run: bool) -> None:
    verb = "would be taken" if dry_run else "taken"
    print(f"{report.title} -> {report.collection}: {report.patches} patches, {report.taken} chunks {verb}")
    table = Table("band", "chunks", "", box=None)
    for name, tally in report.bands.items():
        table.add_row(name, str(tally.taken), verb)
        for why, count in sorted(tally.left.items()):
            table.add_row(name, str(count), f"left: {why}")
    Console(soft_wrap=True).print(table)
    if report.lacking:
        print(f"not in the cube, left to be fetched: {', '.join(report.lacking)}")
    if report.ignored:
        print(f"not in the collection, passed over: {', '.join(report.ignored)}")
    if report.unplaced:
        more = ", ..." if len(report.unplaced) > _SHOWN else ""
        print(f"patches that could not be placed: {', '.join(report.unplaced[:_SHOWN])}{more}")
    if report.invented:
        print("note: smart-geocubes fills masked pixels of this dataset from their neighbours before it")
        print("      writes them; chunks taken may hold such pixels. `icehouse refresh` fetches them anew.")
