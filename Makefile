# Two commands on a fresh machine with Python >= 3.11: `make serve` and `make test`. What is installed already is
# marked by stamp files, so a second run starts at once.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
NODE := tests/node/node_modules
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Where it is set, every process of the tests would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help serve test lint bench chaos lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

serve: $(VENV)/.serve  ## install the pinned set and start on 127.0.0.1:8000 (ARGS="--port 9000" for options)
	exec $(BIN)/pictor serve $(ARGS)

# Tests mostly wait, so there are more processes than cores; ARGS=-n0 is one process.
test: $(VENV)/.test $(NODE)/.stamp lint  ## everything: lint, types and tests (ARGS="-k name")
	@requirements/apt.sh promtool:prometheus prometheus:prometheus
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.serve  ## measure against nginx (ARGS="--quick --only NAME")
	@requirements/apt.sh nginx:nginx-light wrk:wrk
	$(BIN)/python -m bench.run $(ARGS)

chaos: $(VENV)/.test  ## kill servers under load, and count what was lost (ARGS="--only sqlite --seed 1")
	$(BIN)/python -m tests.chaos $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Built with the pinned setuptools, not in pip's isolated environment, which would fetch one without a hash.
$(VENV)/.serve: requirements/build.txt requirements/serve.txt pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes -r requirements/build.txt -r requirements/serve.txt
	$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.serve requirements/test.txt
	$(PIP) --require-hashes -r requirements/test.txt
	@touch $@

# The official client needs Node 22. Where the machine's is older, one comes along as a package.
$(NODE)/.stamp: tests/node/package-lock.json
	@if command -v npm >/dev/null; then \
		npm ci --prefix tests/node --ignore-scripts --no-audit --no-fund --loglevel=error \
			$$(node -e 'process.exit(+(parseInt(process.versions.node) < 22))' && echo --omit=optional) && touch $@; \
	else echo "Please install: npm" >&2; fi

# Resolved under the oldest Python that is supported; the hashes are those of every platform.
COMPILE = $(VENV)/lock/bin/pip-compile $(ARGS) --quiet --strip-extras --generate-hashes --allow-unsafe --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options pyproject.toml

lock: | $(BIN)/python  ## pin what pyproject.toml and tests/node/package.json ask for (ARGS=--upgrade)
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet pip-tools
	$(COMPILE) --all-build-deps --only-build-deps --output-file requirements/build.txt
	$(COMPILE) --output-file requirements/serve.txt
	$(COMPILE) --extra test --constraint requirements/serve.txt --output-file requirements/test.txt
	cd tests/node && npm install --package-lock-only --omit-lockfile-registry-resolved=true --no-audit --no-fund

clean:  ## remove what was installed and built here
	rm -rf $(VENV) $(NODE) *.egg-info .mypy_cache .ruff_cache .pytest_cache
