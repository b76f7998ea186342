"""CRSs by their codes: the parameters ``crs``, ``bbox-crs`` and ``proj:code``."""

import re
from functools import lru_cache
from typing import Annotated

from odc.geo.crs import CRS
from pydantic import WithJsonSchema
from pyproj.exceptions import ProjError

from icehouse_server.api.openapi.schemas import Schema, nullable
from icehouse_server.api.parameters.patterns import described
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.geometry.horizontal import is_map

_CODE = "(?P<authority>[A-Za-z]{2,10}):(?P<code>[A-Za-z0-9]{1,12})"
_URI = (
    "https?://www[.]opengis[.]net/def/crs/(?P<authority>[A-Za-z0-9_]{2,10})/[A-Za-z0-9_.]{1,8}/"
    "(?P<code>[A-Za-z0-9_]{1,12})"
)
_URN = "urn:ogc:def:crs:(?P<authority>[A-Za-z0-9_]{2,10}):[A-Za-z0-9_.]{0,8}:(?P<code>[A-Za-z0-9_]{1,12})"
_WRITTEN = (_CODE, rf"\[{_CODE}\]", _URI, _URN)
_FORMS = tuple(re.compile(form, re.IGNORECASE if form == _URN else 0) for form in _WRITTEN)

SCHEMA: Schema = {
    "type": "string",
    "format": "crs-code",
    "pattern": described("|".join((*_WRITTEN, "[Cc][Rr][Ss]84"))),
    "examples": ["EPSG:3413"],
}

CrsText = Annotated[str | None, WithJsonSchema(SCHEMA)]
"""A CRS in a query; what it is for, each route says."""

CrsCode = Annotated[str | None, nullable(SCHEMA)]
"""A CRS in a body."""

OutputCrsCode = Annotated[
    str | None, nullable({**SCHEMA, "description": "CRS of the output where no exact geobox is given."})
]

CRS84_URI = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

_CRS84 = CRS("EPSG:4326")
"""CRS84 is EPSG:4326 with lon, lat axes, which is the axis order used throughout."""


def parse_crs(text: str, parameter: str) -> CRS:
    """Read a CRS: ``EPSG:3413``, ``[EPSG:3413]``, an OGC URI or URN, or ``CRS84``.

    Only codes: no WKT, no PROJ string, nothing that could name a file.

    Raises:
        BadParameterError: it is none of these, PROJ does not know it, or not a map of the earth.
    """
    right = "give a code such as EPSG:3413 or http://www.opengis.net/def/crs/EPSG/0/3413, or CRS84"
    if text.upper() in {"CRS84", "OGC:CRS84", "[OGC:CRS84]"}:
        return _CRS84
    found = next((match for form in _FORMS if (match := form.fullmatch(text))), None)
    if found is None:
        raise BadParameterError(parameter, f"{parameter}: {text[:80]!r} is not a CRS code", hint=right)
    authority, code = found["authority"].upper(), found["code"].upper()
    if (authority, code) == ("OGC", "CRS84"):
        return _CRS84
    crs, fits = _crs_of_code(f"{authority}:{code}")
    if crs is None:
        raise BadParameterError(parameter, f"{parameter}: {authority}:{code} is not known", hint=right)
    if not fits:
        raise BadParameterError(
            parameter,
            f"{parameter}: {authority}:{code} must be a 2-D projected or geographic CRS",
            hint=right,
        )
    return crs


def crs_uri(crs: CRS | None) -> str:
    """Return a CRS as OGC writes it: a URI where there is a code, else WKT."""
    code = None if crs is None else crs.authority
    if crs is None or code is None or not all(code):
        return "" if crs is None else crs.to_wkt()
    return f"http://www.opengis.net/def/crs/{code[0]}/0/{code[1]}"


@lru_cache(maxsize=256)
def _crs_of_code(code: str) -> tuple[CRS | None, bool]:
    """Return the CRS of a code, and whether it is a map; also remembered for those that there are not."""
    try:
        crs = CRS(code)
    except (ProjError, ValueError, TypeError, OSError):
        return None, False
    return crs, is_map(crs)
