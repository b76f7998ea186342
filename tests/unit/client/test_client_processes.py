"""Threads, forks and pickles: a client goes wherever a worker goes."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from odc.geo.xr import ODCExtensionDa  # noqa: F401 - registers .odc

import icehouse

# odc-geo 0.5 multiplies affines in a way that affine 3 is going to retire.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_one_connection_serves_one_thread(client, daemon, box):
    for _ in range(5):
        client.load(box)
    assert daemon.connections == 1


def test_threads(client, daemon, box, double):
    expected = double.terrain(box)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.load(box).dem.values, range(80)))
    assert all((values == expected).all() for values in found)
    assert daemon.connections <= 8


def test_a_kept_connection_that_the_daemon_closed_is_replaced(client, daemon, box):
    client.load(box)
    daemon.hang_up()
    client.load(box)
    assert len(daemon.requests) == 2


def test_connection_closed_during_a_request_is_replaced_once(client, daemon, box):
    client.load(box)
    daemon.script.append(lambda _h: None)  # closes without a byte
    client.load(box)
    assert len(daemon.requests) == 3


def test_a_client_may_be_used_after_close(client, box):
    client.load(box)
    client.close()
    assert client.load(box).odc.geobox == box


def test_pickles(client, daemon, box):
    client.load(box)
    for thing in (client, client["dem"]):
        again = pickle.loads(pickle.dumps(thing))
        assert again.load(box).odc.geobox == box
        assert repr(again) == repr(thing)
    plan = client.plan(box)
    own = icehouse.GeoBox(crs="EPSG:3413", transform=(1, 0, 0, 0, -1, 0), shape=(1, 1))
    for value in (plan, client.point(1, 2), own):
        assert pickle.loads(pickle.dumps(value)) == value
    assert daemon.connections == 3


@forks
def test_a_forked_child_leaves_its_parents_connections_alone(client, daemon, box):
    client.load(box)
    parent_connection = client._session._transport._idle[os.getpid()][0].sock
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for _ in range(3):
                assert client.load(box).odc.geobox == box
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert daemon.connections == 2
    assert client.load(box).odc.geobox == box
    assert client._session._transport._idle[os.getpid()][0].sock is parent_connection
    assert daemon.connections == 2


@forks
def test_fork_while_other_threads_are_loading(client, box):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            client.load(box)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                try:
                    os._exit(0 if client.load(box, timeout=10).odc.geobox == box else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@forks
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(client, box, double, method):
    client.load(box)
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = [pool.apply_async(client["dem"].load, (box,)) for _ in range(4)]
        for result in found:
            assert (result.get(60).dem.values == double.terrain(box)).all()
        broken = pool.apply_async(client["dem"].load, (box,), {"timeout": -1})
        with pytest.raises(icehouse.BadParameter):
            broken.get(60)


HEAVY = ["zarr", "icechunk", "rasterio", "odc", "dask", "pydantic", "httpx"]
COST = """
import json, sys, time
start = time.perf_counter()
import icehouse
spent = time.perf_counter() - start
first = sorted(sys.modules)
client = icehouse.Client(sys.argv[1], "dem")
assert "numpy" not in sys.modules and "http.client" not in sys.modules
box = icehouse.GeoBox(crs="EPSG:3413", transform=(32, 0, 0, 0, -32, 0), shape=(1000, 1000))
assert client.load(box).dem.values.shape == (1000, 1000)
# Not ru_maxrss: that survives exec, and would count the test runner.
peak = [int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(json.dumps([spent, first, sorted(sys.modules), peak]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_cost_of_importing_and_of_a_first_load(daemon):
    import json

    run = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", COST, daemon.url],
        check=True,
        capture_output=True,
        timeout=100,
    )
    spent, at_import, at_load, peak = json.loads(run.stdout)
    for heavy in HEAVY:
        assert heavy not in at_import
        assert heavy not in at_load
    assert not {"numpy", "xarray", "asyncio", "http.client"} & set(at_import)
    assert spent < 0.5  # 0.05 on an idle machine
    assert peak < 150


def test_version():
    # A release, or a commit after one: 0.1.0, 0.1.1.dev5.
    assert re.fullmatch(r"\d+(\.\d+){1,2}(\.dev\d+)?", icehouse.__version__)
    assert icehouse.__version__ == importlib.metadata.version("icehouse")
    with pytest.raises(AttributeError):
        icehouse.nothing  # noqa: B018
