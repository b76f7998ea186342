"""Nothing that comes from a source sends the daemon to a host that was not named: documents, links,
redirects.

The victim is a server on the loopback that writes down who asks it: no request may arrive.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from icehouse_server.core.errors import ConfigurationError, SourceError, SourceRefusedError
from icehouse_server.sources import create_source
from support import scene as made
from support import source_rig as rig
from support.origin import Origin, Reply

SECRET = "s3cr3t"


@pytest.fixture
def scene():
    with made.Scene.start() as running:
        yield running


@pytest.fixture
def victim():
    with Origin.start() as running:
        running.say("/1_1.tif", made.true_file("1_1"))
        running.say("/", b"metadata of the cloud")
        yield running


async def read(scene, window=made.LEFT, *, spec=None, context=None):
    """What one read gives: pixels that are the truth, or the error."""
    spec = spec or scene.spec
    source = create_source(spec, context or scene.context)
    try:
        async with asyncio.timeout(20):
            block = await source.read(rig.request_for(spec, window))
    except SourceError as error:
        return error
    finally:
        await source.close()
    band = block.bands["b"]
    true = made.truth(window, {item: made.pixels_of(item) for item in made.ITEMS})
    np.testing.assert_array_equal(np.where(band.valid, band.values, made.NODATA), true)
    return None


def refused(error, *, item="1_1"):
    assert type(error) is SourceRefusedError, repr(error)
    assert error.item == item
    reported = f"{error} {error.hint} {error.href}"
    assert SECRET not in reported, reported
    assert "metadata of the cloud" not in reported
    return True


HREFS = {
    "another port": "http://127.0.0.1:{port}/1_1.tif",
    "a query with a secret": "http://127.0.0.1:{port}/1_1.tif?sig=s3cr3t",
    "a name that resolves to the loopback": "http://localhost:{port}/1_1.tif",
    "decimal": "http://2130706433:{port}/1_1.tif",
    "hexadecimal": "http://0x7f000001:{port}/1_1.tif",
    "octal": "http://0177.0.0.1:{port}/1_1.tif",
    "short": "http://127.1:{port}/1_1.tif",
    "any address": "http://0.0.0.0:{port}/1_1.tif",
    "IPv6": "http://[::1]:{port}/1_1.tif",
    "v4 in v6": "http://[::ffff:127.0.0.1]:{port}/1_1.tif",
    "v4 in v6, hexadecimal": "http://[::ffff:7f00:1]:{port}/1_1.tif",
    "IPv6 with a zone": "http://[fe80::1%25lo]:{port}/1_1.tif",
    "metadata of a cloud": "http://169.254.169.254/latest/meta-data?x=s3cr3t",
    "private": "http://10.0.0.1/1_1.tif",
    "no port": "http://127.0.0.1/1_1.tif",
    "credentials": "http://user:s3cr3t@127.0.0.1:{port}/1_1.tif",
    "credentials at the right host": "http://user:s3cr3t@{own}/1_1.tif",
    "the right host as a user": "http://{own}@127.0.0.1:{port}/1_1.tif",
    "a backslash": "http://127.0.0.1:{port}\\@{own}/1_1.tif",
    "a tab": "http://127.0.0.1:{port}\t/1_1.tif",
    "a line break": "http://{own}/1_1.tif\r\nHost: 127.0.0.1:{port}",
    "wide letters": "http://\uff11\uff12\uff17.0.0.1:{port}/1_1.tif",
    "a dot at the end": "http://127.0.0.1.:{port}/1_1.tif",
    "the right host in front": "http://{own}.nip.io:{port}/1_1.tif",
    "a file": "file:///etc/passwd",
    "a path of this machine": "file://127.0.0.1:{port}/1_1.tif",
    "ftp": "ftp://127.0.0.1:{port}/1_1.tif",
    "gopher": "gopher://127.0.0.1:{port}/_GET",
    "s3": "s3://bucket/1_1.tif",
    "data": "data:image/tiff;base64,SUkqAA==",
    "GDAL's own": "/vsicurl/http://127.0.0.1:{port}/1_1.tif",
    "half an address": "http://[::1:{port}/1_1.tif",
    "a port that is none": "http://127.0.0.1:99999/1_1.tif",
    "an empty one": "http://",
    "out of the folder": "{base}/data/../1_1.tif",
    "out of the folder, encoded": "{base}/data/%2e%2e/1_1.tif",
    "out of the folder, encoded twice": "{base}/data/%252e%252e%252f1_1.tif",
}


@pytest.mark.parametrize("href", HREFS.values(), ids=HREFS.keys())
async def test_an_href_leads_nowhere_else(scene, victim, href):
    port = victim.host.rpartition(":")[2]
    document = scene.document("1_1")
    href = href.replace("{port}", port).replace("{own}", scene.origin.host)
    href = href.replace("{base}", scene.origin.url)
    document["assets"]["dem"]["href"] = href
    scene.publish("1_1", document=document)
    error = await read(scene)
    assert refused(error)
    assert victim.asked == []
    # What GDAL would take for a path of its own is an ordinary relative link here: there is no such file.
    assert ("GET", "/1_1.tif") not in scene.origin.asked
    assert await read(scene, made.RIGHT) is None, "the neighbour does not need it"


async def test_the_error_tells_host_and_key(scene, victim):
    document = scene.document("1_1")
    document["assets"]["dem"]["href"] = f"{victim.url}/1_1.tif"
    scene.publish("1_1", document=document)
    error = await read(scene)
    assert victim.host in error.detail
    assert "asset_hosts" in error.hint


async def test_a_named_host_is_asked(scene, victim):
    document = scene.document("1_1")
    document["assets"]["dem"]["href"] = f"{victim.url}/1_1.tif?sig=a%2Bb+c%3D"
    scene.publish("1_1", document=document)
    assert await read(scene, spec=scene.collection(asset_hosts=[victim.host])) is None
    assert victim.asked[0] == ("GET", "/1_1.tif?sig=a%2Bb+c%3D"), "a signed link stays as it is"


async def test_a_mirrored_host_is_asked(scene, victim):
    document = scene.document("1_1")
    document["assets"]["dem"]["href"] = "s3://bucket/data/1_1.tif"
    scene.publish("1_1", document=document)
    context = replace(scene.context, mirrors={"s3://bucket/data/": f"{victim.url}/"})
    assert await read(scene, context=context) is None
    document["assets"]["dem"]["href"] = "s3://bucket/data/../1_1.tif"
    scene.publish("1_1", document=document)
    context = replace(context, documents=rig.MemoryDocuments())
    assert refused(await read(scene, context=context))


@pytest.mark.parametrize("rest", [".evil.example/", ":81/1_1.tif", "@evil.example/", "x/1_1.tif"])
async def test_a_mirror_without_a_slash_ends_where_a_host_ends(scene, victim, rest):
    """Else ``:81/`` of ``https://a.org:81/`` would become a part of the target's host."""
    document = scene.document("1_1")
    document["assets"]["dem"]["href"] = f"https://a.org{rest}"
    scene.publish("1_1", document=document)
    context = replace(scene.context, mirrors={"https://a.org": victim.url})
    assert refused(await read(scene, context=context))
    assert victim.asked == []


