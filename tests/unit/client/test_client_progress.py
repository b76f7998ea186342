"""The line on stderr: a load or a job does not fail with it."""

from __future__ import annotations

import sys

import pytest

from icehouse._progress import draw_line


def test_a_line_is_drawn_over_the_one_before(capsys):
    draw_line("a", last=False)
    draw_line("b", last=True)
    assert capsys.readouterr().err == "\ra\rb\n"


def test_a_closed_stderr_loses_the_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    draw_line("a", last=True)


@pytest.mark.parametrize("buffering", [1, 4096])
def test_a_full_stderr_loses_the_line(monkeypatch, buffering):
    full = open("/dev/full", "w", buffering=buffering)  # noqa: SIM115, PTH123
    monkeypatch.setattr(sys, "stderr", full)
    draw_line("a", last=True)
    with pytest.raises(OSError, match="No space"):
        full.close()
