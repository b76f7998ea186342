"""The daemon's token, as the environment has it.

It is looked up for each request and kept nowhere: a pickled client does not carry it to other machines, and a
new one in the file counts from the next request on. The command line of the daemon uses this as well.
"""

from __future__ import annotations

import os

from icehouse._errors import BadParameter

_LONGEST_FILE = 4096


def check_token(token: str, name: str) -> str:
    """The token, if it can be sent in a header.

    Raises:
        BadParameter: it can't; names `name`, and never shows the token.
    """
    if not (token.isascii() and token.isprintable() and token.strip()):
        raise BadParameter(f"{name}: must be printable ASCII")
    return token


def environment_token() -> str | None:
    """The token of `ICEHOUSE_TOKEN`, else of the file that `ICEHOUSE_TOKEN_FILE` names, else None.

    Raises:
        BadParameter: the file can't be read, or it does not hold a token.
    """
    token = os.environ.get("ICEHOUSE_TOKEN")
    if token:
        return check_token(token, "ICEHOUSE_TOKEN")
    path = os.environ.get("ICEHOUSE_TOKEN_FILE")
    if not path:
        return None
    try:
        with open(os.path.expanduser(path), "rb") as file:  # noqa: PTH123, PTH111 - pathlib takes a while to import
            text = file.read(_LONGEST_FILE).decode("ascii", "replace")
    except OSError as error:
        raise BadParameter(f"ICEHOUSE_TOKEN_FILE: {path} can't be read ({error.strerror})") from None
    return check_token(text.strip(), f"ICEHOUSE_TOKEN_FILE: the token in {path}")
