"""What the API description says of documents. What it says of a parameter stands where that is parsed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import WithJsonSchema

type Schema = dict[str, Any]
"""A JSON Schema (draft 2020-12). Any: it is JSON."""

POINT: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}

_TEXT: Schema = {"type": "string"}
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
_LINKS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["rel", "href"],
        "properties": {
            "rel": _TEXT,
            "href": {"type": "string", "format": "uri"},
            "type": _TEXT,
            "title": _TEXT,
        },
    },
}


def _document(
    required: Mapping[str, Schema], *, title: str, optional: Mapping[str, Schema] = MappingProxyType({})
) -> Schema:
    properties = {**required, **optional}
    return {"type": "object", "title": title, "required": list(required), "properties": properties}


FILLING = (502, 503, 504, 507)
"""Statuses of routes that may fetch absent chunks."""

BINARY: Schema = {"type": "string", "format": "binary"}
COVERAGE_JSON = _document(
    {
        "type": {"const": "Coverage"},
        "domain": {"type": "object", "required": ["type", "domainType", "axes", "referencing"]},
        "parameters": {"type": "object"},
        "ranges": {"type": "object", "additionalProperties": {"type": "object", "required": ["values"]}},
    },
    title="CoverageJSON",
)
CONFORMANCE = _document({"conformsTo": {"type": "array", "items": _TEXT}}, title="Conformance classes")
LANDING = _document(
    {
        "type": {"const": "Catalog"},
        "stac_version": _TEXT,
        "id": _TEXT,
        "title": _TEXT,
        "description": _TEXT,
        "version": _TEXT,
        "conformsTo": {"type": "array", "items": _TEXT},
        "links": _LINKS,
    },
    title="Landing page",
)
READINESS = _document(
    {
        "ready": {"type": "boolean"},
        "reasons": {
            "type": "array",
            "items": _document({"code": _TEXT, "detail": _TEXT}, title="Reason"),
        },
        "version": _TEXT,
        "collections": {"type": "object"},
    },
    title="Readiness",
)
_LIMITS = ("minTileRow", "maxTileRow", "minTileCol", "maxTileCol")
_TILESET: dict[str, Schema] = {
    "title": _TEXT,
    "dataType": {"const": "map"},
    "crs": _TEXT,
    "links": {"type": "array", "items": {"type": "object", "required": ["rel", "href"]}},
}
_REGISTERED: dict[str, Schema] = {
    "tileMatrixSetURI": {
        "type": "string",
        "format": "uri",
        "description": "Where OGC registers the tile matrix set; left out where it does not.",
    }
}
TILESET = _document(
    {
        **_TILESET,
        "tileMatrixSetLimits": {
            "type": "array",
            "items": _document(
                {"tileMatrix": _TEXT, **{name: {"type": "integer", "minimum": 0} for name in _LIMITS}},
                title="Limits",
            ),
        },
    },
    title="Tile set",
    optional=_REGISTERED,
)
TILESETS = _document(
    {
        "links": _LINKS,
        "tilesets": {"type": "array", "items": _document(_TILESET, title="Tile set", optional=_REGISTERED)},
    },
    title="Tile sets",
)
TILE_MATRIX_SET = _document(
    {"id": _TEXT, "crs": {"type": ["string", "object"]}, "tileMatrices": {"type": "array", "minItems": 1}},
    title="Tile matrix set",
)
TILE_MATRIX_SETS = _document(
    {
        "tileMatrixSets": {
            "type": "array",
            "minItems": 1,
            "items": _document({"id": _TEXT, "title": _TEXT, "links": _LINKS}, title="Tile matrix set"),
        }
    },
    title="Tile matrix sets",
)
TILEJSON = _document(
    {
        "tilejson": {"const": "3.0.0"},
        "name": _TEXT,
        "attribution": _TEXT,
        "scheme": {"const": "xyz"},
        "tiles": {"type": "array", "items": _TEXT, "minItems": 1},
        "minzoom": {"type": "integer", "minimum": 0},
        "maxzoom": {"type": "integer", "minimum": 0},
        "bounds": _NUMBERS,
        "center": _NUMBERS,
        "tileMatrixSet": _TEXT,
        "legend": {"type": "string", "format": "uri"},
    },
    title="TileJSON",
)
LEGEND = _document(
    {
        "style": _TEXT,
        "title": _TEXT,
        "kind": {"enum": ["ramp", "relief", "rgb"]},
        "units": _TEXT,
        "bands": {"type": "array", "items": _TEXT, "minItems": 1},
        "rescale": {"type": ["array", "null"], "items": _NUMBERS},
        "stops": {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}},
    },
    title="Legend",
)
COLLECTION = _document(
    {
        "type": {"const": "Collection"},
        "stac_version": _TEXT,
        "stac_extensions": {"type": "array", "items": {"type": "string", "format": "uri"}},
        "id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"},
        "title": _TEXT,
        "description": _TEXT,
        "license": _TEXT,
        "keywords": {"type": "array", "items": _TEXT},
        "extent": {"type": "object", "required": ["spatial", "temporal"]},
        "crs": {"type": "array", "items": _TEXT},
        "storageCrs": _TEXT,
        "cube:dimensions": {"type": "object", "required": ["x", "y"]},
        "cube:variables": {"type": "object", "minProperties": 1},
        "bands": {
            "type": "array",
            "minItems": 1,
            "items": _document({"name": _TEXT, "data_type": _TEXT, "description": _TEXT}, title="Band"),
        },
        "renders": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": _document(
                {"title": _TEXT, "assets": {"type": "array"}, "bands": {"type": "array", "items": _TEXT}},
                title="Render",
            ),
        },
        "proj:code": {"type": ["string", "null"]},
        "proj:shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2},
        "proj:transform": _NUMBERS,
        "proj:bbox": _NUMBERS,
        "icehouse:chunk": {"type": "integer", "minimum": 16, "maximum": 8192},
        "icehouse:levels": {"type": "integer", "minimum": 1},
        "icehouse:default_bands": {"type": "array", "items": _TEXT, "minItems": 1},
        "defaultFields": {"type": "array", "items": _TEXT, "minItems": 1},
        "assets": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
        "links": _LINKS,
    },
    title="Collection",
)
COLLECTIONS = _document(
    {"collections": {"type": "array", "items": COLLECTION}, "links": _LINKS}, title="Collections"
)
BAND_SCHEMA = _document(
    {
        "$schema": {"type": "string", "format": "uri"},
        "$id": {"type": "string", "format": "uri"},
        "type": {"const": "object"},
        "title": _TEXT,
        "properties": {
            "type": "object",
            "additionalProperties": _document(
                {
                    "title": _TEXT,
                    "type": {"enum": ["number", "integer"]},
                    "x-ogc-propertySeq": {"type": "integer"},
                    "x-ogc-dataType": _TEXT,
                },
                title="Band",
            ),
        },
    },
    title="Bands as a JSON schema",
)


FEATURES: Schema = {
    "type": "object",
    "title": "FeatureCollection",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "coordRefSys": _TEXT,
        "collection": _TEXT,
        "level": {"type": "integer", "minimum": 0},
        "cell": {"type": "integer", "minimum": 1},
        "unsure": {"type": "integer", "minimum": 0},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "id", "geometry", "properties"],
                "properties": {
                    "type": {"const": "Feature"},
                    "id": _TEXT,
                    "geometry": {"type": ["object", "null"]},
                    "properties": {
                        "type": "object",
                        "required": ["row", "col", "level", "state", "chunks"],
                        "properties": {"state": {"enum": ["failed", "in flight", "present", "void"]}},
                    },
                },
            },
        },
    },
}


def event(*names: str) -> Schema:
    """Describe the events of a stream that has these."""
    return {
        "type": "object",
        "description": "One event of the stream.",
        "required": ["event", "data"],
        "properties": {"event": {"enum": list(names)}, "id": _TEXT, "data": _TEXT},
    }


def nullable(schema: Schema) -> WithJsonSchema:
    """Describe a member of a body that may be left out, or be null."""
    said: Schema = {name: schema[name] for name in ("description", "examples") if name in schema}
    inner = {name: value for name, value in schema.items() if name not in said}
    return WithJsonSchema({"anyOf": [inner, {"type": "null"}], **said})


def json_answer(schema: Schema, **more: object) -> dict[str, Any]:
    """Describe an answer in JSON, for ``responses`` of a route; ``more`` such as links and headers."""
    return {"content": {"application/json": {"schema": schema}}, **more}


def link(operation: str, said: str, **parameters: str) -> dict[str, Any]:
    """Describe where an answer leads: operation id, and its parameters as OpenAPI's runtime expressions.

    ``_`` in a parameter's name stands for ``-``.
    """
    given = {name.replace("_", "-"): expression for name, expression in parameters.items()}
    return {"operationId": operation, "description": said, "parameters": given}
