"""Which kinds of source there are: entry points, so that a package from elsewhere can add one."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import cast

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.drafts.draft import Inspector
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.ports import Source
from icehouse_server.sources.context import SourceContext

GROUP = "icehouse.sources"
"""Entry point group; the name is the ``type`` of a collection file's ``[source]`` table."""

INSPECTORS = "icehouse.inspectors"
"""The same for what looks at a source and drafts a collection file, where a kind has such a thing."""

type SourceFactory = Callable[[CollectionSpec, SourceContext], Source]
"""What an entry point of the group names."""


def create_source(spec: CollectionSpec, context: SourceContext) -> Source:
    """Make the source of a collection. Opens no connection.

    Raises:
        ConfigurationError: there is no such kind of source, it can't be loaded, or it refuses its table.
    """
    known = _installed()
    if spec.source_type not in known.names:
        raise ConfigurationError(
            f"collection {spec.id!r}: [source] type = {spec.source_type!r} is not installed",
            hint=f"installed are: {', '.join(sorted(known.names)) or 'none'}",
        )
    try:
        factory = cast("SourceFactory", known[spec.source_type].load())
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"collection {spec.id!r}: the source {spec.source_type!r} can't be loaded: {error}",
            hint="install the package that provides it, with what it needs",
        ) from error
    return factory(spec, context)


def create_inspectors(context: SourceContext) -> list[Inspector]:
    """Make the inspectors of all kinds of source that have one, those of paths first. Opens no connection."""
    found = entry_points(group=INSPECTORS)
    names = sorted(found.names, key=lambda name: (name != "files", name == "earthengine", name))
    return [cast("Inspector", found[name].load()(context)) for name in names]


@cache
def _installed() -> EntryPoints:
    """Return the kinds that are installed. Looked for once: it reads files of every package."""
    return entry_points(group=GROUP)
