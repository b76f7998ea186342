"""Runs one of the tests' own stand-in servers: `python -m support.serve earth-stac|earth-cogs|ee`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icehouse_server.demo.cog_host import Objects
from icehouse_server.demo.control import create_control_app
from icehouse_server.demo.faults import Script
from icehouse_server.demo.harness import Harness
from icehouse_server.demo.object_builder import Builder
from icehouse_server.demo.serve import make_parser, run
from icehouse_server.demo.traffic import Traffic
from support.earth_search.api import Signing, create_earth_app
from support.earth_search.files import earth_object
from support.earth_search.signing import Clock
from support.earth_search.store import create_earth_store, signing_routes
from support.earthengine.service import create_earth_engine

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from starlette.types import ASGIApp


def create_app(arguments: argparse.Namespace, folder: Path) -> ASGIApp:
    """The server that the arguments ask for, with its harness."""
    traffic, script = Traffic(latency=arguments.latency, bandwidth=arguments.bandwidth), Script()
    if arguments.server == "ee":
        return create_earth_engine(traffic, script)
    objects = Objects(Builder(folder, earth_object))
    rule = Signing(clock=Clock(), lifetime=arguments.lifetime)
    control = create_control_app(traffic, script, objects.variants, objects.prepare, signing_routes(rule))
    if arguments.server == "earth-cogs":
        app = create_earth_store(objects, rule.clock)
    else:
        app = create_earth_app(cogs_url=arguments.cogs_url, page_size=arguments.page_size, signing_rule=rule)
    return Harness(app, control, traffic, script)


def main() -> None:
    """Serve until the process is ended."""
    parser = make_parser("support.serve", ["earth-stac", "earth-cogs", "ee"])
    parser.add_argument(
        "--lifetime", type=int, default=3600, help="seconds that signed links hold (earth-stac)"
    )
    run(create_app, parser.parse_args())


if __name__ == "__main__":
    main()
