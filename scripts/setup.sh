#!/bin/sh
# Set-up of a checkout, called by the Makefile: scripts/setup.sh environment | constraints
#
# `environment` fills .venv, and brings uv into .tools where there is none. It needs git, make and some Python 3.
# `constraints` raises constraints.txt to the newest versions that fit together.
# Nothing outside the checkout is changed.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'icehouse set-up: %s\n' "$*" >&2; }

fail() {
  for line in "$@"; do say "$line"; done
  exit 1
}

# CPython 3.12 or newer with all that the daemon needs of it: one built without SQLite or TLS will not do.
suits() {
  "$1" -c 'import sys, ssl, sqlite3, ctypes
sys.exit(sys.version_info < (3, 12) or sys.implementation.name != "cpython" or "t" in sys.abiflags)' >/dev/null 2>&1
}

# Every interpreter worth asking, best known first. Finding a name is not enough:
# the shim of a pyenv version that is not active is there and fails when it is run.
interpreters() {
  for minor in 13 12 14; do
    command -v "python3.$minor" || true
    for python in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3."$minor".*/bin/python3; do
      [ ! -x "$python" ] || printf '%s\n' "$python"
    done
  done
  command -v python3 || true
  command -v python || true
}

find_python() {
  interpreters | while IFS= read -r python; do
    if suits "$python"; then printf '%s\n' "$python"; break; fi
  done
}

# Any uv that knows dependency groups: the one on PATH, else the one that we brought.
find_uv() {
  for uv in uv .tools/uv/bin/uv; do
    if "$uv" pip install --help 2>/dev/null | grep -q -e --group; then printf '%s\n' "$uv"; return; fi
  done
}

# With a virtual environment if Python can make one, else (Debian without python3-venv) with pip alone.
bring_uv() {
  say "bringing uv into .tools"
  for python in python3 /usr/bin/python3 "$(find_python)"; do
    command -v "$python" >/dev/null || continue
    rm -rf .tools/uv
    if "$python" -m venv .tools/uv && .tools/uv/bin/python -m pip install -q 'uv>=0.8'; then return; fi
    rm -rf .tools/uv
    if "$python" -m pip install -q --target .tools/uv 'uv>=0.8'; then return; fi
  done >.tools/uv.log 2>&1
  cat .tools/uv.log >&2
  fail "uv could not be installed. It needs a python3 with venv or pip (on Debian: apt install python3-venv)" \
    "and a network; or put uv on PATH yourself: https://docs.astral.sh/uv"
}

use_uv() {
  mkdir -p .tools
  uv=$(find_uv)
  [ -n "$uv" ] || { bring_uv; uv=$(find_uv); }
  [ -n "$uv" ] || fail "the uv that was installed does not run, see .tools/uv.log"
}

# Two make commands started at once in a fresh checkout take turns.
take_turns() {
  mkdir -p .tools
  if command -v flock >/dev/null; then exec 9>.tools/lock; flock 9; fi
}

make_environment() {
  if suits .venv/bin/python; then return; fi
  python=$(find_python)
  say "making .venv with ${python:-a Python that uv fetches}"
  rm -rf .venv
  "$uv" venv -q --no-project --python "${python:-3.13}" .venv || fail \
    "no Python of 3.12 or newer is on PATH or among pyenv's versions, and uv could not fetch one:" \
    "install one, for instance with: pyenv install 3.13"
}

install_packages() {
  say "installing into .venv"
  quiet=-q
  [ ! -t 2 ] || quiet=
  "$uv" pip install $quiet --python .venv/bin/python -c constraints.txt --group dev -e client -e server
}

# The comment at the head of the file stays; a file half written never takes its name.
raise_constraints() {
  {
    sed '/^[^#]/,$d' constraints.txt
    "$uv" pip compile -q --upgrade --universal --python-version 3.12 --group dev \
      client/pyproject.toml server/pyproject.toml \
      --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
      --no-emit-package icehouse --no-emit-package icehouse-server
  } >.tools/constraints.txt
  mv .tools/constraints.txt constraints.txt
}

case "${1:-}" in
  environment) take_turns; use_uv; make_environment; install_packages ;;
  constraints) use_uv; raise_constraints ;;
  *) fail "usage: scripts/setup.sh environment | constraints" ;;
esac
