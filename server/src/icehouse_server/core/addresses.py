"""Addresses under which the daemon is reached: Host headers, origins, its public URL, and its proxies."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.ASCII)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MOST_PORT = 65535
_LONGEST_NAME = 253
_LABELS_BELOW = 2
"""Labels behind ``*.``: anyone can have a name below ``*.org``."""
_RIGHT = "write a name or an address, with or without a port: example.org, example.org:8443, *.example.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPattern:
    """Values of the Host header: one name or address, or every name below one."""

    name: str
    """In lower case; an IPv6 address in brackets."""
    port: int | None = None
    """None is any."""
    below: bool = False
    """The names below it, and not itself: ``*.example.org``."""

    def __str__(self) -> str:
        return f"{'*.' if self.below else ''}{self.name}{'' if self.port is None else f':{self.port}'}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``name``, ``name:port``, an address, or ``*.name``.

        Raises:
            ValueError: it is none of these, and can match no Host header.
        """
        wanted = text.strip().lower()
        _refuse_other_things(wanted, text)
        below = wanted.startswith("*.")
        found = _HOST.fullmatch(wanted.removeprefix("*."))
        if found is None or not _is_host(found["name"]):
            raise ValueError(f"{text[:80]!r} is not the name of a host; {_RIGHT}")
        port = None if found["port"] is None else int(found["port"])
        if port is not None and not 0 < port <= _MOST_PORT:
            raise ValueError(f"{text[:80]!r}: a port is a number from 1 to {_MOST_PORT}")
        if below and (found["name"].startswith("[") or found["name"].count(".") + 1 < _LABELS_BELOW):
            raise ValueError(
                f"{text[:80]!r} would match hosts of anyone; name a domain, such as *.example.org"
            )
        return cls(name=found["name"], port=port, below=below)

    def matches(self, host: str) -> bool:
        """Return whether a Host header is meant."""
        found = _HOST.fullmatch(host.lower())
        if found is None or (self.port is not None and found["port"] != str(self.port)):
            return False
        return found["name"].endswith(f".{self.name}") if self.below else found["name"] == self.name


def _refuse_other_things(wanted: str, text: str) -> None:
    """Say what would be right where something else than a host was given.

    Raises:
        ValueError: it is a URL, a path, a network, everything, or not in ASCII.
    """
    if "//" in wanted:
        host = urlsplit(wanted).netloc.rpartition("@")[2]
        raise ValueError(f"{text[:80]!r} is a URL; write its host alone: {host or 'example.org'}")
    if "/" in wanted:
        try:
            ipaddress.ip_network(wanted, strict=False)
        except ValueError:
            raise ValueError(
                f"{text[:80]!r} has a path; write the host alone: {wanted.partition('/')[0] or 'example.org'}"
            ) from None
        raise ValueError(f"{text[:80]!r} is a network; a Host header holds one name or address: list those")
    if wanted in {"*", "0.0.0.0", "::", "[::]"}:  # noqa: S104 - refused
        raise ValueError(f"{text[:80]!r} would stand for every host, which is not accepted; {_RIGHT}")
    if wanted.count(":") > 1 and "[" not in wanted:
        raise ValueError(f"{text[:80]!r}: write an IPv6 address in brackets, as in [{wanted[:45]}]")
    if not wanted.isascii():
        raise ValueError(f"{text[:80]!r}: write the name as browsers send it: {_in_ascii(wanted)}")


