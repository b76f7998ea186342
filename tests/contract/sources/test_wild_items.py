"""Item documents as public APIs have them: what a read does not need of one fails nothing.

The pixels of ``support.scene`` are the truth, whatever documents say of dates, units and places.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine

from icehouse_server.core.errors import SourceCorruptError, SourceRefusedError
from icehouse_server.core.time import TimeStep, parse_moment
from icehouse_server.sources import create_source
from support import scene as made
from support import source_rig as rig
from support.origin import Reply

LIAR = made.ITEMS[0]
COMPOSITE = {"rule": "first", "order_by": "id"}
STEP = TimeStep(start=parse_moment("2020-01-01"), end=parse_moment("2021-01-01"))


@pytest.fixture(scope="module")
def running():
    with made.Scene.start() as scene:
        yield scene


@pytest.fixture
def scene(running):
    for item in made.ITEMS:
        running.publish(item)
    running.context.documents.stored.clear()
    return running


@pytest.fixture(params=["plain", "composite"])
def path(request):
    """Further keys of `[source]`: items on the collection's own grid, or warped to it."""
    return {"composite": COMPOSITE} if request.param == "composite" else {}


async def read(scene, path, *, step=None, window=made.BOTH):
    spec = scene.collection(**path)
    source = create_source(spec, scene.context)
    request = rig.request_for(spec, window)
    try:
        return (await source.read(replace(request, step=step))).bands["b"]
    finally:
        await source.close()


async def right(scene, path):
    """The pixels of both items, as their files hold them."""
    band = await read(scene, path)
    found = np.where(band.valid, band.values, np.float32(made.NODATA))
    items = {item: made.pixels_of(item) for item in made.ITEMS}
    np.testing.assert_array_equal(found, made.truth(made.BOTH, items))


def document(scene, *, asset=None, links=None, **properties):
    """The document of the first item with other properties; None takes one out."""
    found = scene.document(LIAR)
    found["properties"].update(properties)
    found["properties"] = {key: value for key, value in found["properties"].items() if value != "out"}
    found["assets"]["dem"].update(asset or {})
    found["links"] = found["links"] if links is None else links
    return found


@pytest.mark.parametrize(
    "properties",
    [
        {"proj:code": "EPSG:None"},
        {"proj:code": "EPSG:nan"},
        {"proj:code": ""},
        {"proj:code": None, "proj:epsg": None},
        {"proj:code": "out", "proj:epsg": "3413"},
        {"proj:code": "out", "proj:epsg": 3413.0},
        {"proj:code": "out", "proj:epsg": "EPSG:3413"},
        {"proj:code": "urn:ogc:def:crs:EPSG::3413"},
        {"proj:code": "http://www.opengis.net/def/crs/EPSG/0/3413"},
        {"proj:code": "a local system"},
        {"proj:transform": [str(number) for number in tuple(made.transform_of(LIAR))[:6]]},
        {"proj:transform": []},
        {"proj:shape": "200x200"},
        {"datetime": "out"},
        {"datetime": "yesterday"},
        {"datetime": None, "start_datetime": "2020-13-01"},
    ],
    ids=str,
)
async def test_properties_that_are_not_needed(scene, path, properties):
    scene.publish(LIAR, document=document(scene, **properties))
    await right(scene, path)


@pytest.mark.parametrize(
    "asset",
    [
        {"scale": "1.0", "offset": "0"},
        {"raster:bands": [{"scale": "1.0", "offset": " 0.0 "}]},
        {"raster:bands": None, "bands": "one"},
        {"type": 5, "roles": "data"},
    ],
    ids=str,
)
async def test_what_assets_say_that_is_not_needed(scene, path, asset):
    scene.publish(LIAR, document=document(scene, asset=asset))
    await right(scene, path)


@pytest.mark.parametrize(
    "change",
    [
        {"links": [{"rel": "parent"}, {"href": "x"}, 5, None]},
        {"links": None},
        {"stac_extensions": None, "stac_version": "0.8.1"},
        {"geometry": None, "bbox": None},
    ],
    ids=str,
)
async def test_parts_that_are_not_needed(scene, path, change):
    found = scene.document(LIAR) | change
    found["assets"] |= {"thumbnail": {"title": "no href"}, "metadata": None, "other": "text"}
    scene.publish(LIAR, document=found)
    await right(scene, path)


