"""Addresses under which the daemon is reached: Host headers, origins, its public URL, and its proxies."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.ASCII)
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
