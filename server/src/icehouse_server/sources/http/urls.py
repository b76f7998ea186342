"""Small truths about URLs: who the host is, what of them may be shown, which of them may be asked."""

import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, unquote, urljoin, urlsplit, urlunsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""Host names as every parser reads them. An international name is written in its ASCII form."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Buckets that can be part of a host's name; one with a dot has no certificate there."""

_ODD = re.compile(r"^ |[\x00-\x1f\x7f\\]")
"""Characters that parsers disagree about."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

_VSI = {
    "/vsicurl/": "",
    "/vsicurl_streaming/": "",
    "/vsis3/": "s3://",
    "/vsis3_streaming/": "s3://",
    "/vsigs/": "gs://",
    "/vsigs_streaming/": "gs://",
}
"""Prefixes by which GDAL names file systems of the network, and what a URL has in their place."""

_SHOWN = 255
"""Characters of a host that may be shown."""


def host_of(url: str) -> str:
    """Return ``host`` or ``host:port`` in lower case, without the port that the scheme implies.

    An IPv6 address stays in its brackets, as ``[::1]:80`` and ``[::1:80]`` are not the same.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    port = parts.port
    return host if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"


def public(url: str) -> str:
    """Return a URL without credentials, query and fragment: signed links must not reach logs or answers."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(url)[:_SHOWN], parts.path, "", ""))


def is_http(url: str) -> bool:
    """Return whether a URL is http or https with a host; a malformed one is not."""
    try:
        return urlsplit(url).scheme in _DEFAULT_PORTS and bool(host_of(url))
    except ValueError:
        return False


def is_malformed(url: str) -> str:
    """Return what is crooked about the text of a URL, or an empty string.

    ``..`` would leave the folder that a mirror stands for.
    """
    if _ODD.search(url):
        return "it has control characters or backslashes"
    path = url.partition("?")[0].partition("#")[0]
    return "its path has '..'" if ".." in re.split(r"[/\\]", unquote(unquote(path))) else ""


def url_error(url: str) -> str:
    """Return what makes a URL unfit to be asked for, or an empty string.

    What parsers read in more than one way is refused, so that the host that was judged is the one asked.
    """
    if fault := is_malformed(url):
        return fault
    if not is_http(url):
        return "it is not http or https, or is malformed"
    parts = urlsplit(url)
    if "@" in parts.netloc:
        return "it carries credentials"
    return "" if _plain_host(parts.hostname or "") else "its host is malformed"


def _plain_host(host: str) -> bool:
    if ":" not in host:
        return len(host) <= _SHOWN and bool(_NAME.fullmatch(host))
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def s3_url(url: str, region: str) -> str:
    """Return where an object of S3, ``s3://bucket/key``, is read without credentials.

    Raises:
        ValueError: the bucket has no name of its own on the web.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("its bucket is not a valid host name; a mirror can map it to https")
    return f"https://{bucket}.s3.{region}.amazonaws.com/{quote(key, safe='/')}"


def without_vsi(href: str) -> str:
    """Return an href without the prefix by which GDAL names a file system of the network."""
    for prefix, scheme in _VSI.items():
        if href.startswith(prefix):
            return scheme + href.removeprefix(prefix)
    return href


def resolved(href: str, base: str) -> str:
    """Return an href as an absolute URL, whatever the scheme of what it is relative to.

    What is absolute already, or can't be made so, stays as it is.
    """
    if _SCHEME.match(href) or _ODD.search(href):
        return href
    try:
        parts = urlsplit(base)
        # Of the schemes in use urljoin knows http alone.
        http = urlunsplit(("http", *parts[1:]))
        joined = urljoin(http, href)
    except ValueError:
        return href
    return parts.scheme + joined.removeprefix("http") if parts.scheme and parts.netloc else href


def expiry_of(url: str) -> float | None:
    """Return when a signed URL ends, in seconds since 1970, or None where it says nothing of it.

    Understood are the presigned URLs of S3 and Google (a date and a number of seconds, or ``Expires``) and
    the shared access signatures of Azure (``se``).
    """
    try:
        query = urlsplit(url).query
        return _expiry({key.lower(): values[-1] for key, values in parse_qs(query).items()})
    except (KeyError, ValueError, OverflowError):
        return None


def _expiry(query: Mapping[str, str]) -> float | None:
    for vendor in ("x-amz", "x-goog"):
        if f"{vendor}-expires" in query:
            begin = datetime.strptime(query[f"{vendor}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return begin.timestamp() + float(query[f"{vendor}-expires"])
    if "sig" in query and "se" in query:
        end = datetime.fromisoformat(query["se"])
        return end.replace(tzinfo=end.tzinfo or UTC).timestamp()
    return float(query["expires"]) if "expires" in query and "signature" in query else None


def encoded(url: str) -> str:
    """Return a URL in ASCII; what is encoded already stays as it is, as links may be signed."""
    return quote(url, safe="%/:?#[]@!$&'()*+,;=~")


def mirrored(url: str, mirrors: Mapping[str, str]) -> str | None:
    """Return the counterpart of a URL under the longest prefix that covers it, or None.

    A prefix ends where a segment of the URL ends: ``https://a.org`` covers neither ``https://a.org.evil/``
    nor ``https://a.org:81/``. A slash at its end makes no difference: ``https://a.org/v1/`` covers
    ``https://a.org/v1`` too.
    """
    prefix = max((prefix for prefix in mirrors if _covers(prefix, url)), key=len, default=None)
    if prefix is None:
        return None
    return mirrors[prefix].removesuffix("/") + url[len(prefix.removesuffix("/")) :]


def _covers(prefix: str, url: str) -> bool:
    base = prefix.removesuffix("/")
    return url.startswith(base) and (len(url) == len(base) or url[len(base)] in "/?#")
