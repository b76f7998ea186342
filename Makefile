# The short commands of Icehouse; `make` alone lists them.
#
# They do their own set-up: on a machine with git, make and some Python 3, `make demo` and `make test` bring uv into
# .tools, find or fetch a Python of 3.12 or newer and fill .venv. Nothing outside this folder is changed.

.DEFAULT_GOAL := help
SHELL := /bin/sh

bin := .venv/bin
ready := .venv/.ready
# What the environment is made from; when one of these changes, the next command installs again.
pins := pyproject.toml client/pyproject.toml server/pyproject.toml constraints.txt

# Builds the page where its sources are newer. Where npm reaches no registry, the daemon runs without.
page := server/page/build.py
try_page := $(bin)/python $(page) || echo 'icehouse: going on without a newly built page' >&2

# A slow mirror is not a broken one.
export UV_HTTP_TIMEOUT ?= 180
# Each test starts processes; without byte code each of them compiles its imports anew.
export UV_COMPILE_BYTECODE ?= 1
# That of our own modules is written when they are first imported, whatever the surroundings say.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## list these commands
	@sed -n 's/^\([a-z]*\):[^#]*## /\1|/p' Makefile | while IFS='|' read -r name what; do \
	  printf '  make %-12s %s\n' "$$name" "$$what"; done

.PHONY: demo
demo: $(ready) ## the main job against stand-in sources: a region loaded cold, then warm
	@$(try_page)
	$(bin)/icehouse demo $(ARGS)

.PHONY: serve
serve: $(ready) ## run the daemon on 127.0.0.1:4326
	@$(try_page)
	$(bin)/icehouse serve $(ARGS)

.PHONY: test
test: $(ready) ## run the tests; some of them: make test ARGS="tests/unit -x"
	@$(try_page)
	$(bin)/pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: soak
soak: $(ready) ## the long run: what is tested at random, with ever new seeds; MINUTES=60
	$(bin)/python tests/soak.py --minutes $(or $(MINUTES),60) $(ARGS)

.PHONY: check
check: $(ready) ## format, lint, types, layers
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/python $(page) check

.PHONY: page
page: $(ready) ## build the page that browsers get at /
	$(bin)/python $(page)

.PHONY: bench
bench: $(ready) ## the benchmarks, with their targets
	PYTHONPATH=tests $(bin)/python tests/bench/run.py $(ARGS)

.PHONY: docs
docs: $(ready) ## run the examples of the documentation
	$(bin)/pytest -q tests/docs $(ARGS)

.PHONY: image
image: ## build the container image `icehouse`
	docker build --network host -f docker/Dockerfile -t icehouse .

.PHONY: constraints
constraints: $(ready) ## raise constraints.txt to the newest versions that fit together
	@sh -euc "$$setup_functions; pin_versions"

.PHONY: clean
clean: ## remove the environment, the tools and what they left behind
	rm -rf .venv .tools dist site icehouse-demo
	rm -rf server/page/node_modules server/src/icehouse_server/page
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find client server tests \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +

$(ready): $(pins)
	@sh -euc "$$setup_functions; set_up"
	@touch $@

# ---- set-up: one shell script, handed to sh through the environment ----

define setup_functions
say() { printf 'icehouse set-up: %s\n' "$$*" >&2; }

# CPython 3.12 or newer with all that the daemon needs of it: one built without SQLite or TLS will not do.
suits() {
  "$$1" -c 'import sys, ssl, sqlite3, ctypes
sys.exit(sys.version_info < (3, 12) or sys.implementation.name != "cpython" or "t" in sys.abiflags)' >/dev/null 2>&1
}

# Every interpreter worth asking, best known first. Finding a name is not enough:
# the shim of a pyenv version that is not active is there and fails when it is run.
interpreters() {
  for minor in 13 12 14; do
    command -v "python3.$$minor" || true
    for python in "$${PYENV_ROOT:-$${HOME:-}/.pyenv}"/versions/3."$$minor".*/bin/python3; do
      [ ! -x "$$python" ] || printf '%s\n' "$$python"
    done
  done
  command -v python3 || true
  command -v python || true
}

find_python() {
  interpreters | while IFS= read -r python; do
    if suits "$$python"; then printf '%s\n' "$$python"; break; fi
  done
}

# Any uv that knows dependency groups: the one on PATH, else the one that we brought.
find_uv() {
  for uv in uv .tools/uv/bin/uv; do
    if "$$uv" pip install --help 2>/dev/null | grep -q -e --group; then printf '%s\n' "$$uv"; return; fi
  done
}

# With a virtual environment if Python can make one, else (Debian without python3-venv) with pip alone.
bring_uv() {
  say "bringing uv into .tools"
  for python in python3 /usr/bin/python3 "$$(find_python)"; do
    command -v "$$python" >/dev/null || continue
    rm -rf .tools/uv
    if "$$python" -m venv .tools/uv && .tools/uv/bin/python -m pip install -q 'uv>=0.8'; then return; fi
    rm -rf .tools/uv
    if "$$python" -m pip install -q --target .tools/uv 'uv>=0.8'; then return; fi
  done >.tools/uv.log 2>&1
  cat .tools/uv.log >&2
  say "uv could not be installed. It needs a python3 with venv or pip (on Debian: apt install python3-venv)"
  say "and a network; or put uv on PATH yourself: https://docs.astral.sh/uv"
  exit 1
}

use_uv() {
  mkdir -p .tools
  uv=$$(find_uv)
  [ -n "$$uv" ] || { bring_uv; uv=$$(find_uv); }
  [ -n "$$uv" ] || { say "the uv that was installed does not run, see .tools/uv.log"; exit 1; }
}

set_up() {
  mkdir -p .tools
  # Two make commands started at once in a fresh checkout take turns here.
  if command -v flock >/dev/null; then exec 9>.tools/lock; flock 9; fi
  use_uv
  if ! suits .venv/bin/python; then
    python=$$(find_python)
    say "making .venv with $${python:-a Python that uv fetches}"
    rm -rf .venv
    "$$uv" venv -q --no-project --python "$${python:-3.13}" .venv || {
      say "no Python of 3.12 or newer is on PATH or among pyenv's versions, and uv could not fetch one:"
      say "install one, for instance with: pyenv install 3.13"
      exit 1
    }
  fi
  say "installing into .venv"
  quiet=-q
  [ ! -t 2 ] || quiet=
  "$$uv" pip install $$quiet --python .venv/bin/python -c constraints.txt --group dev -e client -e server
}

pin_versions() {
  use_uv
  {
    sed '/^[^#]/,$$d' constraints.txt
    "$$uv" pip compile -q --upgrade --universal --python-version 3.12 --group dev \
      client/pyproject.toml server/pyproject.toml \
      --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
      --no-emit-package icehouse --no-emit-package icehouse-server
  } >.tools/constraints.txt
  mv .tools/constraints.txt constraints.txt
}
endef
export setup_functions
