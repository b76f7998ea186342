"""Runs one stand-in server in this process: `python -m icehouse_server.testing stac --port 0`.

The servers need processes of their own: a Python HTTP server in a thread beside rasterio deadlocks with
GDAL, which lists the folder of a file over HTTP while it holds the interpreter's lock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from icehouse_server.testing.builder import Builder, mosaic_object
from icehouse_server.testing.cog_host import Objects, create_cog_app
from icehouse_server.testing.control import create_control_app
from icehouse_server.testing.earth_api import Signing, create_earth_app
from icehouse_server.testing.earth_files import earth_object
from icehouse_server.testing.earth_store import create_earth_store, signing_routes
from icehouse_server.testing.earthengine.service import create_earth_engine
from icehouse_server.testing.faults import Script
from icehouse_server.testing.harness import TRANSPORT, Harness
from icehouse_server.testing.pgc import OBJECTS_URL
from icehouse_server.testing.signing import Clock
from icehouse_server.testing.stac_api import create_stac_app
from icehouse_server.testing.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp


class _Protocol(HttpToolsProtocol):
    """Hands the transport to the application, which alone can then reset a connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope  # a TypedDict that knows no key of ours
        scope[TRANSPORT] = self.transport


def create_app(arguments: argparse.Namespace, folder: Path) -> ASGIApp:
    """The server that the arguments ask for, with its harness."""
    traffic, script = Traffic(latency=arguments.latency, bandwidth=arguments.bandwidth), Script()
    if arguments.server == "ee":
        return create_earth_engine(traffic, script)
    objects = Objects(
        Builder(folder, earth_object if arguments.server.startswith("earth-") else mosaic_object)
    )
    rule = Signing(clock=Clock(), lifetime=arguments.lifetime)
    more = signing_routes(rule) if arguments.server.startswith("earth-") else []
    control = create_control_app(traffic, script, objects.variants, objects.prepare, more)
    pages = {"cogs_url": arguments.cogs_url, "page_size": arguments.page_size}
    match arguments.server:
        case "cogs":
            app = create_cog_app(objects)
        case "earth-cogs":
            app = create_earth_store(objects, rule.clock)
        case "earth-stac":
            app = create_earth_app(**pages, signing_rule=rule)
        case _:
            app = create_stac_app(**pages)
    return Harness(app, control, traffic, script)


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m icehouse_server.testing", description=__doc__)
    parser.add_argument("server", choices=["stac", "cogs", "earth-stac", "earth-cogs", "ee"])
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument(
        "--bandwidth", type=float, default=None, help="bytes a second, shared by all connections"
    )
    parser.add_argument("--folder", type=Path, default=None, help="where built files are kept (cogs)")
    parser.add_argument("--page-size", type=int, default=10, help="items in a page (stac)")
    parser.add_argument(
        "--cogs-url", default=OBJECTS_URL, help="object store in documents under /open (stac)"
    )
    parser.add_argument(
        "--lifetime", type=int, default=3600, help="seconds that signed links hold (earth-stac)"
    )
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Serve until the process is ended. Prints one line, the URL, when ready."""
    arguments = parse_arguments(words)
    with tempfile.TemporaryDirectory(prefix="icehouse-standin-") as spare:
        app = create_app(arguments, arguments.folder or Path(spare))
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", arguments.port))
            listener.listen(512)
            sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/\n")
            sys.stdout.flush()
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(
                    _serve(uvicorn.Server(config), listener, until_eof=arguments.until_eof),
                    loop_factory=config.get_loop_factory(),
                )


async def _serve(server: uvicorn.Server, listener: socket.socket, *, until_eof: bool) -> None:
    """Serve; with `until_eof`, end when standard input closes, as it does when the parent dies of kill -9."""

    def watch(loop: asyncio.AbstractEventLoop) -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(setattr, server, "should_exit", True)

    if until_eof:
        threading.Thread(target=watch, args=(asyncio.get_running_loop(),), daemon=True).start()
    await server.serve([listener])
