import subprocess
import sys

import pytest

from icehouse_server.api.parameters.formats import COVERAGES
from icehouse_server.core.errors import NotAcceptableError
from icehouse_server.output import FORMATS, Encoded, encode, negotiate
from support.coverages import GEOBOXES, joined, make_band, make_coverage


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, "netcdf"),
        ("", "netcdf"),
        ("*/*", "netcdf"),
        ("application/*", "netcdf"),
        ("image/*", "geotiff"),
        ("image/tiff", "geotiff"),
        ("IMAGE/TIFF; Application=GeoTIFF", "geotiff"),
        ("image/tiff; application=geotiff; profile=cloud-optimized", "geotiff"),
        ("application/zip", "zarr"),
        ("application/vnd.zarr", "zarr"),
        ("application/vnd.zarr; version=3", "zarr"),
        ("application/netcdf", "netcdf"),
        ("application/x-netcdf", "netcdf"),
        ("application/x-npy", "npy"),
        ("image/png", "png"),
        ("application/json", "json"),
        ("application/prs.coverage+json", "json"),
        ("text/html, application/json;q=0.9, */*;q=0.1", "json"),
        ("image/png;q=0.5, image/tiff;q=0.4", "png"),
        ("image/*;q=0.5, image/png", "png"),
        ("image/*, image/tiff;q=0", "png"),
        ("*/*;q=0.1, application/x-netcdf;q=0", "geotiff"),
        ("text/html", None),
        ("image/tiff;q=0", None),
        ("image/tiff;q=nonsense", None),
        ("image/tiff;q=7", None),
        ("tiff, image/png", "png"),
        ("*/*;q=0", None),
    ],
)
def test_negotiation(accept, wanted):
    assert negotiate(accept, COVERAGES) == wanted


@pytest.mark.parametrize("geobox", GEOBOXES.values(), ids=GEOBOXES)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_every_geobox(name, geobox):
    bands = [make_band("float32", float("nan")), make_band("uint8", 0, "count")]
    encoded = encode(make_coverage(bands, geobox), name)
    assert isinstance(encoded, Encoded)
    assert encoded.media_type == FORMATS[name].media_type
    assert encoded.suffix == FORMATS[name].suffix
    assert joined(encoded)


def test_the_registry():
    assert {name: entry.suffix for name, entry in FORMATS.items()} == {
        "netcdf": ".nc",
        "geotiff": ".tif",
        "zarr": ".zarr.zip",
        "npy": ".npy",
        "png": ".png",
        "json": ".json",
    }
    types = [media_type for entry in FORMATS.values() for media_type in entry.accepted]
    assert len(types) == len(set(types))


def test_an_unknown_format_is_refused_by_name():
    with pytest.raises(NotAcceptableError, match="'gif'"):
        encode(make_coverage([make_band("uint8", 0)]), "gif")


def test_the_package_does_not_know_the_web():
    code = "import sys, icehouse_server.output; print({'fastapi', 'httpx', 'icechunk'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
