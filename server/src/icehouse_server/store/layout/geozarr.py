"""GeoZarr: attributes by the conventions ``multiscales``, ``proj:`` and ``spatial:``, version 0.1 of each."""

from collections.abc import Iterable

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.store.layout.metadata import Json

_CONVENTIONS = {
    "proj": (
        "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "Coordinate reference system information for geospatial data",
    ),
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    "multiscales": ("d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets"),
}


def level_attributes(spec: CollectionSpec, level: int) -> Json:
    """Return what says where the arrays of a level lie."""
    grid = spec.grids[level]
    code, box = grid.crs.authority, grid.geobox.boundingbox
    crs = {"proj:code": f"{code[0]}:{code[1]}"} if code and all(code) else {"proj:wkt2": grid.crs.to_wkt()}
    return {
        "zarr_conventions": [_registration("proj"), _registration("spatial")],
        **crs,
        "spatial:dimensions": ["y", "x"],
        "spatial:bbox": list(box.bbox),
        **_place(spec, level),
    }


def pyramid_attributes(spec: CollectionSpec) -> Json:
    """Return the same of level 0, and which group holds which level."""
    own = level_attributes(spec, 0)
    layout: list[Json] = [{"asset": "0", "transform": {"scale": [1.0, 1.0]}, **_place(spec, 0)}]
    layout += [
        {
            "asset": str(level),
            "derived_from": str(level - 1),
            "transform": {"scale": [2.0, 2.0], "translation": [0.0, 0.0]},
            **_place(spec, level),
        }
        for level in range(1, len(spec.grids))
    ]
    conventions = [*own["zarr_conventions"], _registration("multiscales")]
    return {**own, "zarr_conventions": conventions, "multiscales": {"layout": layout}}


def repository_attributes(spec: CollectionSpec, levels: Iterable[int]) -> Json:
    """Return the same of the root of a repository, which is level 0 itself; a group is there once written.

    Args:
        spec: the collection.
        levels: that the repository has; 0 is always there.
    """
    own = level_attributes(spec, 0)
    layout: list[Json] = [{"asset": ".", "transform": {"scale": [1.0, 1.0]}, **_place(spec, 0)}]
    layout += [
        {
            "asset": str(level),
            "derived_from": ".",
            "transform": {"scale": [2.0**level, 2.0**level], "translation": [0.0, 0.0]},
            **_place(spec, level),
        }
        for level in sorted(set(levels) - {0})
    ]
    conventions = [*own["zarr_conventions"], _registration("multiscales")]
    return {**own, "zarr_conventions": conventions, "multiscales": {"layout": layout}}


def _place(spec: CollectionSpec, level: int) -> Json:
    grid = spec.grids[level]
    return {
        "spatial:shape": list(grid.shape),
        "spatial:transform": [float(number) for number in tuple(grid.geobox.affine)[:6]],
    }


def _registration(name: str) -> Json:
    uuid, description = _CONVENTIONS[name]
    home = f"zarr-conventions/{name}"
    return {
        "schema_url": f"https://raw.githubusercontent.com/{home}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/{home}/blob/v0.1/README.md",
        "uuid": uuid,
        "name": name,
        "description": description,
    }
