"""``icehouse collections``: list what the daemon serves; check, add and show collection files."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from icehouse_server.cli.options import AsJson, Url

if TYPE_CHECKING:
    from icehouse_server.cli.collection_check import Trial
    from icehouse_server.core.collection import CollectionSpec
    from icehouse_server.core.drafts.draft import Draft
    from icehouse_server.settings import Settings

app = typer.Typer(help="Collections: list, check, add.")

_SHOWN = 5
"""Items that are named."""

Config = Annotated[Path | None, typer.Option(help="Settings file.")]


@app.callback(invoke_without_command=True)
def collections(context: typer.Context, url: Url = None, as_json: AsJson = False) -> None:  # noqa: FBT002
    """List the collections that the daemon serves."""
    if context.invoked_subcommand is not None:
        return
    from icehouse_server.cli.daemon import Daemon

    found = Daemon(url).get("/collections")["collections"]
    if as_json:
        print(json.dumps(found))
        return
    table = Table("id", "title", "CRS", "bands", box=None)
    for entry in found:
        table.add_row(entry["id"], entry["title"], entry["proj:code"], ", ".join(entry["cube:variables"]))
    Console().print(table)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="Collection file.")],
    at: Annotated[
        str | None, typer.Option(help="lon,lat of the chunk to try; the middle by default.")
    ] = None,
    datetime: Annotated[str | None, typer.Option(help="Step of time to try; the last by default.")] = None,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Validate a collection file, and try one chunk through its source. No daemon is needed."""
    from icehouse_server.cli.collection_check import try_chunk
    from icehouse_server.collections.loader import parse_collection
    from icehouse_server.core.errors import ConfigurationError
    from icehouse_server.settings import load_settings

    _quiet()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the collection file {file} can't be read: {error}") from None
    settings = load_settings(config=config).settings
    spec = parse_collection(text, str(file), home=file.resolve().parent)
    trial = try_chunk(spec, settings, at, datetime)
    if as_json:
        print(json.dumps(_document(spec, trial)))
        return
    _tell(spec, trial, file)


@app.command("add")
def add(
    name: Annotated[
        str | None, typer.Argument(help="Template, such as sentinel-2-l2a-monthly; or use --from.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="Folder of files, URL of a STAC collection, or Earth Engine asset to look at."
        ),
    ] = None,
    crs: Annotated[str | None, typer.Option(help="CRS of the grid, such as EPSG:32633.")] = None,
    bbox: Annotated[str | None, typer.Option(help="minx,miny,maxx,maxy, in lon/lat by default.")] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Pixel size in units of the CRS.", min=1e-12, max=1e9)
    ] = None,
    bbox_crs: Annotated[str, typer.Option(help="CRS of --bbox, such as that of the grid.")] = "OGC:CRS84",
    chunk: Annotated[
        int | None, typer.Option(help="Side of a chunk in pixels; 512 by default.", min=16, max=8192)
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", help="Id of the collection; that of the template or source.")
    ] = None,
    asset_host: Annotated[
        list[str] | None, typer.Option(help="With --from: host on which a STAC collection's files may lie.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="With --from: file to write; - prints it.")] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="With --from: read no chunk.")] = False,  # noqa: FBT002
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,  # noqa: FBT002
    config: Config = None,
) -> None:
    """Make a collection file: of a built-in template, or of what a source says of itself."""
    from icehouse_server.cli import collection_add as adding
    from icehouse_server.core.errors import BadParameterError
    from icehouse_server.settings import load_settings

    if (name is None) == (from_ is None):
        raise BadParameterError("NAME", "give either the name of a template, or --from a source")
    settings = load_settings(config=config).settings
    options = adding.GridOptions(crs=crs, bbox=bbox, bbox_crs=bbox_crs, resolution=resolution, chunk=chunk)
    if name is not None:
        _add_template(adding.template_file(name, id_, options), settings, force=force)
        return
    _quiet()
    draft = adding.inspected(str(from_), settings, id_, options, tuple(asset_host or ()))
    if output == adding.STDOUT:
        adding.print_draft(draft)
    else:
        path = adding.write_draft(draft, output, settings, force=force)
        _tell_draft(draft, path, settings, check=not no_check)


def _add_template(text: str, settings: "Settings", *, force: bool) -> None:
    from icehouse_server.cli.collection_add import write_file

    path, spec = write_file(text, None, settings, force=force)
    rows, cols = spec.grid.shape
    print(
        f"wrote {path}: {cols} x {rows} pixels, bounds "
        f"{', '.join(f'{edge:.15g}' for edge in spec.grid.geobox.boundingbox.bbox)} in {spec.grid.crs}"
    )
    print(f"Try it: icehouse collections check {path}")
    print("A daemon that runs serves it once it is started again.")


def _tell_draft(draft: "Draft", path: Path, settings: "Settings", *, check: bool) -> None:
    from icehouse_server.cli.collection_add import left_to_do, try_draft
    from icehouse_server.collections.loader import parse_collection

    spec = parse_collection(path.read_text(encoding="utf-8"), str(path), home=path.parent)
    rows, cols = spec.grid.shape
    print(f"wrote {path}: {cols} x {rows} pixels, {', '.join(band.name for band in spec.bands)}")
    if left := left_to_do(draft):
        print("Look at these; the comments of the file say more:", *left, sep="\n")
    if check:
        print("Reading one chunk; icehouse collections check does so again.", flush=True)
        _tell(spec, try_draft(draft, spec, settings), path)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Id of a collection, or name of a template.")],
    config: Config = None,
) -> None:
    """Print a collection file: your own, a built-in one, or a template."""
    from icehouse_server.collections.loader import collection_text
    from icehouse_server.settings import load_settings, user_collections_dir

    own = user_collections_dir(load_settings(config=config).settings.collections_dir)
    # As the file is, in UTF-8 whatever the terminal's encoding: it may be written to a file of that kind.
    sys.stdout.flush()
    sys.stdout.buffer.write(collection_text(name, own).encode())


