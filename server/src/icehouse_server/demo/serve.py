"""Runs one stand-in server in this process: `python -m icehouse_server.demo stac --port 0`.

The servers need processes of their own: a Python HTTP server in a thread of the same process as rasterio
deadlocks with GDAL, which lists the folder of a file over HTTP while it holds the interpreter's lock.
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

from icehouse_server.demo.cog_host import Objects, create_cog_app
from icehouse_server.demo.control import create_control_app
from icehouse_server.demo.faults import Script
from icehouse_server.demo.harness import TRANSPORT, Harness
from icehouse_server.demo.object_builder import Builder, mosaic_object
from icehouse_server.demo.pgc import OBJECTS_URL
from icehouse_server.demo.stac_api import create_stac_app
from icehouse_server.demo.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    objects = Objects(Builder(folder, mosaic_object))
    control = create_control_app(traffic, script, objects.variants, objects.prepare, [])
    if arguments.server == "cogs":
        app = create_cog_app(objects)
    else:
        app = create_stac_app(cogs_url=arguments.cogs_url, page_size=arguments.page_size)
    return Harness(app, control, traffic, script)


def make_parser(program: str, servers: Sequence[str]) -> argparse.ArgumentParser:
    """The options that every stand-in server takes."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=__doc__)
    parser.add_argument("server", choices=servers)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument(
        "--bandwidth", type=float, default=None, help="bytes a second, shared by all connections"
    )
    parser.add_argument(
        "--folder", type=Path, default=None, help="where built files are kept (object stores)"
    )
    parser.add_argument("--page-size", type=int, default=10, help="items in a page (STAC APIs)")
    parser.add_argument(
        "--cogs-url", default=OBJECTS_URL, help="object store in documents under /open (STAC APIs)"
    )
    parser.add_argument("--until-eof", action="store_true", help="end when standard input closes")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Serve the PGC-like STAC API or its object store until the process is ended."""
    run(create_app, make_parser("icehouse_server.demo", ["stac", "cogs"]).parse_args(words))


def run(make_app: Callable[[argparse.Namespace, Path], ASGIApp], arguments: argparse.Namespace) -> None:
    """Serve an application until the process is ended. Prints one line, the URL, when ready."""
    with tempfile.TemporaryDirectory(prefix="icehouse-standin-") as spare:
        app = make_app(arguments, arguments.folder or Path(spare))
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
