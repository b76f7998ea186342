"""A daemon at an IPv6 literal: every way in which the client and others ask it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import httpx
import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from affine import Affine
from obstore.store import HTTPStore
from odc.geo.geobox import GeoBox

import icehouse

BOX = GeoBox((64, 64), Affine(32, 0, -712_064, 0, -32, 2_650_080), "EPSG:3413")
TOKEN = "sixteen-characters-or-more"


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="the machine has no ::1")


@pytest.fixture(scope="module")
def daemon(start_daemon):
    with start_daemon({"ICEHOUSE_HOST": "::1", "ICEHOUSE_TOKEN": TOKEN}) as started:
        assert started.url.startswith("http://[::1]:")
        yield started


@pytest.fixture(scope="module")
def collection(daemon):
    with icehouse.Client(daemon.url, "arcticdem-32m", token=TOKEN) as client:
        yield client["arcticdem-32m"]


def test_the_cube_equals_what_load_gives(collection):
    loaded = collection.load(BOX)
    cube = collection.open_zarr(mask_and_scale=False).sel(x=loaded.x, y=loaded.y)
    np.testing.assert_array_equal(cube.dem, loaded.dem)
    assert collection.open_zarr(level=2, chunks={}).dem.chunks


def test_jobs_go_with_the_token(collection, daemon):
    collection.seed((150, 65, 150.01, 65.01)).wait(timeout=60)
    with icehouse.Client(daemon.url, "arcticdem-32m") as bare, pytest.raises(icehouse.IcehouseError):
        bare.seed((150, 65, 150.01, 65.01))


def test_every_link_of_the_daemon_leads_back_to_it(daemon):
    seen = 0
    for path in ("/", "/collections", "/collections/arcticdem-32m", "/collections/arcticdem-32m/tiles"):
        for link in daemon.http.get(path).json()["links"]:
            if link["rel"] in {"about", "license"}:
                continue
            assert link["href"].startswith(daemon.url), link
            seen += 1
    assert seen > 20
    tilejson = daemon.http.get("/collections/arcticdem-32m/WebMercatorQuad/tilejson.json").json()
    assert tilejson["tiles"][0].startswith(daemon.url)


def test_other_readers_open_what_is_served(daemon):
    store = HTTPStore(
        f"{daemon.url}/collections/arcticdem-32m/cube.zarr", client_options={"allow_http": True}
    )
    group = zarr.open_group(zarr.storage.ObjectStore(store, read_only=True), mode="r")
    assert group["dem"].ndim == 2
    repository = icechunk.Repository.open(
        icechunk.http_storage(f"{daemon.url}/collections/arcticdem-32m/icechunk")
    )
    session = repository.readonly_session("main")
    assert "dem" in xr.open_zarr(session.store, consolidated=False, chunks=None)


def test_the_command_line_asks_it(daemon):
    said = subprocess.run(
        [sys.executable, "-m", "icehouse_server", "status"],
        env={**os.environ, "ICEHOUSE_URL": daemon.url, "ICEHOUSE_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith("ready")


@pytest.mark.parametrize(("host", "status"), [("[::1]", 200), ("[0:0:0:0:0:0:0:1]", 421), ("[::2]", 421)])
def test_it_answers_to_its_name(daemon, host, status):
    answer = httpx.get(f"http://[::1]:{daemon.port}/readyz", headers={"Host": f"{host}:{daemon.port}"})
    assert answer.status_code == status
