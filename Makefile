# Surnia's front door. `make help` lists what it does.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
TOOLS := .surnia/tools
# uv from the machine where it has one, else from PyPI into a folder of its own.
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --frozen --quiet
ARGS ?=
# The stack, the demo and the tests start Python hundreds of times; without bytecode each start compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test lint format bench up down status chaos soak clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(TOOLS)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Surnia needs Python 3.11 or later; $(PYTHON) is older. Set PYTHON=python3.12, say."; exit 1; }
	@echo "bringing uv into $(TOOLS)"
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet --disable-pip-version-check 'uv>=0.8'

.venv/.synced: pyproject.toml uv.lock | $(filter $(TOOLS)/%,$(UV))
	@$(UV) sync --frozen --quiet && touch $@

setup: .venv/.synced ## Install Surnia and its dependencies into .venv

demo: setup ## Simulate a day of a world-wide population (ARGS="--users 2000 --hours 6")
	@$(RUN) surnia demo $(ARGS)

test: setup ## Run all tests but the long chaos and soak runs (ARGS="tests/unit" for some)
	@$(RUN) pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: setup ## Kill every part under load and count (50 seeds; ARGS="--chaos-seed 7" for one)
	@$(RUN) pytest tests/chaos $(or $(ARGS),--chaos-seeds 1-50)

soak: setup ## Steady load for 20 minutes, a worker killed every 2 (ARGS="--soak-minutes 3 --soak-rate 5000")
	@$(RUN) pytest tests/chaos/test_soak.py -s $(or $(ARGS),--soak-minutes 20)

lint: setup ## Check style and types
	@$(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) mypy

format: setup ## Rewrite the code in the project's style
	@$(RUN) ruff check --fix . ; $(RUN) ruff format .

bench: setup ## Measure (ARGS="gate --json gate.json")
	@$(RUN) surnia bench $(or $(ARGS),gate)

up: setup ## Start the local stack: PostgreSQL, Valkey, Kafka
	@$(RUN) surnia up $(ARGS)

down: setup ## Stop the local stack; its data stays
	@$(RUN) surnia down $(ARGS)

status: setup ## Show the local stack
	@$(RUN) surnia status $(ARGS)

clean: ## Remove what was installed and built; the local stack's data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
