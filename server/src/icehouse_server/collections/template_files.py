"""Templates of collection files: everything but the grid, which is the user's choice."""

import math
import re
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

import rasterio.crs
from odc.geo.crs import CRS
from rasterio.warp import transform_bounds

from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.hints import guess

_EDGE_POINTS = 21
"""Points along each edge of a bbox by which its bounds in another CRS are found."""

_LARGEST = 2**31
"""Pixels each way at most."""

_NEARLY = 1e-6
"""Share of a pixel by which an edge may lie off the lattice without another pixel being added."""


class GridBounds(NamedTuple):
    """A rectangle in some CRS."""

    minx: float
    miny: float
    maxx: float
    maxy: float


def template_names() -> list[str]:
    """Return the names of the templates."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")
    )


def template_text(name: str) -> str:
    """Return the text of a template.

    Raises:
        BadParameterError: there is none of this name.
    """
    if name not in template_names():
        raise BadParameterError(
            "NAME", f"there is no template {name!r}", hint=guess(name, template_names()) or "there are none"
        )
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def parse_crs(parameter: str, text: str) -> CRS:
    """Return a CRS.

    Raises:
        BadParameterError: it is none; names the parameter.
    """
    try:
        return CRS(text)
    except Exception:  # noqa: BLE001 - pyproj's errors have no common base worth naming here
        raise BadParameterError(
            parameter, f"{parameter}: {text!r} is not a CRS", hint="give a code such as EPSG:32633"
        ) from None


def parse_bbox(text: str) -> GridBounds:
    """Read four numbers between commas or spaces.

    Raises:
        BadParameterError: they are none.
    """
    words = text.replace(",", " ").split()
    try:
        bounds = GridBounds(*map(float, words))
    except (TypeError, ValueError):
        bounds = GridBounds(*[math.nan] * 4)
    if not all(map(math.isfinite, bounds)) or bounds.miny >= bounds.maxy:
        raise BadParameterError(
            "--bbox", f"--bbox: {text!r} is not minx,miny,maxx,maxy", hint="such as 10.5,46.8,11.2,47.3"
        )
    return bounds


def snapped(bbox: GridBounds, bbox_crs: CRS, crs: CRS, resolution: float) -> GridBounds:
    """Return the least bounds in a CRS, of whole pixels counted from 0, that hold a box.

    Bounds of one CRS and resolution share a lattice, wherever they lie.

    Raises:
        BadParameterError: the box has no place in the CRS.
    """
    west = bbox.minx
    east = bbox.maxx + 360 if bbox_crs.geographic and bbox.maxx <= west else bbox.maxx
    found = (west, bbox.miny, east, bbox.maxy)
    if bbox_crs != crs:
        source, target = (rasterio.crs.CRS.from_wkt(each.to_wkt()) for each in (bbox_crs, crs))
        found = transform_bounds(source, target, *found, densify_pts=_EDGE_POINTS)
    steps = [
        *(math.floor(low / resolution + _NEARLY) if math.isfinite(low) else math.nan for low in found[:2]),
        *(math.ceil(high / resolution - _NEARLY) if math.isfinite(high) else math.nan for high in found[2:]),
    ]
    sizes = (steps[2] - steps[0], steps[3] - steps[1])
    if not all(1 <= size <= _LARGEST for size in sizes):
        raise BadParameterError(
            "--bbox",
            f"--bbox: {', '.join(map(str, bbox))} is outside {crs}, or not on pixels of {resolution}",
            hint="--bbox is in degrees of longitude and latitude unless --bbox-crs says otherwise",
        )
    return GridBounds(*(round(step * resolution, 10) for step in steps))


def filled(text: str, *, id_: str | None, crs: str, resolution: float, bounds: GridBounds, chunk: int) -> str:
    """Return a template with its grid; nothing else is changed.

    Args:
        text: of the template.
        id_: id of the collection; the template's own when None.
        crs: of the grid.
        resolution: pixel size in units of the CRS.
        bounds: in the CRS.
        chunk: side of a chunk in pixels.
    """
    if id_ is not None:
        text = re.sub(r'(?m)^id = ".*"$', f'id = "{id_}"', text, count=1)
    grid = (
        f'[grid]\ncrs = "{crs}"\nresolution = {resolution:.15g}\n'
        f"bounds = [{', '.join(f'{number:.15g}' for number in bounds)}]\nchunk = {chunk}\n\n"
    )
    return _before_tables(text, grid)


def _before_tables(text: str, piece: str) -> str:
    """Put a table before the first and the comment above that: what stands there belongs to no table."""
    first = re.search(r"(?m)^(?:#.*\n)*\[", text)
    place = len(text) if first is None else first.start()
    return f"{text[:place]}{piece}{text[place:]}"


def _folder() -> Traversable:
    return resources.files("icehouse_server.collections") / "templates"
