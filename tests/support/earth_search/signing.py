"""Links that expire: S3's presigned ones and Azure's shared access signatures, much simplified."""

from __future__ import annotations

import base64
import hashlib
import hmac
import urllib.parse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

type Form = Literal["s3", "sas"]

_SECRET: Final = b"icehouse-stand-in"
_S3_TIME: Final = "%Y%m%dT%H%M%SZ"
_SAS_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(slots=True)
class Clock:
    """The time of a stand-in server, which a test can move on."""

    ahead: float = 0.0
    """Seconds before the machine's own clock."""

    def now(self) -> datetime:
        """The time, UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead)


def signed(url: str, form: Form, *, now: datetime, lifetime: int) -> str:
    """A URL with a signature that holds for `lifetime` seconds."""
    path = urllib.parse.urlsplit(url).path
    if form == "s3":
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Date": now.strftime(_S3_TIME),
            "X-Amz-Expires": str(lifetime),
            "X-Amz-SignedHeaders": "host",
        }
        query["X-Amz-Signature"] = _digest(path, query["X-Amz-Date"], query["X-Amz-Expires"]).hex()
    else:
        end = (now + timedelta(seconds=lifetime)).strftime(_SAS_TIME)
        query = {"se": end, "sp": "rl", "sv": "2021-06-08", "sr": "c", "sig": _text(_digest(path, end))}
    return f"{url}?{urllib.parse.urlencode(query)}"


def refusal(path: str, query: Mapping[str, str], *, now: datetime) -> tuple[str, str] | None:
    """Code and message of the 403 that a request for a private object deserves, or None.

    Args:
        path: The path that was signed: that of the published URL, with a slash at the start.
        query: The request's parameters.
        now: The server's time.
    """
    if "X-Amz-Signature" in query:
        begin, seconds = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
        if not hmac.compare_digest(query["X-Amz-Signature"], _digest(path, begin, seconds).hex()):
            return "SignatureDoesNotMatch", "The request signature we calculated does not match"
        end = _time(begin, _S3_TIME) + timedelta(seconds=int(seconds))
        return None if now < end else ("AccessDenied", "Request has expired")
    if "sig" in query:
        text = query.get("se", "")
        if not hmac.compare_digest(query["sig"], _text(_digest(path, text))):
            return "AuthenticationFailed", "Signature did not match"
        return (
            None if now < _time(text, _SAS_TIME) else ("AuthenticationFailed", "Signature not valid in time")
        )
    return "AccessDenied", "Access Denied"


def _digest(*parts: str) -> bytes:
    return hmac.new(_SECRET, "\n".join(parts).encode(), hashlib.sha256).digest()


def _text(digest: bytes) -> str:
    """As Azure writes it: with characters that must be escaped in a URL."""
    return base64.b64encode(digest).decode()


def _time(text: str, form: str) -> datetime:
    return datetime.strptime(text, form).replace(tzinfo=UTC)
