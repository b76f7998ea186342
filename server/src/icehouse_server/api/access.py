"""Under which addresses the API is reached, and by whom: values that the composition root makes."""

from dataclasses import dataclass

from icehouse_server.core.addresses import HostPattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Under which addresses the API is reached, and by whom."""

    allowed_hosts: tuple[HostPattern, ...] = ()
    """Values of the Host header in addition to those of loopback."""
    name: str | None = None
    """What the daemon listens on, where that is a name and not an address."""
