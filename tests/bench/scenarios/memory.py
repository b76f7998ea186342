"""Resident memory while large answers are made, against the limits that are set."""

from __future__ import annotations

import contextlib
import http.client
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from harness import places
from harness.measure import Check, Figure, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.bench import Bench

    from icehouse_server.testing.daemon import DaemonProcess

_MIB = 2**20
_SIDE = 8192
_ANSWERS, _DECODED = 1024 * _MIB, 256 * _MIB
_MIXES: dict[str, Sequence[str]] = {
    "4 GeoTIFFs": ("geotiff",) * 4,
    "every format": ("geotiff", "png", "netcdf", "zarr", "npy", "png", "geotiff", "netcdf"),
}
_CGROUPS = Path("/sys/fs/cgroup/memory")


def answers(bench: Bench) -> list[Result]:
    """Answers of 64 Mpixel at once: a square of terrain, resampled."""
    results = []
    for name, formats in _MIXES.items():
        idle, peak, statuses = _measure(bench, formats)
        bound = 1.2 * (idle + _ANSWERS + _DECODED)
        results.append(_result(name, idle, peak, bound, statuses))
    if os.access(_CGROUPS, os.W_OK) and (_CGROUPS / "memory.limit_in_bytes").exists():
        results.append(_limited(bench))
    return results


def _result(name: str, idle: int, peak: int, bound: float, statuses: Sequence[int]) -> Result:
    return Result(
        what=f"resident memory, {name} of {_SIDE} x {_SIDE} float32 at once",
        figures=[
            Figure(name="highest", values=(peak / _MIB,), unit="MiB"),
            Figure(name="idle", values=(idle / _MIB,), unit="MiB"),
        ],
        checks=[
            Check(
                target="1.2 x idle + decoded_cache_bytes + max_answer_bytes",
                value=peak / _MIB,
                bound=bound / _MIB,
                unit="MiB",
            ),
            Check(
                target="answers that are neither whole nor busy",
                value=sum(status not in {200, 503} for status in statuses),
                bound=0,
                unit="answers",
            ),
        ],
        notes=[f"statuses {sorted(statuses)}; decoded_cache_bytes 256 MiB, max_answer_bytes 1 GiB"],
    )


def _measure(bench: Bench, formats: Sequence[str]) -> tuple[int, int, list[int]]:
    """Return the daemon's resident bytes, idle and at most, and the statuses of the answers."""
    settings = {
        "ICEHOUSE_MAX_ANSWER_BYTES": str(_ANSWERS),
        "ICEHOUSE_DECODED_CACHE_BYTES": str(_DECODED),
    }
    with bench.daemon(bench.warm_cache, **settings) as running:
        idle = _resident(running, "VmRSS")
        statuses = _ask(bench, running, formats)
        return idle, _resident(running, "VmHWM"), statuses


def _limited(bench: Bench) -> Result:
    """The same with nothing set, in a control group of 1 GiB, page cache included."""
    limit = 1024 * _MIB
    with _cgroup(limit) as group, bench.daemon(bench.warm_cache) as running:
        (group / "cgroup.procs").write_text(str(running.process.pid), encoding="utf-8")
        statuses = _ask(bench, running, _MIXES["every format"])
        alive = running.process.poll() is None
        peak = _resident(running, "VmHWM") if alive else 0
    return Result(
        what="every format at once, in a control group of 1 GiB",
        figures=[Figure(name="highest", values=(peak / _MIB,), unit="MiB")],
        checks=[
            Check(target="the daemon lives", value=float(alive), bound=1, at_least=True, unit=""),
            Check(
                target="answers that are neither whole, busy nor too large",
                value=sum(status not in {200, 413, 503} for status in statuses),
                bound=0,
                unit="answers",
            ),
        ],
        notes=[f"statuses {sorted(statuses)}"],
    )


@contextlib.contextmanager
def _cgroup(limit: int) -> Iterator[Path]:
    group = _CGROUPS / f"icehouse-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit), encoding="utf-8")
        yield group
    finally:
        group.rmdir()


def _ask(bench: Bench, running: DaemonProcess, formats: Sequence[str]) -> list[int]:
    edges = ",".join(str(edge) for edge in places.bounds(places.LARGE))
    base = (
        f"/collections/{bench.collection()}/coverage?bbox={edges}&bbox-crs=EPSG:3413&properties=dem"
        f"&width={_SIDE}&height={_SIDE}&f="
    )

    def one(name: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=600)
        with contextlib.closing(connection):
            try:
                connection.request("GET", base + name)
                answer = connection.getresponse()
                while answer.read(_MIB):
                    pass
            except OSError:
                return 0
            return answer.status

    with ThreadPoolExecutor(len(formats)) as pool:
        return list(pool.map(one, formats))


def _resident(running: DaemonProcess, name: str) -> int:
    lines = Path(f"/proc/{running.process.pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
