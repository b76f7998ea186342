"""``icehouse demo``: the main job against stand-in sources, cold and warm."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Option(help="Where the GeoTIFF and the hillshade are written.")] = Path(
        "icehouse-demo"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, to try curl.")] = False,  # noqa: FBT002
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder of the cache, kept; by default one that goes with the demo.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the daemon; 0 picks a free one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,  # noqa: FBT002
) -> None:
    """Load a region cold and warm through a daemon of its own, against stand-ins for the remote services.

    The terrain is synthetic; the protocols, the file layouts and the client are the real ones.
    """
    from icehouse_server.cli.demonstration import demonstrate

    demonstrate(folder=folder, keep=keep, cache_dir=cache_dir, port=port, as_json=as_json)
