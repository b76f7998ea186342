"""The table of performance targets as a program: `make bench`, or `python tests/bench/run.py --help`.

Every row is measured anew, with the other tools in the same run on the same data. Figures are medians;
a scenario that fails is reported as failed and makes the exit code 1. A missed target does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from harness.bench import Bench
from harness.environments import ROOT
from harness.report import Machine, Row, as_json, as_text, write_markdown
from scenarios import SCENARIOS

OBJECTS = ROOT / ".tools" / "bench-objects"


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    names = arguments.only or list(SCENARIOS)
    machine = Machine.look()
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="icehouse-bench-")))
        bench = Bench(
            scratch=scratch,
            objects=OBJECTS,
            quick=arguments.quick,
            smart_geocubes_2m=not arguments.no_smart_geocubes_2m,
            chunk=arguments.chunk,
            tried={f"ICEHOUSE_{name.upper()}": value for name, value in map(split, arguments.setting)},
            stack=stack,
        )
        echo(machine.text())
        for name in names:
            row = run(name, bench)
            rows.append(row)
            echo(as_text(row))
    machine = machine.finished()
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(machine, rows), indent=1, ensure_ascii=False) + "\n")
    if arguments.markdown:
        write_markdown(arguments.markdown, machine, rows)
    return 1 if any(row.failure for row in rows) else 0


def run(name: str, bench: Bench) -> Row:
    echo(f"\n{name} …")
    begun = time.perf_counter()
    try:
        results, failure = SCENARIOS[name](bench), None
    except Exception as error:  # noqa: BLE001 - one scenario must not take the others with it
        traceback.print_exc()
        results, failure = [], f"{type(error).__name__}: {error}"
    return Row(name=name, results=results, failure=failure, seconds=time.perf_counter() - begun)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, no million chunks")
    parser.add_argument(
        "--no-smart-geocubes-2m",
        action="store_true",
        help="leave out the 2 m load of smart-geocubes (45 s, 6 GB)",
    )
    parser.add_argument("--chunk", type=int, help="chunks of this size in place of the collections' own")
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the daemon, to try it",
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table between the markers of this page")
    return parser.parse_args()


def split(setting: str) -> tuple[str, str]:
    name, _, value = setting.partition("=")
    return name, value


def echo(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
