"""Pages of the documentation as values, and the daemon that their examples speak to."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from icehouse_server.testing.daemon import DaemonProcess, environment

ROOT = Path(__file__).parents[2]
START_SECONDS = 90
BLOCK_SECONDS = 120
"""Far more than an example takes on a busy machine."""

_PARTS = re.compile(
    r"^<!-- (?P<mark>[^\n]*?) -->$|^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")
_STARTS = re.compile(r"icehouse (serve|demo --keep)\b[^\n|&;]*\n?")
_ADDRESS = re.compile(r"\b(?:localhost|127\.0\.0\.1):4326\b")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block, and the comment above it."""

    language: str
    code: str
    line: int
    mark: str = ""
    """What a comment right above says, such as `not run: needs Docker`."""

    @property
    def file(self):
        """The file that the block is, where its first line is a comment with a file's name."""
        found = _FILE.match(self.code)
        return found[1] if found else None


@dataclass(frozen=True, kw_only=True)
class Page:
    """One Markdown file."""

    path: Path

    def __str__(self):
        return str(self.path.relative_to(ROOT))

    @property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    def blocks(self):
        """Blocks from top to bottom; a comment that nothing follows directly is a block without language."""
        text, mark, end = self.text, None, 0
        for part in _PARTS.finditer(text):
            line = text.count("\n", 0, part.start()) + 1
            if mark is not None and text[end : part.start()].strip():
                yield mark
                mark = None
            if part["mark"] is not None:
                mark, end = Block(language="", code="", line=line, mark=part["mark"]), part.end()
                continue
            above = mark.mark if mark else ""
            yield Block(language=part["language"], code=part["code"], line=line, mark=above)
            mark = None
        if mark is not None:
            yield mark


def all_pages():
    """Every page that people read."""
    named = [ROOT / name for name in ("README.md", "client/README.md", "server/README.md")]
    return [Page(path=path) for path in [*named, *sorted((ROOT / "docs").rglob("*.md"))]]


@pytest.fixture(scope="session")
def pages():
    return all_pages()


@pytest.fixture(scope="session")
def page_of():
    """Makes a page by its path in the repository."""
    return lambda path: Page(path=ROOT / path)


def pytest_generate_tests(metafunc):
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", all_pages(), ids=str)


_DRIVER = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
names = {"__name__": "__main__"}
for line in sys.stdin:
    code, place = json.loads(line)
    try:
        exec(compile(code, place, "exec"), names)
        answers.write(json.dumps("") + chr(10))
    except BaseException:
        answers.write(json.dumps(traceback.format_exc()) + chr(10))
    answers.flush()
