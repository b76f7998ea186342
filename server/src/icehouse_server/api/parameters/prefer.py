"""The header ``Prefer`` (RFC 7240): what a caller would like to have done with what takes long."""

import re
from dataclasses import dataclass

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,6})\"?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """What a caller would like."""

    respond_async: bool = False
    """To be answered with a job where the answer takes long."""
    wait: int | None = None
    """Seconds to wait for it first."""

    @property
    def given(self) -> bool:
        """True where anything is preferred that we know of."""
        return self.respond_async or self.wait is not None

    @property
    def applied(self) -> str:
        """What ``Preference-Applied`` says where a job is the answer."""
        words = ["respond-async"] if self.respond_async else []
        return ", ".join(words if self.wait is None else [*words, f"wait={self.wait}"])


def parse_prefer(headers: list[str]) -> Preference:
    """Read the values of the header; what is unknown or malformed is passed over, as the RFC asks."""
    found = Preference()
    for part in ",".join(headers).split(","):
        word = part.partition(";")[0].strip()
        if word.lower() == "respond-async":
            found = Preference(respond_async=True, wait=found.wait)
        elif (wait := _WAIT.fullmatch(word)) is not None and found.wait is None:
            found = Preference(respond_async=found.respond_async, wait=int(wait[1]))
    return found
