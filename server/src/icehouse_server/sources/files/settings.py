"""What a collection file says about a folder of files: ``[source]`` and ``[bands.source]``."""

import re
from datetime import UTC
from datetime import datetime as Moment  # noqa: N812 - `datetime` is a key of the file
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.home import expand_home
from icehouse_server.sources.tables import parse_table

_STRICT = ConfigDict(extra="forbid", frozen=True)

TAG_FORMAT = "%Y:%m:%d %H:%M:%S"
"""How a TIFF writes its date (TIFF 6.0, tag DateTime)."""

_TIFF_DAY = re.compile(r"^(\d{4}):(\d\d):(\d\d)")


class NameTable(BaseModel):
    """``[source.datetime]``: where a file's name says its date."""

    model_config = _STRICT

    pattern: str
    format: Annotated[str, Field(min_length=1)] = "%Y%m%d"

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"{value!r} has {groups} groups; put the date into one, such as '_(\\d{{8}})'")
        return value

    def moment(self, name: str) -> Moment | None:
        """Return the date that a file's name holds, or None."""
        found = re.search(self.pattern, name)
        return None if found is None else _read(found[1], self.format)


class FilesTable(BaseModel):
    """``[source]`` of type ``files``."""

    model_config = _STRICT

    folder: Annotated[str, Field(min_length=1)]
    pattern: Annotated[str, Field(min_length=1)] = "**/*.tif"
    datetime: Literal["tag"] | NameTable | None = None

    @field_validator("folder")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("a path holds no null character")
        return value

    @field_validator("pattern")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\0" in value or not path.parts:
            raise ValueError(
                f"{value!r} leads out of the folder; write it relative to that, such as '**/*.tif'"
            )
        return value

    def root(self, home: str | None) -> Path:
        """Return the folder, absolute; a relative one is relative to that of the collection file."""
        path = expand_home(Path(self.folder), "source.folder")
        return (Path.cwd() if home is None else Path(home)) / path

    def moment(self, name: str, tag: str | None) -> Moment | None:
        """Return a file's date by its name or its tag; None where it has none.

        Args:
            name: of the file, without folders.
            tag: TIFFTAG_DATETIME, or None.
        """
        if isinstance(self.datetime, NameTable):
            return self.datetime.moment(name)
        return None if tag is None else _read_tag(tag)


class BandTable(BaseModel):
    """``[bands.source]`` of a folder of files."""

    model_config = _STRICT

    index: Annotated[int, Field(ge=1)] = 1
    """Band of the file, from 1."""


def parse_source(spec: CollectionSpec) -> FilesTable:
    """Check ``[source]``.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    where = f"collection {spec.id!r}: [source]"
    table = parse_table(FilesTable, spec.source, where)
    if (spec.time is None) != (table.datetime is None):
        raise ConfigurationError(
            f"{where}: a time axis ([time]) and datetime, which says when a file was taken, come together",
            hint='write datetime = "tag", or datetime = { pattern = "_(\\\\d{8})", format = "%Y%m%d" }'
            if table.datetime is None
            else "add a table [time], or leave datetime out",
        )
    return table


def parse_band(spec: CollectionSpec, band: BandSpec) -> BandTable:
    """Check ``[bands.source]`` of a band.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    return parse_table(
        BandTable, band.source, f"collection {spec.id!r}: [bands.source] of band {band.name!r}"
    )


def _read_tag(text: str) -> Moment | None:
    """Read TIFFTAG_DATETIME: as TIFF has it, or as ISO 8601 does, which many programs write."""
    return _read(text, TAG_FORMAT) or _iso(_TIFF_DAY.sub(r"\1-\2-\3", text.strip()))


def _iso(text: str) -> Moment | None:
    try:
        return _in_utc(Moment.fromisoformat(text))
    except ValueError:
        return None


def _read(text: str, form: str) -> Moment | None:
    """Read a date; one without a zone is UTC."""
    try:
        return _in_utc(Moment.strptime(text.strip(), form))  # noqa: DTZ007 - the zone follows
    except ValueError:
        return None


def _in_utc(found: Moment) -> Moment:
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
