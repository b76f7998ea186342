"""Answers that are not a plain copy: reprojected, as GeoTIFF."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness import places
from harness.bench import Bench, alternately, same
from harness.environments import python_of
from harness.measure import Figure, Result, faster
from harness.processes import Worker, server

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = 3


def reprojected(bench: Bench) -> list[Result]:
    place, number = places.GEOGRAPHIC, bench.n(24, 6)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(bench.daemon(bench.warm_cache))
        workers = {
            "Icehouse": stack.enter_context(bench.client(running)),
            "odc-stac, local files": stack.enter_context(
                bench.odc("32m", places.TILES_32M, place, local=True)
            ),
        }
        means = [worker.ask(do="load", places=[place] * 2)["mean"] for worker in workers.values()]
        if not same(*means):
            raise AssertionError(f"the two sides loaded different pixels: {means}")
        found = alternately(_ROUNDS, _loads(workers, place, number))
    ours, odc = (Figure.of_seconds(name, found[name]) for name in workers)
    return [
        Result(
            what="reprojected warm load, EPSG:4326, 1000 x 1000, bilinear",
            figures=[ours, odc],
            checks=[faster("5 x faster than odc-stac on local files", ours, odc, 5)],
        )
    ]


def geotiff(bench: Bench) -> list[Result]:
    """The same square as GeoTIFF over HTTP: from the cache, and by titiler from the local COG."""
    place, number = places.SMALL, bench.n(24, 6)
    edges = ",".join(str(edge) for edge in places.bounds(place))
    collection, path = bench.collection(), bench.file("32m", "67_33")
    rows, columns = place["shape"]
    urls = {
        "Icehouse": f"/collections/{collection}/coverage.tif?bbox={edges}&bbox-crs=EPSG:3413&properties=dem",
        "titiler": (
            f"/cog/bbox/{edges}/{columns}x{rows}.tif?url={path}"
            "&coord_crs=epsg:3413&dst_crs=epsg:3413&resampling=nearest"
        ),
    }
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(bench.daemon(bench.warm_cache))
        titiler = stack.enter_context(server("titiler_app", python=python_of("titiler")))
        ports = {"Icehouse": running.port, "titiler": titiler}
        workers = {
            name: stack.enter_context(Worker.start("load_http", {"port": port}))
            for name, port in ports.items()
        }
        sizes = {
            name: worker.ask(do="load", places=[urls[name]] * 2)["shape"][0]
            for name, worker in workers.items()
        }
        sides = {name: _loads({name: worker}, urls[name], number)[name] for name, worker in workers.items()}
        found = alternately(_ROUNDS, sides)
    ours, theirs = (Figure.of_seconds(name, found[name]) for name in workers)
    volumes = [
        Figure(name=f"{name}, bytes of the file", values=(size / 1e6,), unit="MB")
        for name, size in sizes.items()
    ]
    return [
        Result(
            what="warm GeoTIFF clip 1000 x 1000 over HTTP",
            figures=[ours, theirs, *volumes],
            checks=[faster("5 x faster than titiler on the local COG", ours, theirs, 5)],
        )
    ]


def _loads(workers: dict[str, Worker], place: object, number: int) -> dict[str, Callable[[], list[float]]]:
    each = [place] * (number // _ROUNDS)
    return {
        name: lambda worker=worker: worker.loads(each)  # type: ignore[misc]
        for name, worker in workers.items()
    }
