"""GeoZarr's conventions in the repository and in the served store, by the published schemas."""

from __future__ import annotations

import json
from pathlib import Path

import icechunk
import jsonschema
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from icehouse_server.store import make_cube
from icehouse_server.store.layout import layout
from icehouse_server.store.repository import opening
from icehouse_server.testing.fakes import tiny_spec

SCHEMAS = Path(__file__).parents[2] / "support" / "schemas"
SPECS = {
    "projected": tiny_spec(),
    "degrees": tiny_spec("degrees", crs="EPSG:4326", resolution=0.01),
    "unnamed": tiny_spec("unnamed", crs="+proj=laea +lat_0=71 +lon_0=-42 +datum=WGS84 +units=m"),
}


def schema(name, part=None):
    document = json.loads((SCHEMAS / f"{name}.json").read_text())
    return document if part is None else {**document["$defs"][part], "$defs": document["$defs"]}


def registered():
    """The registrations of all three conventions at 0.1, by name."""
    attributes = schema("spatial-0.1-example")["attributes"]
    return {entry["name"]: entry for entry in attributes["zarr_conventions"]}


def check(group, *, pyramid):
    attributes = group["attributes"]
    jsonschema.validate(group, schema("spatial-0.1"))
    jsonschema.validate(attributes, schema("proj-2025-12", "projAttributes"))
    names = ["proj", "spatial", *(["multiscales"] if pyramid else [])]
    assert attributes["zarr_conventions"] == [registered()[name] for name in names]
    if pyramid:
        jsonschema.validate(attributes["multiscales"], schema("multiscales-2025-12", "multiscalesProperties"))


def groups_of(store):
    root = zarr.open_group(store, mode="r")
    levels = [root, *(root[str(level)] for level in layout.levels_of(root)[1:])]
    return [{"zarr_format": 3, "node_type": "group", "attributes": dict(group.attrs)} for group in levels]


@pytest.mark.parametrize("name", SPECS)
def test_repository_and_store_hold_to_the_schemas(name):
    spec, store = SPECS[name], MemoryStore()
    layout.create(spec, store, 0)
    check(groups_of(store)[0], pyramid=True)
    layout.add_levels(spec, store, [len(spec.grids) - 1])
    root, level = groups_of(store)
    check(root, pyramid=True)
    check(level, pyramid=False)
    entries = root["attributes"]["multiscales"]["layout"]
    assert [entry["asset"] for entry in entries] == [".", str(len(spec.grids) - 1)]
    assert entries[1]["spatial:shape"] == list(spec.grids[-1].shape)
    for key, document in make_cube(spec, 0).documents.items():
        if key == "zarr.json" or (key.endswith("/zarr.json") and key.split("/")[0] == key[:-10]):
            group = json.loads(document)
            if group["node_type"] == "group":
                check(group, pyramid=key == "zarr.json")


def test_an_older_repository_gets_them_by_one_commit(tmp_path, monkeypatch):
    spec, folder = SPECS["projected"], tmp_path / "tiny"
    with monkeypatch.context() as older:
        older.setattr(layout, "repository_attributes", lambda *_: {})
        older.setattr(layout, "level_attributes", lambda *_: {})
        older.setattr(layout, "has_conventions", lambda _: True)
        repository = opening.open_repository(spec, folder)
        session = repository.writable_session("main")
        layout.add_levels(spec, session.store, [1])
        zarr.open_group(session.store, mode="r+")[spec.bands[0].name][:4, :4] = 7
        session.commit("pixels")
    before = list(repository.ancestry(branch="main"))
    assert "zarr_conventions" not in groups_of(repository.readonly_session("main").store)[0]["attributes"]
    for _ in range(2):
        repository = opening.open_repository(spec, folder)
    after = list(repository.ancestry(branch="main"))
    assert len(after) == len(before) + 1
    store = repository.readonly_session("main").store
    root, level = groups_of(store)
    check(root, pyramid=True)
    check(level, pyramid=False)
    assert root["attributes"]["icehouse"] == layout.identity(spec)
    np.testing.assert_array_equal(zarr.open_group(store, mode="r")[spec.bands[0].name][:4, :4], 7)
    past = repository.readonly_session(snapshot_id=before[0].id)
    assert isinstance(past, icechunk.Session)
    np.testing.assert_array_equal(zarr.open_group(past.store, mode="r")[spec.bands[0].name][:4, :4], 7)
