# make run    test the bundled sample API (or TARGET=airflow, or SPEC=… BASE_URL=…), serve until Ctrl-C; ONCE=1: end
# make test   checks, and the tests that take less than a minute each; make test-all: every test
# make help   the rest
# Needs Python 3.11 to 3.14 and nothing else: everything is set up in .venv and .testops.

SHELL := /bin/bash
export TESTOPS_MAKE_STARTED := $(shell date +%s.%N)
# Where it is set, every process compiles Airflow anew when it starts: twice the time of the imports.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && { command -v $$each; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.testops-ready

ONCE ?=
TARGET ?=
SPEC ?=
BASE_URL ?=
AUTH ?=
HEADER ?=
DEFECTS ?= all
TESTS ?=
MODULES ?=
# Tests wait for servers as much as they compute: one more at once than there are cores. Each worker has servers of its own.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(6, 1 + max(2, os.cpu_count() or 0)))')
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all quick-tests all-tests coverage mutants lint format bench bench-peers picture env image stop clean lock

help:  ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 13
	@echo "make run takes TARGET=name, SPEC=url-or-file BASE_URL=url AUTH=file HEADER='Name: value', ONCE=1, DEFECTS=all|none|id,id (of the sample shop)"

setup: $(READY)  ## the environment in .venv, from requirements.txt

$(READY): requirements.txt pyproject.toml | $(UV)
	@echo "installing packages (the first time takes a minute or two)"
	@index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}"; \
	  $${index:+env UV_DEFAULT_INDEX="$$index"} $(UV) pip install --quiet --python $(BIN)/python -r requirements.txt && \
	  $${index:+env UV_DEFAULT_INDEX="$$index"} $(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

$(UV):
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to 3.14 on PATH; give one: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "make: $(PYTHON) cannot make a virtual environment with pip."; \
	  echo "  -> on Debian and Ubuntu: apt-get install python3-venv; or give another Python: make PYTHON=/path/to/python3"; \
	  exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

run: $(READY)  ## start everything, test, report, serve
	@SHOP_DEFECTS='$(DEFECTS)' exec $(BIN)/python -m stack run $(if $(ONCE),--once) \
	  $(if $(TARGET),--target '$(TARGET)') $(if $(SPEC),--spec '$(SPEC)') $(if $(BASE_URL),--base-url '$(BASE_URL)') \
	  $(if $(AUTH),--auth '$(AUTH)') $(if $(HEADER),--header '$(HEADER)')

test: $(READY)  ## checks and the tests a change is likely to break; TESTS='tests/… -k …' for some
	@$(MAKE) --no-print-directory -j2 lint quick-tests

test-all: $(READY)  ## checks and all tests, as CI runs them
	@$(MAKE) --no-print-directory -j2 lint all-tests

quick-tests: $(READY)
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-quick} $(PYTEST) $(if $(TESTS),$(TESTS),-m 'not long and not chaos and not cluster and not kafka')

all-tests: $(READY)
	$(PYTEST) $(TESTS)

lint: $(READY)  ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## what ruff can put right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(READY)  ## lines of testops_lib that tests reach, without Airflow's; TESTS='tests/…' for some
	$(PYTEST) -m 'not airflow and not cluster and not chaos' \
	  --cov=testops_lib --cov-report=term:skip-covered $(TESTS)

mutants: $(READY)  ## share of small changes to the core that its tests notice; MODULES='verdict.gate …' for some
	$(BIN)/python -m bench.mutants $(MODULES)

bench: $(READY)  ## measurements, see bench/
	$(BIN)/python -m bench

picture: $(READY)  ## the README's picture anew, from a run of the sample shop (needs chromium)
	$(BIN)/python -m bench.picture

bench-peers: $(READY)  ## other tools for the same work, built into .testops/bench/tools, and measured
	-$(BIN)/python -m bench.tools
	$(BIN)/python -m bench peers

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILDER ?= $(or $(shell command -v docker || command -v podman),docker)

env:  ## .env and targets.env for docker compose, with new secrets
	@$(PYTHON) -m stack.env_files

image:  ## the images testops-airflow:VERSION and testops-runner:VERSION
	$(BUILDER) build --build-arg VERSION=$(VERSION) -t testops-airflow:$(VERSION) .
	$(BUILDER) build -f runner/Dockerfile --build-arg VERSION=$(VERSION) -t testops-runner:$(VERSION) .

stop:  ## end a `make run` in another terminal, and leftovers of one that was killed
	@test ! -d .testops || $(PYTHON) -m stack.clean

clean: stop  ## leave nothing behind
	rm -rf .testops $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: $(READY)  ## requirements.txt from requirements.in, for the library and the runner
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate runner/requirements.in -o runner/requirements.txt
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate requirements.in -o requirements.txt
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate examples/httpbin/requirements.in -o examples/httpbin/requirements.txt
