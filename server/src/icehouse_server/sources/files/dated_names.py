"""When files were taken, by their names or tags; and whether that makes a time axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from icehouse_server.core.drafts.draft import Remark
from icehouse_server.core.drafts.time_axes import axis_table
from icehouse_server.raster.file_facts import FileFacts
from icehouse_server.sources.files.settings import FilesTable, NameTable
from icehouse_server.sources.raster.draft_grid import PlacedRaster
from icehouse_server.sources.raster.repeats import is_repeated

_FORMATS = (
    (r"(?<!\d)((?:19|20)\d{6}T\d{6})(?!\d)", "%Y%m%dT%H%M%S"),
    (r"(?<!\d)((?:19|20)\d{6})(?!\d)", "%Y%m%d"),
    (r"(?<!\d)((?:19|20)\d\d-\d\d-\d\d)(?!\d)", "%Y-%m-%d"),
    (r"(?<!\d)((?:19|20)\d\d_\d\d_\d\d)(?!\d)", "%Y_%m_%d"),
    (r"(?<!\d)((?:19|20)\d\d-\d\d)(?!\d)", "%Y-%m"),
    (r"(?<!\d)((?:19|20)\d\d(?:0[1-9]|1[0-2]))(?!\d)", "%Y%m"),
    (r"(?<!\d)((?:19|20)\d\d)(?!\d)", "%Y"),
)
"""How names hold dates, the longest form first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """What dates say."""

    datetime: Mapping[str, str] | str | None = None
    """``datetime`` of ``[source]``; None without a time axis."""
    table: Mapping[str, object] = field(default_factory=dict)
    """``[time]``."""
    interval: tuple[str | None, str | None] = (None, None)
    moments: Mapping[str, str] = field(default_factory=dict)
    """Name of a file to its date, where there is a time axis."""
    remarks: tuple[Remark, ...] = ()


def time_axis(files: Sequence[FileFacts], placed: Sequence[PlacedRaster]) -> TimeAxis:
    """Return the time axis that files make: there is one where files of one place have several dates.

    Args:
        files: what they say of themselves.
        placed: where they lie, in the same order.
    """
    source, dates = _dates(files)
    if not dates:
        return TimeAxis()
    ordered = sorted(set(dates))
    named = not isinstance(source, str)
    interval = (_text(ordered[0]), _text(ordered[-1])) if named else (None, None)
    table = axis_table(ordered)
    if len(ordered) == 1 or table is None:
        return TimeAxis(interval=interval)
    if not is_repeated(placed, dates):
        return TimeAxis(interval=interval, remarks=(_suggestion(source, table),))
    moments = {facts.name: _text(date) for facts, date in zip(files, dates, strict=True)}
    origin = "the names" if named else "TIFFTAG_DATETIME"
    return TimeAxis(
        datetime=source,
        table=table,
        interval=interval,
        moments=moments,
        remarks=(
            Remark(
                where="time",
                text=f"By the dates in {origin}, of which no two of one place lie in one step.",
            ),
        ),
    )


def _dates(files: Sequence[FileFacts]) -> tuple[Mapping[str, str] | str, list[datetime]]:
    """Return where dates are found, and that of each file; none where one file has none."""
    bases = [facts.name.rpartition("/")[2] for facts in files]
    for pattern, form in _FORMATS:
        table = NameTable(pattern=pattern, format=form)
        found = [date for name in bases if (date := table.moment(name)) is not None]
        if len(found) == len(files):
            return {"pattern": pattern, "format": form}, found
    tagged = FilesTable(folder=".", datetime="tag")
    found = [date for facts in files if (date := tagged.moment("", facts.moment)) is not None]
    return "tag", found if len(found) == len(files) else []


def _suggestion(source: Mapping[str, str] | str, table: Mapping[str, object]) -> Remark:
    origin = "TIFFTAG_DATETIME" if isinstance(source, str) else "names"
    lines = "\n".join(f" {key} = {value!r}".replace("'", '"') for key, value in table.items())
    key = (
        ' datetime = "tag"'
        if isinstance(source, str)
        else f" datetime = {{ pattern = '{source['pattern']}', format = \"{source['format']}\" }}"
    )
    return Remark(
        where="time",
        text=f"Files have dates ({origin}), but no two of one place differ, so there is no time axis. "
        "For one:\n"
        f" [time]\n{lines}\nand under [source]:\n{key}",
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
