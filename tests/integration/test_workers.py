"""Many workers, one daemon: processes by every start method, Ray, forks, threads."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import icehouse

HERE = Path(__file__).parent
START_METHODS = ("fork",) * 11 + ("spawn",) * 11 + ("forkserver",) * 10

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))  # children get it with the rest of sys.path
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # no pytest in each child
    return importlib.import_module("integration_workers")


def own_geobox(geobox):
    """The same as the client's own class: children need no odc-geo."""
    return icehouse.GeoBox(crs="EPSG:3413", transform=tuple(geobox.affine)[:6], shape=tuple(geobox.shape))


def run_at_once(workers, client, geobox, bands):
    """Have 32 processes load one region at the same moment; {pid: what came}."""
    own = own_geobox(geobox)
    spawning = multiprocessing.get_context("spawn")  # its primitives serve children of every kind
    gate, results = spawning.Barrier(len(START_METHODS)), spawning.SimpleQueue()
    processes = [
        multiprocessing.get_context(method).Process(
            target=workers.load_at_once, args=(client, own, bands, gate, results), daemon=True
        )
        for method in START_METHODS
    ]
    for process in processes:
        process.start()
    found = dict(results.get() for _ in processes)
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    results.close()
    return found


@pytest.mark.slow
@forks
def test_32_processes_on_one_cold_region_fetch_each_byte_once(daemon, fresh_standins, workers, chunk_window):
    geobox, bands = chunk_window(-1, -1, 2, 3), ["dem", "count"]
    client = daemon().client()
    client.status()  # forked children inherit a connection that is in use
    found = run_at_once(workers, client, geobox, bands)
    objects, documents = fresh_standins.cogs_counters(), fresh_standins.stac_counters()
    assert len(found) == len(START_METHODS)
    assert set(found.values()) == {workers.digest(client.load(geobox, bands=bands))}
    assert objects.ranges
    for path, ranges in objects.ranges.items():
        assert len(ranges) == len(set(ranges)), path
    asked = {path: count for (_, path), (count, _) in documents.by_path.items() if "/items/" in path}
    assert asked
    assert set(asked.values()) == {1}


@pytest.mark.slow
def test_240_distinct_patches_by_8_processes_are_all_kept(daemon, workers, chunk_window, truth):
    """Each patch is one band of one chunk, so 240 chunks come to one writer while 8 processes ask."""
    client, context = daemon().client(), multiprocessing.get_context("spawn")
    gate, results = context.Barrier(8), context.SimpleQueue()
    patches = [
        (chunk_window(row, col), band)
        for row in range(-5, 5)
        for col in range(-6, 6)
        for band in ("dem", "count")
    ]
    shares = [patches[start::8] for start in range(8)]
    for number, share in enumerate(shares):
        wanted = [(own_geobox(box), band) for box, band in share]
        context.Process(
            target=workers.load_each, args=(client, wanted, gate, results, number), daemon=True
        ).start()
    found = dict(results.get() for _ in shares)
    results.close()
    for number, share in enumerate(shares):
        assert isinstance(found[number], list), found[number]
        for (box, band), pixels in zip(share, found[number], strict=True):
            assert pixels == truth("32m", box, band).tobytes()
    whole = chunk_window(-5, -6, 10, 12)
    plan = client.plan(own_geobox(whole), bands=["dem", "count"])
    assert (plan.chunks.present, plan.chunks.absent) == (240, 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ray's processes are started as on Linux")
def test_16_ray_tasks_load_overlapping_regions_with_one_client(shared, launcher, native, truth, tmp_path):
    pixels = tmp_path / "pixels.npz"
    boxes = [
        native("32m", -745_000 + 4_000 * (n % 4), 2_660_000 - 4_000 * (n // 4), (300, 280)) for n in range(16)
    ]
    windows = json.dumps([[tuple(box.affine)[:6], tuple(box.shape)] for box in boxes])
    quiet = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    run = subprocess.run(
        [sys.executable, str(HERE / "ray_script.py"), shared.url, windows, str(pixels)],
        env={**launcher.environment(), **quiet, "RAY_TMPDIR": "/tmp"},  # socket paths must be short
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    with np.load(pixels) as found:
        assert os.getpid() not in found["pids"]
        for number, box in enumerate(boxes):
            np.testing.assert_array_equal(found[f"pixels_{number}"], truth("32m", box))
            assert found["x"][number] == box.coordinates["x"].values[0]


@forks
def test_a_forked_child_loads_and_its_parent_goes_on(shared, chunk_window, truth):
    geobox = chunk_window(0, 0)
    client, expected = shared.client(), truth("32m", geobox)
    assert (client.load(geobox).dem.values == expected).all()
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(0 if (client.load(geobox, timeout=60).dem.values == expected).all() else 1)
            finally:
                os._exit(2)
        children.append(pid)
        assert (client.load(geobox).dem.values == expected).all()
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4


def test_32_threads_share_one_client(shared, chunk_window, truth):
    boxes = [chunk_window(row, column) for row in (-1, 0, 1) for column in (-1, 0)]
    expected = [truth("32m", box) for box in boxes]
    client, gate = shared.client(), threading.Barrier(32)

    def load(number):
        gate.wait(60)
        return client.load(boxes[number % 6]).dem.values

    with ThreadPoolExecutor(32) as pool:
        for number, values in enumerate(pool.map(load, range(32))):
            np.testing.assert_array_equal(values, expected[number % 6])


def test_a_small_load_ends_while_six_large_ones_stream(shared, native, truth):
    large = native("32m", -790_000, 2_690_000, (2800, 2800))
    small = native("32m", -1_453_000, 1_453_000, (64, 64))
    client = shared.client()
    expected = client.load(large).dem.values
    done, begun = threading.Event(), threading.Barrier(7)

    def stream(_):
        begun.wait(60)
        loads = 0
        while loads == 0 or not done.is_set():
            assert (client.load(large).dem.values == expected).all()
            loads += 1
        return loads

    with ThreadPoolExecutor(6) as pool:
        streams = pool.map(stream, range(6))
        begun.wait(60)
        try:
            found = client.load(small, timeout=60).dem.values
        finally:
            done.set()
        assert sum(streams) >= 6
    np.testing.assert_array_equal(found, truth("32m", small))
    np.testing.assert_array_equal(expected[:200, :200], truth("32m", large[:200, :200]))
