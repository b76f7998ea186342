"""The parameter ``snapshot``."""

import re
from typing import Annotated

from fastapi import Query
from pydantic import WithJsonSchema

from icehouse_server.api.openapi.schemas import Schema, nullable
from icehouse_server.api.parameters.patterns import described
from icehouse_server.core.errors import BadParameterError

_SNAPSHOT = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
SCHEMA: Schema = {"type": "string", "format": "snapshot", "pattern": described(_SNAPSHOT.pattern)}

Snapshot = Annotated[
    str | None,
    Query(description="Snapshot id or tag: read the past, fetch nothing."),
    WithJsonSchema(SCHEMA),
]
SnapshotName = Annotated[str | None, nullable(SCHEMA)]
"""``snapshot`` in a body."""


def parse_snapshot(text: str | None) -> str | None:
    """Read a snapshot's id or tag.

    Raises:
        BadParameterError: it is empty, or holds what no id and no tag can.
    """
    if text is not None and not _SNAPSHOT.fullmatch(text):
        raise BadParameterError(
            "snapshot",
            f"snapshot: {text[:40]!r} is neither a snapshot's id nor a tag",
            hint="the header Icehouse-Snapshot of an answer holds the id that it was read from",
        )
    return text
