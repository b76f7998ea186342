"""Templates of collection files: everything but the grid, which is the user's choice."""

import math
import re
from importlib import resources
from importlib.resources.abc import Traversable

from odc.geo.crs import CRS

from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.hints import guess
from icehouse_server.raster.grid_bounds import GridBounds


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
