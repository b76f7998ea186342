"""Loading: the grid asked for comes back, with the daemon's pixels, through every door of the API."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import ODCExtensionDa  # noqa: F401 - registers .odc

import icehouse

# odc-geo 0.5 multiplies affines in a way that affine 3 is going to retire.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

BOXES = {
    "polar": GeoBox((6, 5), Affine(32, 0, -1600, 0, -32, 3200), "EPSG:3413"),
    "degrees": GeoBox((7, 4), Affine(0.1, 0, 10.3, 0, -0.1, 20.7), "EPSG:4326"),
    "rotated": GeoBox((6, 5), Affine.rotation(20) @ Affine(32, 0, 100, 0, -32, 200), "EPSG:3413"),
    "pixel": GeoBox((1, 1), Affine(0.1, 0, 1 / 3, 0, -0.1, 2 / 3), "EPSG:32633"),
    "south-up": GeoBox((3, 2), Affine(10, 0, 5, 0, 10, 7), "EPSG:3857"),
    "thirds": GeoBox((9, 8), Affine(1 / 3, 0, 1 / 7, 0, -1 / 3, 1 / 11), "EPSG:4326"),
}
each_box = pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())


@each_box
def test_the_geobox_asked_for_is_the_one_returned(client, double, box):
    ds = client.load(box)
    assert ds.odc.geobox == box
    assert ds.dem.odc.geobox == box
    np.testing.assert_array_equal(ds.dem.values, double.terrain(box))
    assert ds.dem.dtype == np.float32
    assert ds.dem.attrs == {"long_name": "height", "units": "m", "nodata": -9999.0}
    assert ds.dem.odc.nodata == ds.dem.rio.nodata == -9999.0
    assert ds.attrs == {"title": "Synthetic"}
    ds.dem.values[0, 0] = 1  # writable
    if box.axis_aligned:
        assert ds.rio.crs.to_epsg() == box.crs.epsg
        assert ds.rio.transform() == pytest.approx(box.affine)


@each_box
def test_load_like_gives_the_same_grid(client, daemon, box):
    ds = client.load(box)
    for like in (ds, ds.dem, ds.copy(deep=True)):
        assert client.load_like(like).identical(ds)
    assert daemon.requests[-1].body == daemon.requests[0].body


@each_box
def test_load_like_a_part_gives_the_part(client, box):
    ds = client.load(box)
    ydim, xdim = box.dimensions
    if box.shape == (1, 1):
        return
    part = ds.isel({ydim: slice(1, 3), xdim: slice(1, None)})
    again = client.load_like(part)
    assert again.odc.geobox.shape == part.odc.geobox.shape
    assert np.allclose(again.odc.geobox.affine, part.odc.geobox.affine, rtol=0, atol=1e-9)
    np.testing.assert_allclose(again.dem, part.dem, rtol=1e-5)


def test_load_like_takes_every_second_pixel(client, box):
    part = client.load(box).isel(x=slice(None, None, 2), y=slice(None, None, 2))
    assert client.load_like(part).odc.geobox == part.odc.geobox


def test_load_like_without_a_geotransform_or_any_crs(client, box):
    ds = client.load(box)
    del ds.spatial_ref.attrs["GeoTransform"]
    assert client.load_like(ds).odc.geobox == box
    with pytest.raises(icehouse.BadParameter, match="CRS"):
        client.load_like(xr.Dataset(coords={"x": [1.0, 2.0], "y": [1.0, 2.0]}))
    with pytest.raises(icehouse.BadParameter, match="evenly"):
        client.load_like(ds.isel(x=[0, 1, 4]))


@each_box
def test_every_kind_of_geobox_object_is_one(client, daemon, box):
    own = icehouse.GeoBox(crs=str(box.crs), transform=tuple(box.affine)[:6], shape=box.shape)
    expected = client.load(box)
    assert client.load(own).identical(expected)
    if box.axis_aligned:
        client.load(expected.rio)
        sent = daemon.requests[-1].body
        assert sent["proj:shape"] == list(box.shape)
        assert sent["proj:transform"] == pytest.approx(list(box.affine)[:6])


def test_a_crs_without_code_travels_as_wkt(client, daemon):
    crs = "+proj=laea +lat_0=70 +lon_0=-40 +datum=WGS84"
    box = GeoBox((2, 3), Affine(10, 0, 0, 0, -10, 0), crs)
    assert client.load(box).odc.geobox == box
    assert "proj:code" not in daemon.requests[0].body
    # A WKT that names its own code is that code.
    box = GeoBox(
        (2, 3), Affine(10, 0, 0, 0, -10, 0), GeoBox.from_bbox((0, 0, 1, 1), "EPSG:3413", shape=1).crs.wkt
    )
    client.load(box)
    assert daemon.requests[-1].body["proj:code"] == "EPSG:3413"


def test_the_request_is_as_agreed(client, daemon, box):
    client.load(
        box,
        bands=["dem", "error"],
        datetime=("2020-01-01", None),
        resampling={"dem": "cubic"},
        fail_on_error=False,
    )
    request = daemon.requests[0]
    assert (request.method, request.path) == ("POST", "/collections/dem/coverage")
    assert request.headers["Accept"] == "application/vnd.zarr; version=3, application/problem+json"
    assert request.headers["Content-Type"] == "application/json"
    assert "Authorization" not in request.headers
    assert request.body == {
        "proj:code": "EPSG:3413",
        "proj:transform": [32, 0, -1600, 0, -32, 3200],
        "proj:shape": [6, 5],
        "bands": ["dem", "error"],
        "datetime": "2020-01-01/..",
        "resampling": {"dem": "cubic"},
        "fail_on_error": False,
    }
    with icehouse.Client(daemon.url, token="s3cret") as guarded:
        assert "s3cret" not in repr(guarded)
        guarded["dem"].load(box, bands="dem", resampling="nearest")
    assert daemon.requests[-1].headers["Authorization"] == "Bearer s3cret"
    assert daemon.requests[-1].body["bands"] == ["dem"]


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ("2020-01-01", "2020-01-01"),
        (dt.datetime(2020, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))), "2020-01-01T10:00:00Z"),
        (dt.date(2020, 1, 1), "2020-01-01"),
        (np.datetime64("2020-01-01"), "2020-01-01T00:00:00.000000Z"),
        (slice("2020", "2021"), "2020/2021"),
        (slice(None, dt.date(2021, 1, 1)), "../2021-01-01"),
        (("2020-01-01", None), "2020-01-01/.."),
        (["2019", "2021"], "2019,2021"),
        ([slice("2019", None), dt.date(2015, 1, 1)], "2019/..,2015-01-01"),
        (np.array(["2019-01-01"], "datetime64[ns]"), "2019-01-01T00:00:00.000000Z"),
        (["2020-01-01"], "2020-01-01"),
    ],
)
def test_times_are_encoded(client, daemon, box, when, text):
    client.load(box, datetime=when)
    assert daemon.requests[0].body["datetime"] == text


def test_wrong_arguments_are_named_without_a_request(client, daemon, box):
    wrong = [
        {"bands": []},
        {"datetime": ("a", "b", "c")},
        {"datetime": []},
        {"datetime": ["2019", None]},
        {"datetime": slice(1, 2, 3)},
        {"datetime": 5},
        {"datetime": np.datetime64("NaT", "s")},
        {"like": box},
        {"timeout": 0},
    ]
    for options in wrong:
        with pytest.raises(icehouse.BadParameter):
            client.load(box, **options)
    for grid in (None, 5, xr.Dataset(), "EPSG:3413"):
        with pytest.raises(icehouse.BadParameter):
            client.load(grid)
    with pytest.raises(ValueError, match="shape"):
        icehouse.GeoBox(crs="EPSG:3413", transform=(1, 0, 0, 0, -1, 0), shape=(0, 1))
    with pytest.raises(ValueError, match="transform"):
        icehouse.GeoBox(crs="EPSG:3413", transform=(0, 0, 0, 0, -1, 0), shape=(1, 1))
    with pytest.raises(ValueError, match="crs"):
        icehouse.GeoBox(crs="the moon", transform=(1, 0, 0, 0, -1, 0), shape=(1, 1))
    for url in ("127.0.0.1:4326", "ftp://x", "http://user:pw@x", "http://x:99999", "http://x/?q=1"):
        with pytest.raises(icehouse.BadParameter):
            icehouse.Client(url)
    with pytest.raises(icehouse.BadParameter) as caught:
        icehouse.Client(daemon.url, token="s3cret\r\nX: y")
    assert "s3cret" not in str(caught.value)
    assert daemon.requests == []


def test_time_axis(client, daemon, box, double):
    daemon.times = [0, 366]
    ds = client.load(box)
    assert ds.dem.dims == ("time", "y", "x")
    assert ds.time.values.astype("datetime64[D]").tolist() == [dt.date(1970, 1, 1), dt.date(1971, 1, 2)]
    np.testing.assert_array_equal(ds.dem[1], double.terrain(box) + 1)
    assert ds.odc.geobox == box


def test_chunks_load_piece_by_piece(client, daemon, box):
    eager = client.load(box, bands=["dem", "error"])
    daemon.requests.clear()
    lazy = client.load(box, bands=["dem", "error"], chunks={"y": 4, "x": 3})
    assert len(daemon.requests) == 1
    assert lazy.dem.chunks == ((4, 2), (3, 2))
    assert lazy.odc.geobox == box
    for name in ("y", "x"):
        np.testing.assert_array_equal(lazy[name].values, eager[name].values)
        assert lazy[name].attrs == eager[name].attrs
    np.testing.assert_array_equal(lazy.dem.values, eager.dem.values)
    assert lazy.dem.attrs == eager.dem.attrs
    assert len(daemon.requests) == 1 + 4
    # One piece is one request for that piece.
    daemon.requests.clear()
    np.testing.assert_array_equal(lazy.error[5, 4], eager.error[5, 4])
    assert [request.body["proj:shape"] for request in daemon.requests] == [[2, 2]]
    for wrong in ({"time": 1}, {"x": 0}):
        with pytest.raises(icehouse.BadParameter):
            client.load(box, chunks=wrong)


@each_box
def test_chunks_keep_the_grid(client, daemon, box):
    daemon.times = [3]
    lazy = client.load(box, chunks={})
    assert lazy.odc.geobox == box
    daemon_coords = client.load(box).coords
    for name in box.dimensions:
        np.testing.assert_array_equal(lazy[name], daemon_coords[name])
    assert lazy.compute().dem.equals(client.load(box).dem)


def test_pieces_outside_the_collection_are_nodata(client, daemon, box):
    coverage = daemon.coverage
    outside = (204, {}, b"")

    def default(handler):
        c = handler.body["proj:transform"][2]
        return outside if c < -1550 else (200, {}, coverage(handler.body))

    daemon.default = default
    lazy = client.load(box, chunks={"x": 3})
    assert (lazy.dem.values[:, :3] == -9999).all()
    assert (lazy.dem.values[:, 3:] != -9999).all()
    daemon.default = lambda _handler: outside
    with pytest.raises(icehouse.OutsideCollection):
        client.load(box, chunks={"x": 3})


def test_progress(client, box, capsys):
    seen = []
    client.load(box, progress=seen.append)
    assert [seen[0].phase, seen[1].phase, seen[-1].phase] == ["plan", "receive", "done"]
    assert seen[0].plan.chunks.absent == 2
    assert seen[-1].received == seen[-1].total > 0
    client.load(box, progress=True)
    assert "2 of 4 chunks to fetch" in capsys.readouterr().err


def test_the_rest_of_the_api(daemon, box, monkeypatch):
    monkeypatch.setenv("ICEHOUSE_URL", daemon.url + "/")
    client = icehouse.Client()
    assert client.url == daemon.url
    assert repr(client) == f"icehouse.Client({daemon.url!r})"
    assert client.collections() == list(client) == client.keys() == ["dem"]
    assert "dem" in client
    assert client.status() == {"status": "disk full"}
    handle = client["dem"]
    assert handle.metadata["id"] == "dem"
    plan = handle.plan(box)
    assert (plan.window.height, plan.chunks.void, plan.bands) == (3, 1, ("dem",))
    assert client.plan(box) == client.plan(like=handle.load(box)) == plan
    assert handle.point(-45, 70).values == {"dem": 3.5, "m": None}
    assert client.point(x=1, y=2, crs="EPSG:3413").coordinates == (1.0, 2.0)
    assert daemon.requests[-1].path == "/collections/dem/point?x=1&y=2&crs=EPSG%3A3413"
    with pytest.raises(icehouse.BadParameter):
        client.point(1, x=2)
    assert handle.load_like(handle.load(box)).odc.geobox == box
    client.close()
    client.close()


def test_several_collections_have_to_be_named(daemon, box):
    daemon.script.append(lambda _h: daemon.json({"collections": [{"id": "a"}, {"id": "b"}]}))
    with icehouse.Client(daemon.url) as client, pytest.raises(icehouse.BadParameter, match="a, b"):
        client.load(box)
