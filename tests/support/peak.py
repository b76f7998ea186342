"""What encoding takes at most, measured in a process of its own: ``python -m support.peak`` prints JSON."""

import ctypes
import gc
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from odc.geo.geobox import GeoBox

from icehouse_server.output import FORMATS, IN_MEMORY, Scratch, encode
from support.coverages import POLAR, make_band, make_coverage

SIDES = (300, 2000)
CASES: dict[str, tuple[tuple[str, float | None], ...]] = {
    "float32": (("float32", float("nan")),),
    "three": (("uint8", 0),) * 3,
    "mixed": (("float32", -9999.0), ("uint8", 0), ("int16", -1)),
}
"""Dtype and nodata of bands, by name."""
ON_DISK = ("geotiff", "netcdf")


def resident(name: str) -> int:
    """Return a figure of ``/proc/self/status`` in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def peak(work: Callable[[], object]) -> int:
    """Return by how much the resident memory grew at most during a call."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free must not hide what is taken
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def main() -> None:
    """Print the measured and the planned bytes of every case and format."""
    found: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        disk = Scratch(folder=Path(folder), above=0)
        for (case, kinds), side in itertools.product(CASES.items(), SIDES):
            bands = [make_band(*kind, f"b{index}") for index, kind in enumerate(kinds)]
            small = make_coverage(bands)
            coverage = make_coverage(bands, GeoBox((side, side), POLAR.affine, POLAR.crs))
            for name in FORMATS.keys() - {"json"}:
                for place, scratch in (("memory", IN_MEMORY), ("disk", disk))[: 1 + (name in ON_DISK)]:
                    encode(small, name, scratch)
                    measured = peak(partial(encode, coverage, name, scratch))
                    planned = FORMATS[name].memory(coverage.region, scratch)
                    found[f"{name} {case} {side} {place}"] = measured, planned
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
