"""Where pixels come from: the registry of sources, and the sources that come built in."""

from icehouse_server.core.limits import EarthEngineSettings
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.http.host_traffic import HostTraffic, Traffic
from icehouse_server.sources.registry import SourceFactory, create_inspectors, create_source

__all__ = [
    "EarthEngineSettings",
    "HostTraffic",
    "SourceContext",
    "SourceFactory",
    "Traffic",
    "create_inspectors",
    "create_source",
]
