"""How a daemon is started and ended as a process, with small programs in its place."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icehouse_server.testing.daemon import DaemonProcess, DaemonStartError

READY = 'print("Icehouse is ready at http://127.0.0.1:4711", flush=True)\n'
TOLD = """import json, os, sys
reported = [sys.argv[1:], os.getcwd(), dict(os.environ)]
print(json.dumps(reported), file=sys.stderr, flush=True)
"""
NO_END = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
STAY = "import signal\nsignal.pause()\n"


@pytest.fixture
def stand_in(tmp_path):
    """Makes a daemon that is the program given: `stand_in(program, option=value)`."""

    def make(program, **options):
        (tmp_path / "stand_in.py").write_text(program)
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        options = {"variables": {}, "command": ("stand_in", "serve"), **options}
        variables = {**options.pop("variables"), "PYTHONPATH": str(tmp_path)}
        return DaemonProcess(log=tmp_path / "log", home=home, variables=variables, **options)

    return make


def test_settings_are_those_given_and_no_others(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("ICEHOUSE_TOKEN", "of the user")
    monkeypatch.setenv("ICEHOUSE_PORT", "9")
    settings = {"mirrors": {"a": "b"}, "failure_ttl": 0, "collections": "one,two"}
    daemon = stand_in(
        TOLD + READY + STAY,
        cache=tmp_path / "cache",
        settings=settings,
        variables={"ICEHOUSE_LOG_LEVEL": "x"},
    )
    with daemon:
        words, folder, variables = json.loads(daemon.log.read_text())
        assert (daemon.url, daemon.port) == ("http://127.0.0.1:4711", 4711)
        assert daemon.start_seconds > 0
        memory = daemon.memory()
        assert memory["peak"] >= memory["rss"] > 1
    assert words == ["serve", "--port", "0", "--cache-dir", str(tmp_path / "cache")]
    assert folder == variables["HOME"] == variables["XDG_CONFIG_HOME"] == str(tmp_path / "home")
    assert {name: value for name, value in variables.items() if name.startswith("ICEHOUSE_")} == {
        "ICEHOUSE_MIRRORS": '{"a": "b"}',
        "ICEHOUSE_FAILURE_TTL": "0",
        "ICEHOUSE_COLLECTIONS": "one,two",
        "ICEHOUSE_LOG_LEVEL": "x",
    }


def test_one_that_ends_instead_of_getting_ready_says_why(stand_in):
    daemon = stand_in("import sys\nsys.exit('the cache folder is a teapot')")
    with pytest.raises(DaemonStartError, match=r"(?s)ended with status 1.*a teapot"), daemon:
        pass
    with pytest.raises(DaemonStartError, match="not ready"):
        _ = daemon.url
    assert not daemon.alive


def test_one_that_is_silent_is_killed_at_the_deadline(stand_in):
    daemon = stand_in(NO_END + STAY, deadline=0.1)
    with pytest.raises(DaemonStartError, match=r"not ready after 0\.1 s"):
        daemon.start()
    assert daemon.wait() == -signal.SIGKILL


def test_it_is_ended_by_sigterm_and_killed_if_it_does_not_end(stand_in):
    with stand_in(READY + STAY) as daemon:
        assert daemon.alive
        assert daemon.stop() == -signal.SIGTERM
        assert not daemon.alive
    with stand_in(NO_END + READY + STAY) as daemon:
        assert daemon.stop(0.1) == -signal.SIGKILL


def test_a_block_that_fails_ends_it(stand_in):
    with pytest.raises(ZeroDivisionError), stand_in(READY + STAY) as daemon:
        _ = 1 / 0
    assert daemon.wait() == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="the tie is one of Linux")
def test_it_goes_with_a_parent_that_is_killed(stand_in, tmp_path):
    stand_in(READY + STAY)
    parent = """if True:
        from icehouse_server.testing.daemon import DaemonProcess
        import time
        print(DaemonProcess(command=("stand_in",)).start().pid, flush=True)
        time.sleep(100)"""
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        pid = int(process.stdout.readline())
        process.kill()
    end = time.monotonic() + 60
    while runs(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def runs(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # a zombie that no caller waits for