LOCATIONS = {
    "another port": "http://127.0.0.1:{port}/1_1.tif?sig=s3cr3t",
    "a name": "http://localhost:{port}/1_1.tif",
    "without a scheme": "//127.0.0.1:{port}/1_1.tif",
    "metadata of a cloud": "http://169.254.169.254/latest?sig=s3cr3t",
    "credentials": "http://user:s3cr3t@{own}/2.tif",
    "a file": "file:///etc/passwd",
    "a backslash": "http://127.0.0.1:{port}\\@{own}/",
    "half an address": "http://[::1/",
    "nothing": "",
    "out of the folder": "/data/../1_1.tif",
}


def redirect_to(scene, victim, location):
    port = victim.host.rpartition(":")[2]
    location = location.replace("{port}", port).replace("{own}", scene.origin.host)
    return Reply(status=307, headers={"Location": location})


@pytest.mark.parametrize("location", LOCATIONS.values(), ids=LOCATIONS.keys())
@pytest.mark.parametrize("when", ["header", "data"])
async def test_a_redirect_of_a_file_leads_nowhere_else(scene, victim, location, when):
    first = scene.origin.replies["/1_1.tif"] if when == "data" else []
    scene.origin.replies["/1_1.tif"] = [*first, redirect_to(scene, victim, location)]
    assert refused(await read(scene))
    assert victim.asked == []
    assert await read(scene, made.RIGHT) is None


