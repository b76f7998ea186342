"""A stand-in for the daemon: a real HTTP server on 127.0.0.1 that answers by the wire contract.

Its encoder is written here a second time on purpose, from the contract and not from the client.
"""

from __future__ import annotations

import io
import json
import struct
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import icehouse


def encode_zip(arrays, attrs=None, *, align=64, compression=zipfile.ZIP_STORED):
    """{name: (dims, array, attrs)} as a ZIP of a Zarr v3 store."""
    entries, consolidated = {}, {}
    for name, (dims, values, array_attrs) in arrays.items():
        data = np.asarray(values)
        meta = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(data.shape),
            "data_type": data.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(data.shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": {"b": False, "c": [0.0, 0.0]}.get(data.dtype.kind, 0),
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "attributes": array_attrs,
            "dimension_names": list(dims),
            "storage_transformers": [],
        }
        consolidated[name] = meta
        entries[f"{name}/zarr.json"] = json.dumps(meta).encode()
        key = "/".join([name, "c", *["0"] * data.ndim])
        entries[key] = data.astype(data.dtype.newbyteorder("<")).tobytes()
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attrs or {},
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": consolidated},
    }
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as archive:
        for name, data in {"zarr.json": json.dumps(group).encode(), **entries}.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            if align and "/c" in name:
                start = sink.tell() + 30 + len(name) + 4
                info.extra = struct.pack("<HH", 0xD935, (-start) % align) + b"\0" * ((-start) % align)
            archive.writestr(info, data)
    return sink.getvalue()


def terrain(box):
    """A value for each pixel that follows from its place alone, so that pieces can be compared."""
    cols, rows = np.meshgrid(np.arange(box.shape[1]) + 0.5, np.arange(box.shape[0]) + 0.5)
    a, b, c, d, e, f = tuple(box.affine)[:6]
    x, y = a * cols + b * rows + c, d * cols + e * rows + f
    return (x + 2 * y).astype("float32")


def answer_arrays(box, bands=("dem",), times=None):
    """What a daemon sends for a geobox: bands, coordinates by odc-geo, spatial_ref."""
    coords = xr_coords(box)
    ydim, xdim = box.dimensions
    lead = () if times is None else ("time",)
    values = terrain(box)
    if times is not None:
        values = np.stack([values + step for step in range(len(times))])
    attrs = {"long_name": "height", "units": "m", "nodata": -9999.0, "grid_mapping": "spatial_ref"}
    arrays = {band: ((*lead, ydim, xdim), values, {**attrs, "_FillValue": "AADAAMY8HMY="}) for band in bands}
    if times is not None:
        arrays["time"] = (
            ("time",),
            np.array(times),
            {"units": "days since 1970-01-01", "calendar": "standard"},
        )
    for name in (ydim, xdim, "spatial_ref"):
        arrays[name] = (coords[name].dims, coords[name].values, dict(coords[name].attrs))
    return arrays


def box_of(body):
    crs = body.get("proj:code") or body["proj:wkt2"]
    return GeoBox(tuple(body["proj:shape"]), Affine(*body["proj:transform"]), crs)


def problem(kind, status, **more):
    """A scripted answer: an error of the daemon."""
    body = {
        "type": "about:blank",
        "title": "Title",
        "status": status,
        "detail": "detail",
        "kind": kind,
        **more,
    }
    return lambda _handler: (status, {"Content-Type": "application/problem+json"}, json.dumps(body).encode())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def setup(self):
        super().setup()
        self.server.live.append(self.connection)
        self.server.connections += 1

    def do_GET(self):
        self.serve(None)

    def do_DELETE(self):
        self.serve(None)

    def do_POST(self):
        self.serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def serve(self, body):
        self.body = body
        self.server.requests.append(
            SimpleNamespace(method=self.command, path=self.path, headers=dict(self.headers), body=body)
        )
        script = self.server.script
        reply = (script.pop(0) if script else self.server.default)(self)
        if reply is None:  # the step wrote to the socket itself
            self.close_connection = True
            return
        status, headers, data = reply
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Daemon(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.live, self.connections = [], [], [], 0
        self.times, self.align = None, 64
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, _request, _address):
        pass  # clients that hang up are what some tests are about

    def coverage(self, body):
        bands = body.get("bands") or ["dem"]
        arrays = answer_arrays(box_of(body), bands, self.times)
        return encode_zip(arrays, {"title": "Synthetic"}, align=self.align)

    def default(self, handler):
        path, body = handler.path, handler.body
        if path == "/collections":
            return self.json({"collections": [{"id": "dem"}]})
        if path == "/readyz":
            return 503, {"Content-Type": "application/json"}, b'{"status": "disk full"}'
        if path.endswith("/coverage"):
            headers = {"Content-Type": "application/vnd.zarr; version=3", "Cache-Status": "icehouse; hit"}
            return 200, headers, self.coverage(body)
        if path.endswith("/plan"):
            chunks = {"needed": 4, "present": 1, "absent": 2, "void": 1}
            window = {"row": 1, "col": 2, "height": 3, "width": 4}
            plan = {
                "collection": "dem",
                "snapshot": "S",
                "bands": ["dem"],
                "window": window,
                "chunks": chunks,
            }
            return self.json(
                plan | {"estimated_source_bytes": 9, "output_bytes": 8, "aligned": True, "new": 1}
            )
        if "/point?" in path:
            return self.json(
                {"coordinates": [1.0, 2.0], "crs": "EPSG:3413", "values": {"dem": 3.5, "m": None}}
            )
        return self.json({"id": path.split("/")[-1], "type": "Collection"})

    @staticmethod
    def json(document):
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()

    def hang_up(self):
        """Close all kept connections, as a daemon does when one was idle for long."""
        for connection in self.live:
            try:
                connection.shutdown(2)
            except OSError:
                continue


@pytest.fixture
def daemon():
    server = Daemon()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.hang_up()
    server.server_close()
    thread.join()


@pytest.fixture
def client(daemon):
    with icehouse.Client(daemon.url, "dem", timeout=20) as made:
        yield made


@pytest.fixture
def box():
    return GeoBox((6, 5), Affine(32, 0, -1600, 0, -32, 3200), "EPSG:3413")


@pytest.fixture
def double():
    """The encoder's parts, for tests that break answers on purpose."""
    return SimpleNamespace(
        encode_zip=encode_zip, answer_arrays=answer_arrays, terrain=terrain, problem=problem, box_of=box_of
    )
