# Every target makes .venv from constraints.txt if it is missing; nothing else is to be set up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help run test test-ci coverage test-docs test-slow test-newest bench check-gpu docs lint format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gatelab needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

run: $(READY)  ## two small studies: which hidden size, and GRU beside nn.GRU (8 minutes on 2 slow cores)
	$(BIN)/python -m scripts.quickstart

test: $(READY)  ## the quick tests, some of each subject, in two processes (8 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not ci and not slow" -n 2 --dist loadfile

test-ci: $(READY)  ## the further tests that CI runs (a quarter of an hour)
	$(BIN)/python -m pytest -m "ci and not slow" -n 2 --dist loadfile

coverage: $(READY)  ## both, with the lines that no test reaches (twice as long)
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term:skip-covered

test-docs: $(READY)  ## every command and snippet of README and manual (6 minutes on 2 slow cores; in CI)
	$(BIN)/python -m pytest tests/test_docs.py tests/test_readme.py -n 2

test-slow: $(READY)  ## the slow tests: minutes each
	$(BIN)/python -m pytest -m slow

# everything but torch in its newest allowed version: finds what a release of Lightning, Optuna or Hydra has broken
test-newest:  ## the quick tests with the newest allowed versions, in .venv-newest (not in CI)
	test -x $(VENV)-newest/bin/python || $(PYTHON) -m venv $(VENV)-newest
	grep '^torch==' constraints.txt > $(VENV)-newest/constraints.txt
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
		--constraint $(VENV)-newest/constraints.txt --editable '.[dev]'
	$(VENV)-newest/bin/python -m pytest -m "not slow" -n 2 --dist loadfile

check-gpu: $(READY)  ## everything that has to be seen on a GPU; writes docs/bench_gpu.json (6 minutes)
	$(BIN)/python -m scripts.checks.gpu --output docs/bench_gpu.json

bench: $(READY)  ## the GRU's backends against nn.GRU; writes docs/bench_gru.json and the picture (10 minutes)
	$(BIN)/python -m scripts.bench.gru --output docs/bench_gru.json --picture

# an environment of its own: the site is made from the source's text, without PyTorch
$(VENV)-docs/.ready: constraints.txt pyproject.toml
	test -x $(VENV)-docs/bin/python || $(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$$($(VENV)-docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	touch $@

docs: $(VENV)-docs/.ready  ## the manual as a static site in site/; strict, needs no network
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --quiet --strict
	$(VENV)-docs/bin/python -m scripts.docs.site site

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and the caches; runs/ and data/ stay
	rm -rf $(VENV) $(VENV)-newest $(VENV)-docs site .mypy_cache .ruff_cache .pytest_cache htmlcov .coverage*
