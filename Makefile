# Every target sets up what it needs in .venv. PIP_FLAGS goes to every pip install, for example a CPU-only torch index.
PYTHON ?= python3
PIP_FLAGS ?=
BIN := .venv/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_FLAGS) --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install bench-install demo test check format vectors fuzz bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "secagg needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/demo.stamp: .venv/bin/python pyproject.toml constraints.txt
	@echo "Setting up .venv for the demo (torch is the large part) ..."
	$(PIP_INSTALL) --editable '.[cli,report,train]'
	@touch $@

.venv/install.stamp: .venv/bin/python pyproject.toml constraints.txt
	@echo "Setting up .venv with everything but the benchmark peers ..."
	$(PIP_INSTALL) --editable '.[all,dev]'
	@touch $@ .venv/demo.stamp

.venv/bench.stamp: .venv/install.stamp
	$(PIP_INSTALL) --editable '.[all,dev,peers]'
	@touch $@

install: .venv/install.stamp ## everything a developer needs

bench-install: .venv/bench.stamp ## everything and the peers that benchmarks compare with

demo: .venv/demo.stamp ## four hospitals train one model; ends in runs/demo/report.html
	$(BIN)/secagg train --config examples/heart.toml --out runs/demo --overwrite
	$(BIN)/secagg leakage --run runs/demo
	@echo "Open runs/demo/report.html"

test: install ## the whole test suite
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: install ## format, lint, types, tests, doctests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

format: install ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

vectors: install ## regenerate the test vectors in secagg/testing/vectors/
	$(BIN)/python -m secagg.testing.make_vectors

fuzz: install ## a million mutated messages over every step and session
	$(BIN)/python -m secagg.testing.fuzz --messages 1000000

bench: bench-install ## every benchmark, JSON in benchmarks/results/
	$(BIN)/python -m benchmarks

lock: ## rebuild constraints.txt over all extras in a throw-away environment
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet $(PIP_FLAGS) 'torch==2.13.0' 'click<8.5' --editable '.[all,dev,peers]'
	echo '# Every version of an environment with all extras, made by `make lock`; used by every install command.' > constraints.txt
	.venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' >> constraints.txt
	rm -rf .venv-lock

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
