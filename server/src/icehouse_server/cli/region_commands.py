"""``icehouse plan | load``: questions to a running daemon."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from icehouse_server.cli.options import AsJson, CollectionId, Target, Url, with_groups
from icehouse_server.core.errors import BadParameterError


@with_groups
def plan(collection: CollectionId, target: Target, url: Url = None, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Say what a region would need; nothing is fetched."""
    from icehouse_server.cli.daemon import Daemon

    found = Daemon(url).get(f"/collections/{collection}/plan", target.query())
    print(json.dumps(found) if as_json else _plan_line(found))


@with_groups
def load(
    collection: CollectionId,
    to: Annotated[Path, typer.Argument(help="File to write: .tif, .nc, .zarr.zip, .npy, .png or .json.")],
    target: Target,
    resampling: Annotated[str | None, typer.Option(help="GDAL resampling.")] = None,
    url: Url = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Load a region into a file; what is absent is fetched first."""
    from icehouse_server.cli.daemon import Daemon

    suffix = _suffix(to)
    query = target.query(resampling=resampling)
    daemon = Daemon(url)
    needs = daemon.get(f"/collections/{collection}/plan", query)
    if not as_json:
        print(_plan_line(needs), file=sys.stderr)
    with _bar(shown=not as_json) as bar:
        absent = needs["chunks"]["absent"]
        task = bar.add_task(f"fetching {absent} chunks" if absent else "loading", total=None)

        def progress(got: int, total: int) -> None:
            bar.update(task, completed=got, total=total, description="loading")

        path = f"/collections/{collection}/coverage{suffix}"
        size, cache_status = daemon.download(path, query, to, progress)
    if as_json:
        print(json.dumps({"file": str(to), "bytes": size, "cache_status": cache_status, "plan": needs}))
    else:
        print(f"{to}: {size / 1e6:.1f} MB ({cache_status})")


def _bar(*, shown: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not shown or not sys.stderr.isatty())


def _suffix(path: Path) -> str:
    from icehouse_server import output

    for known in output.FORMATS.values():
        if path.name.endswith(known.suffix):
            return known.suffix
    endings = ", ".join(known.suffix for known in output.FORMATS.values())
    raise BadParameterError("to", f"{path.name}: the ending names no format", hint=f"use one of {endings}")


def _plan_line(found: dict[str, Any]) -> str:
    chunks = found["chunks"]
    return (
        f"{chunks['needed']} chunks: {chunks['present']} cached ({chunks['void']} void), "
        f"{chunks['absent']} to fetch; "
        f"answer {found['output_bytes'] / 1e6:.1f} MB before compression"
    )
