# The short commands of Icehouse; `make` alone lists them.
#
# They do their own set-up: on a machine with git, make and some Python 3, `make demo` and `make test` bring uv into
# .tools, find or fetch a Python of 3.12 or newer and fill .venv (scripts/setup.sh). `make test` also brings the browser
# that the page is tested in (scripts/find_browser.py). Nothing outside this folder is changed, unless root runs `make test`
# where there is no browser: Debian's package is then installed.

.DEFAULT_GOAL := help
SHELL := /bin/sh

bin := .venv/bin
ready := .venv/.ready
# What the environment is made from; when one of these changes, the next command installs again.
pins := pyproject.toml client/pyproject.toml server/pyproject.toml constraints.txt \
        server/hatch_build.py $(wildcard server/kernel/*.[chp]*)

# Builds the page where its sources are newer. Where npm reaches no registry, the daemon runs without.
page := server/page/build.py
try_page := $(bin)/python $(page) || echo 'icehouse: going on without a newly built page' >&2
# Finds or brings the browser, for all tests and for those of the page alone. Without one the others go on.
find_browser := $(bin)/python scripts/find_browser.py >/dev/null || true
other_tests = $(and $(filter tests/%,$(ARGS)),$(if $(filter tests/browser%,$(ARGS)),,others))

# The version of an image: the tag of the commit, else its hash.
version = $(shell git describe --tags --exact-match 2>/dev/null | sed 's/^v//' | grep . || git describe --always --exclude '*' | sed 's/^/0+g/')

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
	@$(if $(other_tests),true,$(find_browser))
	$(bin)/pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: coverage
coverage: $(ready) ## run the tests and say which lines they reach, daemons included; ARGS as for test
	@$(try_page)
	@$(if $(other_tests),true,$(find_browser))
	$(bin)/pytest -q -n auto --dist loadfile --no-loadscope-reorder --cov --cov-report term --cov-report html $(ARGS)

.PHONY: soak
soak: $(ready) ## the long run: what is tested at random, with ever new seeds; MINUTES=60
	$(bin)/python tests/soak.py --minutes $(or $(MINUTES),60) $(ARGS)

.PHONY: check
check: $(ready) ## format, lint, types, layers, declared imports
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/python scripts/structure.py --check
	$(bin)/deptry --config client/pyproject.toml client/src
	$(bin)/deptry --config server/pyproject.toml server/src
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

.PHONY: site
site: $(ready) ## build the documentation as a site into site/; links that lead nowhere fail
	$(bin)/zensical build --clean --strict

.PHONY: changelog
changelog: $(ready) ## show the next section of the changelog, or write it: make changelog RELEASE=0.2.0
	$(bin)/towncrier build $(if $(RELEASE),--yes --version $(RELEASE),--draft --version next)

.PHONY: image
image: ## build the container image `icehouse`
	docker build --network host -f docker/Dockerfile --build-arg VERSION=$(version) -t icehouse .

.PHONY: constraints
constraints: $(ready) ## raise constraints.txt to the newest versions that fit together
	@sh scripts/setup.sh constraints

.PHONY: clean
clean: ## remove the environment, the tools and what they left behind
	rm -rf .venv .tools dist site .cache htmlcov .coverage* icehouse-demo
	rm -rf server/page/node_modules server/src/icehouse_server/page
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find client server tests \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +

$(ready): $(pins)
	@sh scripts/setup.sh environment
	@touch $@
