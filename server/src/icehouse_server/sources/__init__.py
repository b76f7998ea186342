"""Where pixels come from: the registry of sources and the STAC source."""

from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.registry import SourceFactory, create_source
from icehouse_server.sources.traffic import HostTraffic, Traffic

__all__ = ["HostTraffic", "SourceContext", "SourceFactory", "Traffic", "create_source"]