@pytest.mark.parametrize("location", list(LOCATIONS.values())[:-3], ids=list(LOCATIONS)[:-3])
async def test_a_redirect_of_the_api_leads_nowhere_else(scene, victim, location):
    scene.origin.say(made.item_path("1_1"), redirect_to(scene, victim, location))
    assert refused(await read(scene), item="")
    assert victim.asked == []
    assert await read(scene, made.RIGHT) is None


@pytest.mark.parametrize("way", ["named", "relative", "mirror"])
async def test_a_redirect_to_an_allowed_host_is_followed(scene, victim, way):
    """Once: further ranges are asked for where the file was found."""
    target = {"named": f"{victim.url}/1_1.tif", "relative": "/true.tif", "mirror": "https://a.org/1_1.tif"}
    (file,) = scene.origin.replies["/1_1.tif"]
    scene.origin.say("/true.tif", file)
    scene.origin.say("/1_1.tif", Reply(status=302, headers={"Location": target[way]}))
    spec = scene.collection(asset_hosts=[victim.host]) if way == "named" else scene.spec
    context = replace(scene.context, mirrors={"https://a.org/": f"{victim.url}/"})
    assert await read(scene, spec=spec, context=context) is None
    assert [path for _, path in scene.origin.asked].count("/1_1.tif") == 1
    if way != "relative":
        assert victim.asked


async def test_a_place_that_expires_is_asked_for_again(scene):
    """Redirects often lead to signed links that live for minutes; headers are remembered for an hour."""
    (file,) = scene.origin.replies["/1_1.tif"]
    scene.origin.say("/old.tif", file, Reply(status=403))
    scene.origin.say("/new.tif", file)
    scene.origin.say(
        "/1_1.tif", *(Reply(status=302, headers={"Location": place}) for place in ("/old.tif", "/new.tif"))
    )
    assert await read(scene) is None


async def test_redirects_that_never_end(scene):
    scene.origin.say("/1_1.tif", Reply(status=302, headers={"Location": "/1_1.tif"}))
    error = await read(scene)
    assert refused(error)
    assert "more than 5 times" in error.detail
    assert len([path for _, path in scene.origin.asked if path == "/1_1.tif"]) == 6


async def test_a_link_of_the_api_leads_nowhere_else(scene, victim):
    spec = scene.collection(tiling=None)
    scene.publish_search(following=f"{victim.url}/search?sig={SECRET}")
    error = await read(scene, spec=spec)
    assert refused(error, item="")
    assert victim.host in error.detail
    scene.publish_search(search=f"{victim.url}/search?sig={SECRET}")
    assert refused(await read(scene, spec=spec), item="")
    assert victim.asked == []
    scene.publish_search()
    assert await read(scene, spec=spec) is None


@pytest.mark.parametrize(
    "table",
    [
        {"api": "http://user:s3cr3t@127.0.0.1:9/api"},
        {"api": "file:///etc"},
        {"asset_hosts": ["https://a.org"]},
        {"asset_hosts": ["a.org/data"]},
        {"asset_hosts": ["user@a.org"]},
        {"asset_hosts": ["a.org:x"]},
        {"asset_hosts": ["*"]},
    ],
    ids=str,
)
def test_a_collection_file_names_hosts_plainly(scene, table):
    with pytest.raises(ConfigurationError, match="api" if "api" in table else "write name or name:port"):
        create_source(scene.collection(**table), scene.context)
