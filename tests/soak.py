"""The long run: the tests that look at random, again and again with other seeds, until the time is up.

``python tests/soak.py --minutes 60`` runs rounds of four parts and prints what each did. A part that
has begun is let finish. The exit status is 1 where anything failed; the command that repeats it is printed.
"""

# ruff: noqa: T201 - it talks to who waits for it

from __future__ import annotations

import argparse
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

TESTS = Path(__file__).parent
MACHINE = "tests/property/test_store_machine.py"


@dataclass(frozen=True)
class Part:
    """Tests that are run together."""

    name: str
    profile: str
    words: tuple[str, ...]


PARTS = (
    Part("state machine", "soak", (MACHINE,)),
    Part(
        "kills",
        "soak",
        (
            "tests/faults/test_kills.py",
            "tests/integration/test_kills.py",
            "tests/integration/test_endings.py",
        ),
    ),
    Part(
        "parsers and arithmetic",
        "soak",
        (
            "tests/property",
            "tests/contract/http/test_api_fire.py",
            "tests/contract/http/test_nonsense.py",
            f"--ignore={MACHINE}",
        ),
    ),
    Part("faults", "soak", ("tests/faults", "--ignore=tests/faults/test_kills.py")),
)


def run(part, seed, jobs, folder):
    """Run a part, and count what it did; its output is shown where it failed."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    words = ["-q", *part.words, f"--hypothesis-seed={seed}", f"--randomly-seed={seed}"]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": part.profile, "ICEHOUSE_TEST_SEED": str(seed)}
    extra = ["--hypothesis-show-statistics", f"--junitxml={report}", "-n", str(jobs), "--dist", "loadfile"]
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *extra],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = Counter(seconds=round(time.monotonic() - begun), failures=0)
    found["examples"] = sum(map(int, re.findall(r"- (\d+) passing,", ended.stdout)))
    for case in ET.parse(report).iter("testcase") if report.exists() else ():
        found["tests"] += 1
        found["failures"] += sum(child.tag in {"failure", "error"} for child in case)
        found["kills"] += sum(
            int(each.get("value")) for each in case.iter("property") if each.get("name") == "kills"
        )
    if ended.returncode:
        found["failures"] = max(1, found["failures"])
        variables = f"HYPOTHESIS_PROFILE={part.profile} ICEHOUSE_TEST_SEED={seed}"
        print(ended.stdout[-20_000:], ended.stderr[-4000:], sep="\n")
        print(f"repeat it with: {variables} pytest {shlex.join(words)}", flush=True)
    return found


def main():
    """Run rounds until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="no part begins after this many")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the first round")
    parser.add_argument("--jobs", default="auto", help="processes next to each other")
    parser.add_argument("--part", help="only the part of this name", choices=[part.name for part in PARTS])
    chosen = parser.parse_args()
    until, total, number = time.monotonic() + 60 * chosen.minutes, Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until:
            for part in PARTS:
                if time.monotonic() >= until or chosen.part not in {None, part.name}:
                    continue
                seed = chosen.seed + number
                found = run(part, seed, chosen.jobs, Path(folder))
                total += found
                print(f"round {number + 1}, seed {seed}, {part.name}: {say(found)}", flush=True)
            number += 1
    print(f"in all, {number} rounds from seed {chosen.seed}: {say(total)}")
    sys.exit(bool(total["failures"]))


def say(found):
    return ", ".join(
        f"{found[name]} {name}" for name in ("tests", "examples", "kills", "seconds", "failures")
    )


if __name__ == "__main__":
    main()