@pytest.mark.parametrize(
    ("properties", "said", "has"),
    [
        ({"proj:shape": [100, 100]}, "[100, 100]", "[200, 200]"),
        (
            {"proj:transform": list(made.transform_of(LIAR) @ Affine.translation(3, 0))[:6]},
            "[32, 0, -798304, 0, -32, 2698720]",
            "[32, 0, -798400, 0, -32, 2698720]",
        ),
    ],
    ids=["shape", "transform"],
)
async def test_a_place_that_is_not_the_files(scene, path, properties, said, has):
    """The item is blamed, with both values; where the collection trusts files, they are read."""
    scene.publish(LIAR, document=document(scene, **properties))
    with pytest.raises(SourceCorruptError) as caught:
        await read(scene, path)
    assert caught.value.item == LIAR
    assert said in caught.value.detail
    assert has in caught.value.detail
    assert "trust_files = true" in caught.value.hint
    await right(scene, {**path, "trust_files": True})


async def test_a_crs_that_is_not_the_files(scene, path):
    scene.publish(LIAR, document=document(scene, **{"proj:code": "EPSG:3031"}))
    with pytest.raises(SourceCorruptError, match=r"EPSG:3031") as caught:
        await read(scene, path)
    assert "trust_files = true" in caught.value.hint
    await right(scene, {**path, "trust_files": True})


@pytest.mark.parametrize(
    ("self_link", "href"),
    [
        ("/data/deep/1_1.json", "./1_1.tif"),
        ("/data/deep/1_1.json", "1_1.tif"),
        ("/data/deep/down/1_1.json", "../1_1.tif"),
        ("/data/other/1_1.json", "/data/deep/1_1.tif"),
    ],
)
async def test_relative_hrefs_resolve_against_the_self_link(scene, path, self_link, href):
    url = scene.origin.url
    scene.origin.say("/data/deep/1_1.tif", made.true_file(LIAR))
    links = [{"rel": "root", "href": "/elsewhere"}, {"rel": "self", "href": url + self_link}]
    scene.publish(LIAR, document=document(scene, links=links, asset={"href": href}))
    scene.origin.say("/1_1.tif", Reply(status=404))
    await right(scene, path)


async def test_without_a_self_link_the_request_counts(scene, path):
    scene.origin.say("/api/collections/c/items/1_1.tif", made.true_file(LIAR))
    scene.publish(LIAR, document=document(scene, asset={"href": "./1_1.tif"}))
    await right(scene, path)


async def test_a_self_link_must_not_send_us_anywhere(scene, path):
    links = [{"rel": "self", "href": "http://192.0.2.1/1_1.json"}]
    scene.publish(LIAR, document=document(scene, links=links, asset={"href": "1_1.tif"}))
    with pytest.raises(SourceRefusedError, match=r"192\.0\.2\.1"):
        await read(scene, path)


async def test_gdals_prefixes_are_understood(scene, path):
    href = f"/vsicurl/{scene.origin.url}/1_1.tif"
    scene.publish(LIAR, document=document(scene, asset={"href": href}))
    await right(scene, path)


async def test_an_item_without_any_date_is_named(scene):
    """It fails reads of a step, by its id."""
    for properties in ({"datetime": "out"}, {"datetime": None}, {"datetime": "yesterday"}):
        items = (document(scene, **properties), scene.document(made.ITEMS[1]))
        scene.publish_search(items=items)
        scene.context.documents.stored.clear()
        with pytest.raises(SourceCorruptError, match=r"'1_1': it.*datetime") as caught:
            await read(scene, {"composite": {"rule": "first"}, "tiling": None}, step=STEP)
        assert caught.value.item == LIAR


async def test_a_composite_by_date_names_it_too(scene):
    scene.publish(LIAR, document=document(scene, datetime="out"))
    with pytest.raises(SourceCorruptError, match=r"'1_1': it has neither datetime nor start_datetime"):
        await read(scene, {"composite": {"rule": "first"}})


async def test_rules_that_know_no_order_need_no_date(scene):
    scene.publish(LIAR, document=document(scene, datetime="out"))
    band = await read(scene, {"composite": {"rule": "max"}}, window=made.LEFT)
    assert band.valid.any()