"""


class Runner:
    """Runs the blocks of one page, in one folder: one Python from top to bottom, a shell for each block."""

    def __init__(self, folder, url, mirrors, earth_engine=None):
        self.folder = folder
        self.url = url
        self.world = {"ICEHOUSE_MIRRORS": json.dumps(mirrors)}
        """Settings of those that ask sources: the stand-ins in place of the real services."""
        if earth_engine is not None:
            self.world |= {
                "ICEHOUSE_EARTHENGINE_URL": earth_engine.url,
                "ICEHOUSE_EARTHENGINE_CREDENTIALS": "none",
            }
        self.packages = {}
        """Where packages of the page are found, once there is one."""
        self.daemon = None
        self.python = None
        self.home = folder / "home"
        self.home.mkdir()
        # An answer that is an error must not look like success; see `refused` for those that are meant.
        self.strict = folder / "strict"
        self.strict.mkdir()
        (self.strict / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")

    def environment(self, **more):
        kept = environment({"url": self.url}, home=self.home)
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        return {**kept, "PATH": path, **self.packages, **more}

    def run(self, block, place):
        """Run one block as its mark says.

        Raises:
            AssertionError: it fails.
        """
        if block.mark == "the daemon is stopped here":
            self.stop()
        elif block.mark.startswith("not run:"):
            return
        elif block.mark == "installed as pip would":
            self.install(tomllib.loads(block.code))
            return
        if block.file:
            (self.folder / block.file).parent.mkdir(exist_ok=True)
            (self.folder / block.file).write_text(block.code)
        elif block.language == "python":
            self.run_python(block, place)
        elif block.code == "icehouse serve\n":
            pass  # that is what the session's daemon was started with
        elif block.language == "sh" and _STARTS.fullmatch(block.code):
            self.start(block.code)
        elif block.language == "sh":
            self.run_shell(block, place)

    def install(self, project):
        """Let a package's entry points be found: what pip leaves next to its modules, in the page's
        folder."""
        name, version = project["project"]["name"], project["project"]["version"]
        lines = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"]
        for group, points in project["project"]["entry-points"].items():
            lines.append("\n".join([f"[{group}]", *(f"{key} = {place}" for key, place in points.items())]))
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(lines[0])
        (info / "entry_points.txt").write_text("\n".join(lines[1:]))
        self.packages = {"PYTHONPATH": str(self.folder)}

    def run_python(self, block, place):
        if self.python is None:
            self.python = subprocess.Popen(
                [sys.executable, "-c", _DRIVER],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        # The blank lines let a traceback name the page's own line.
        code = "\n" * block.line + self.addressed(block.code)
        self.python.stdin.write(json.dumps([code, place]) + "\n")
        self.python.stdin.flush()
        ready = select.select([self.python.stdout], [], [], BLOCK_SECONDS)[0]
        assert ready, f"{place}:{block.line}: no end in {BLOCK_SECONDS} s"
        problem = json.loads(self.python.stdout.readline() or '"the interpreter ended"')
        assert not problem, f"{place}:{block.line}\n{problem}"

    def run_shell(self, block, place):
        refused = block.mark == "refused"
        asks = "collections check" in block.code or " --from " in block.code
        world = self.world if asks else {}
        done = subprocess.run(
            ["sh", "-eu", "-c", self.addressed(block.code)],
            cwd=self.folder,
            env=self.environment(**({} if refused else {"CURL_HOME": str(self.strict)}), **world),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )
        said = f"{place}:{block.line}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        assert not refused or '"kind":' in done.stdout, said

    def addressed(self, code):
        return _ADDRESS.sub(self.url.removeprefix("http://"), code)

    def start(self, command):
        """Start a daemon as the page says, on a free port and against the stand-ins."""
        self.stop()
        words = shlex.split(command)[1:]
        words = words[2:] if words[0] == "demo" else words[1:]
        if "--port" in words:
            del words[words.index("--port") : words.index("--port") + 2]
        daemon = DaemonProcess(
            command=("icehouse_server", "serve", *words),
            log=self.folder / "daemon.log",
            home=self.folder,
            variables=self.environment(**self.world),
        )
        self.daemon = daemon.start()
        self.url = daemon.url

    def stop(self):
        """Stop the page's daemon as Ctrl-C does."""
        if self.daemon is None:
            return
        self.daemon.signal(signal.SIGINT)
        try:
            assert self.daemon.wait() == 0, self.daemon.log.read_text()
        finally:
            self.daemon.close()
            self.daemon = None

    def close(self):
        if self.python is not None:
            self.python.stdin.close()
            try:
                self.python.wait(START_SECONDS)
            finally:
                self.python.kill()
                self.python.stdout.close()
        self.stop()


@pytest.fixture(scope="session")
def daemon_url(tmp_path_factory, standins):
    """One daemon with the built-in collections, for pages that start none of their own."""
    folder = tmp_path_factory.mktemp("docs-daemon")
    runner = Runner(folder, "", standins.mirrors)
    runner.start("icehouse serve --cache-dir cache")
    yield runner.url
    runner.close()


@pytest.fixture
def runner(tmp_path, daemon_url, standins, earth_engine):
    """Runs the blocks of one page."""
    made = Runner(tmp_path, daemon_url, standins.mirrors, earth_engine)
    yield made
    made.close()