def _quiet() -> None:
    """Leave the log to the daemon: the answer has what a user needs."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _tell(spec: "CollectionSpec", trial: "Trial", file: Path) -> None:
    grid, window = spec.grid, trial.window
    rows, cols = grid.shape
    print(f"{file}: the file is right")
    print(f"  {spec.id}: {cols} x {rows} pixels in {grid.crs}, {len(spec.bands)} bands")
    when = "" if trial.step is None else f", step {trial.step}"
    print(
        f"tried the chunk at longitude {trial.place[0]:.5f}, latitude {trial.place[1]:.5f}: "
        f"{window.width} x {window.height} pixels{when}"
    )
    print(f"  {trial.requests} requests, {trial.bytes / 1e6:.2f} MB, {trial.seconds:.1f} s")
    items = list(dict.fromkeys(origin.item for origin in trial.block.provenance))
    named = [*items[:_SHOWN], "..."] if len(items) > _SHOWN else items
    print(f"  from {len(items)} items{': ' if items else ''}{', '.join(named)}")
    table = Table("band", "dtype", "valid", "values", box=None)
    shares = trial.shares()
    for name, limits in trial.ranges().items():
        values = "none" if limits is None else f"{limits[0]:g} to {limits[1]:g}"
        table.add_row(name, str(spec.band(name).dtype), f"{shares[name]:.1%}", values)
    Console(soft_wrap=True).print(table)
    if not any(shares.values()):
        print("Nothing is valid there: it may be void. Try a place where there are data: --at lon,lat")
    print("A daemon that runs serves the file once it is started again, if it lies in collections_dir.")


def _document(spec: "CollectionSpec", trial: "Trial") -> dict[str, object]:
    shares, ranges = trial.shares(), trial.ranges()
    return {
        "id": spec.id,
        "lon": trial.place[0],
        "lat": trial.place[1],
        "width": trial.window.width,
        "height": trial.window.height,
        "step": None if trial.step is None else str(trial.step),
        "requests": trial.requests,
        "bytes": trial.bytes,
        "seconds": trial.seconds,
        "items": sorted({origin.item for origin in trial.block.provenance}),
        "bands": {
            name: {"valid": shares[name], "min": limits and limits[0], "max": limits and limits[1]}
            for name, limits in ranges.items()
        },
    }
