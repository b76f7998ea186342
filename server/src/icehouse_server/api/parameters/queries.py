"""Query parameters that several routes have, as text: their readers name the parameter in every refusal."""

from typing import Annotated

from fastapi import Query
from pydantic import WithJsonSchema

from icehouse_server.api.openapi import schemas

Bbox = Annotated[
    str | None,
    Query(
        description="minx,miny,maxx,maxy; lon/lat by default; the first above the third crosses 180. "
        "The whole collection when left out."
    ),
    WithJsonSchema(schemas.BBOX),
]
BboxCrs = Annotated[
    str | None,
    Query(alias="bbox-crs", description="CRS of bbox. x,y axis order."),
    WithJsonSchema(schemas.CRS),
]
Properties = Annotated[
    str | None,
    Query(description="Bands, between commas; the collection's default bands when left out."),
    WithJsonSchema(schemas.BANDS),
]
Bands = Annotated[
    str | None,
    Query(description="The same as properties; give one of them."),
    WithJsonSchema(schemas.BANDS),
]
Datetime = Annotated[
    str | None,
    Query(description=schemas.DATETIME_SAID),
    WithJsonSchema(schemas.DATETIME),
]
