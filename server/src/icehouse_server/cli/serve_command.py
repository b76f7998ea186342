"""``icehouse serve``: the daemon."""

import gc
from pathlib import Path
from typing import Annotated

import typer


def serve(
    cache_dir: Annotated[Path | None, typer.Option(help="Folder of the cache.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file.")] = None,
    strict: Annotated[
        bool | None,
        typer.Option("--strict", help="Refuse to start with a collection file that can't be used."),
    ] = None,
) -> None:
    """Run the daemon. Prints one line with its URL when it is ready; SIGTERM or Ctrl-C stops it."""
    gc.disable()  # half a million objects are imported that stay: to look for garbage among them is in vain
    from icehouse_server.cli.process_end import refusals_end_the_process
    from icehouse_server.cli.serving import run
    from icehouse_server.settings import load_settings

    gc.freeze()
    gc.enable()
    overrides = {"cache_dir": cache_dir, "host": host, "port": port, "strict": strict}
    settings = load_settings(overrides, config=config).settings
    with refusals_end_the_process():
        run(settings)
