"""Small truths about URLs: who the host is, and what of them may be shown."""

from urllib.parse import urlsplit, urlunsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> str:
    """Return ``host`` or ``host:port`` in lower case, without the port that the scheme implies."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    port = parts.port
    return host if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"


def public(url: str) -> str:
    """Return a URL without credentials, query and fragment: signed links must not reach logs or answers."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(url), parts.path, "", ""))


def is_http(url: str) -> bool:
    """Return whether a URL is http or https with a host; a malformed one is not."""
    try:
        return urlsplit(url).scheme in _DEFAULT_PORTS and bool(host_of(url))
    except ValueError:
        return False
