"""Where a source may be led: the hosts that its collection file or a mirror vouches for, and no others.

Documents and redirects come from the network. They must not send the daemon to whatever address of this
machine or its network they like (server-side request forgery). Nothing is resolved to decide: a host is
named by whoever configures the daemon, in exactly that spelling, or it is not asked. So an address in
another notation, a name that resolves to a private address, and any host of the internet are refused alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin

from icehouse_server.core.errors import SourceRefusedError
from icehouse_server.sources.http.urls import (
    encoded,
    host_of,
    is_malformed,
    mirrored,
    public,
    s3_url,
    url_error,
)

_SHOWN = 100
"""Characters of a host that an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedHosts:
    """What a collection may ask for. The default lets a host redirect to itself alone."""

    hosts: frozenset[str] = frozenset()
    """``name`` or ``name:port`` in lower case, in the spelling of ``host_of``."""
    mirrors: Mapping[str, str] = field(default_factory=dict)
    """URL prefix to the prefix to ask instead; who sets a mirror trusts it."""
    s3_region: str | None = None
    """Where the buckets of s3:// hrefs are; None where none are expected."""

    def url_of(self, href: str, *, item: str) -> str:
        """Return the URL to ask for an href of a document: mirrors applied.

        Raises:
            SourceRefusedError: no collection file or mirror names its host, or it is not a plain http URL.
        """
        if href.startswith("s3://") and mirrored(href, self.mirrors) is None:
            href = self._of_bucket(href, item)
        url = mirrored(href, self.mirrors)
        if fault := url_error(href) if url is None else is_malformed(href):
            raise SourceRefusedError(
                f"item {item!r}: the href of an asset can't be asked for: {fault}",
                item=item,
                hint="a mirror can map other schemes to https",
            )
        if url is None and host_of(href) not in self.hosts:
            raise SourceRefusedError(
                f"item {item!r} points to {host_of(href)[:_SHOWN]!r}, which the collection does not name",
                item=item,
                href=public(href),
                hint=hint_for(href),
            )
        return encoded(href if url is None else url)

    def _of_bucket(self, href: str, item: str) -> str:
        if self.s3_region is None:
            raise SourceRefusedError(
                f"item {item!r}: an href is of S3, and the collection does not say in which region",
                item=item,
                hint='add s3_region under [source], as in s3_region = "us-west-2", or a mirror for s3://',
            )
        try:
            return s3_url(href, self.s3_region)
        except ValueError as error:
            raise SourceRefusedError(
                f"item {item!r}: the href of an asset can't be asked for: {error}", item=item
            ) from error

    def follow(self, url: str, location: str, *, item: str = "") -> str:
        """Return where a redirect leads: on the same host, or where an href may point to.

        Args:
            url: what was asked for.
            location: the redirect's Location header, absolute or relative.
            item: id for the error.

        Raises:
            SourceRefusedError: no collection file or mirror names the host, or it is not a plain http URL.
        """
        target = _joined(url, location)
        fault = url_error(target)
        if not fault and host_of(target) == host_of(url):
            return encoded(target)
        other = mirrored(target, self.mirrors)
        if not fault and (other is not None or host_of(target) in self.hosts):
            return encoded(target if other is None else other)
        where = "where nothing can be asked" if fault else f"to {host_of(target)[:_SHOWN]!r}"
        raise SourceRefusedError(
            f"item {item!r}: {host_of(url)!r} redirects {where}, "
            + (fault or "which the collection does not name"),
            item=item,
            href=public(url),
            hint="" if fault else hint_for(target),
        )

    def reaches(self, url: str) -> bool:
        """Return whether the host of a URL is named."""
        return not url_error(url) and host_of(url) in self.hosts


def hint_for(url: str) -> str:
    """Return what to write where the host of a URL is right."""
    return f'if that is right, add the host under [source]: asset_hosts = ["{host_of(url)[:_SHOWN]}"]'


def _joined(url: str, location: str) -> str:
    """Return an absolute URL, or the location as it is where none can be made."""
    if is_malformed(location):  # before joining, which takes dots and newlines away
        return location
    try:
        return urljoin(url, location)
    except ValueError:
        return location