def _in_ascii(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return "xn--..."


def _is_host(name: str) -> bool:
    if name.startswith("["):
        return _address(name[1:-1]) == name
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def _address(text: str) -> str | None:
    """Return an address as a Host header has it; None where it is not an address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None:
        return str(mapped)
    return f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)


def host_of_address(address: str | None) -> str | None:
    """Return what the Host header holds where an address is asked by its number; None for a name.

    An IPv4 address that an IPv6 socket shows as ``::ffff:192.0.2.1`` is the IPv4 address.
    """
    return None if address is None else _address(address)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicUrl:
    """The URL under which clients reach the daemon: what its links begin with."""

    scheme: str
    host: str
    """With its port, where it is not the scheme's own."""
    prefix: str = ""
    """The path in front of the daemon's own paths: ``/icehouse``. A proxy takes it away."""

    def __str__(self) -> str:
        return f"{self.origin}{self.prefix}"

    @property
    def origin(self) -> str:
        """What a browser sends as the Origin of the daemon's own page."""
        return f"{self.scheme}://{self.host}"

    @property
    def name(self) -> str:
        """The host without its port."""
        found = _HOST.fullmatch(self.host)
        return self.host if found is None else found["name"]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URL with a host and perhaps a path; a slash at its end does not count.

        Raises:
            ValueError: it is not such a URL.
        """
        parts = urlsplit(text.strip())
        if parts.scheme not in _DEFAULT_PORTS or not parts.netloc or "@" in parts.netloc:
            raise ValueError(f"{text[:80]!r} is not a URL such as https://example.org/icehouse")
        if parts.query or parts.fragment:
            raise ValueError(f"{text[:80]!r}: write it without what follows ? or #")
        return cls(
            scheme=parts.scheme,
            host=normal_host(parts.netloc, parts.scheme),
            prefix=parse_prefix(parts.path),
        )


def normal_host(text: str, scheme: str) -> str:
    """Return a host in lower case, without the port that its scheme has anyway.

    Raises:
        ValueError: it is not a host.
    """
    found = _HOST.fullmatch(text.strip().lower())
    if found is None or not _is_host(found["name"]):
        raise ValueError(f"{text[:80]!r} is not a host, such as example.org or example.org:8443")
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 0 < port <= _MOST_PORT:
        raise ValueError(f"{text[:80]!r}: a port is a number from 1 to {_MOST_PORT}")
    return found["name"] if port in {None, _DEFAULT_PORTS.get(scheme)} else f"{found['name']}:{port}"


def parse_prefix(path: str) -> str:
    """Return the path in front of the daemon's own paths, without a slash at its end.

    Raises:
        ValueError: it holds something that a path of plain words does not.
    """
    prefix = path.strip().rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{path[:80]!r} is not a path of letters, digits and -._~, such as /icehouse")
    return prefix


def parse_origin(text: str) -> str:
    """Return an origin as browsers send it.

    Raises:
        ValueError: it is not one origin.
    """
    wanted = text.strip()
    if wanted in {"*", "null"}:
        raise ValueError(
            f"{wanted!r} would let any page read; name the origins, such as https://maps.example.org"
        )
    parts = urlsplit(wanted)
    if parts.scheme not in _DEFAULT_PORTS or not parts.netloc or "@" in parts.netloc:
        raise ValueError(f"{text[:80]!r} is not an origin such as https://maps.example.org")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(
            f"{text[:80]!r}: an origin has no path; write {parts.scheme}://{parts.netloc.lower()}"
        )
    return f"{parts.scheme}://{normal_host(parts.netloc, parts.scheme)}"


def parse_network(text: str) -> Network:
    """Read an address, or a network as CIDR.

    Raises:
        ValueError: it is neither, or it holds every address.
    """
    try:
        network = ipaddress.ip_network(text.strip().strip("[]"), strict=False)
    except ValueError:
        raise ValueError(
            f"{text[:80]!r} is neither an address nor a network, such as 127.0.0.1 or 10.0.0.0/8"
        ) from None
    if not network.prefixlen:
        raise ValueError(f"{text[:80]!r} would trust whatever any client says of itself; name the proxies")
    return network


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Return whether an address belongs to one of some networks; what is not an address belongs to none."""
    host = _address(address)
    if host is None:
        return False
    known = ipaddress.ip_address(host.strip("[]"))
    return any(known in network for network in networks)


def stays_on_this_machine(host: str) -> bool:
    """Return whether a host, without its port, can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
