"""Questions of the command line to a running daemon."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from icehouse import BadParameter
from icehouse._token import environment_token
from icehouse_server.core.errors import IcehouseError

_PIECE = 1 << 20


class DaemonError(IcehouseError):
    """The daemon refused, failed, or is not there."""

    kind = "daemon"


class Daemon:
    """A daemon at a URL: the one given, else ``ICEHOUSE_URL``, else the default.

    Its token is that of ``ICEHOUSE_TOKEN``, else of the file that ``ICEHOUSE_TOKEN_FILE`` names.
    """

    def __init__(self, url: str | None) -> None:
        self.url = (url or os.environ.get("ICEHOUSE_URL") or "http://127.0.0.1:4326").rstrip("/")

    def get(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: tuple[int, ...] = (200,)
    ) -> Any:  # noqa: ANN401 - JSON
        """GET a JSON document.

        Raises:
            DaemonError: there is no daemon, or it refused.
        """
        return self.ask("GET", path, query, accept=accept)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        accept: tuple[int, ...] = (200,),
    ) -> Any:  # noqa: ANN401 - JSON
        """Ask for a JSON document by any method, without a body.

        Raises:
            DaemonError: there is no daemon, or it refused.
        """
        with self._reached(), self._connected(httpx.Timeout(60)) as client:
            answer = client.request(method, self.url + path, params=query)
        if answer.status_code not in accept:
            raise _refusal(answer)
        return answer.json()

    def download(
        self, path: str, query: Mapping[str, str], to: Path, progress: Callable[[int, int], None]
    ) -> tuple[int, str]:
        """Stream an answer into a temporary file next to its target, then rename it: no partial file is left.

        Args:
            path: what to ask for.
            query: its parameters.
            to: the file.
            progress: called with (bytes so far, bytes in all).

        Returns:
            Size of the file, and Cache-Status.

        Raises:
            DaemonError: there is no daemon, or it refused, or the region lies outside.
        """
        draft = to.with_name(f"{to.name}.part")
        try:
            with (
                self._reached(),
                # The daemon has a deadline for everything; only the connection is timed here.
                self._connected(httpx.Timeout(None, connect=10)) as client,
                client.stream("GET", self.url + path, params=query) as answer,
            ):
                _check(answer)
                total, got = int(answer.headers["content-length"]), 0
                with draft.open("wb") as file:
                    for piece in answer.iter_bytes(_PIECE):
                        file.write(piece)
                        got += len(piece)
                        progress(got, total)
            draft.replace(to)
            return got, answer.headers.get("cache-status", "")
        finally:
            draft.unlink(missing_ok=True)

    def _connected(self, timeout: httpx.Timeout) -> httpx.Client:
        try:
            token = environment_token()
        except BadParameter as error:
            raise DaemonError(str(error)) from None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # A proxy that the environment names would read along on http://; the client asks none, either.
        proxies = self.url.startswith("https:")
        return httpx.Client(headers=headers, timeout=timeout, follow_redirects=False, trust_env=proxies)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError:
            raise DaemonError(
                f"no Icehouse daemon answers at {self.url}",
                hint="start one with `icehouse serve` or `docker compose up`, or set ICEHOUSE_URL",
            ) from None
        except httpx.HTTPError as error:
            raise DaemonError(f"the daemon at {self.url} did not finish its answer: {error!r}") from None


def _check(answer: httpx.Response) -> None:
    if answer.status_code != httpx.codes.OK:
        answer.read()
        raise _refusal(answer)


def _refusal(answer: httpx.Response) -> DaemonError:
    if answer.status_code == httpx.codes.NO_CONTENT:
        return DaemonError(
            "the region lies outside the collection", hint="icehouse collections --json says where it is"
        )
    try:
        document = answer.json()
        return DaemonError(document["detail"], hint=document.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        return DaemonError(
            f"what answers at {answer.url} is not an Icehouse daemon (status {answer.status_code})"
        )
