# Two commands on a fresh machine: `make quickstart` and `make test`; each sets itself up.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv dev quickstart test lint

venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e .
	touch $@

dev: .venv/installed-dev

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e '.[dev]'
	touch $@

quickstart: venv
	$(BIN)/nas quickstart

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest
