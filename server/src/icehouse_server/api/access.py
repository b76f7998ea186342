"""Under which addresses the API is reached, and by whom: values that the composition root makes."""

from dataclasses import dataclass

from starlette.types import Scope

from icehouse_server.core.addresses import HostPattern, Network, PublicUrl

_KEY = "icehouse.public_url"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Under which addresses the API is reached, and by whom."""

    allowed_hosts: tuple[HostPattern, ...] = ()
    """Values of the Host header in addition to those of loopback."""
    name: str | None = None
    """What the daemon listens on, where that is a name and not an address."""
    public_url: PublicUrl | None = None
    """What links begin with; None is what the request says."""
    trusted_proxies: tuple[Network, ...] = ()
    """Whose forwarded headers count."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may read."""


def put_public_url(scope: Scope, url: PublicUrl) -> None:
    """Note under which URL the client of a request reached the daemon."""
    scope[_KEY] = url


def public_url(scope: Scope) -> PublicUrl | None:
    """Return under which URL the client reached the daemon; None where only the request itself says it."""
    found: PublicUrl | None = scope.get(_KEY)
    return found
