# `make demo` and `make test` do everything, each alone, on a fresh Debian 12 or 13 (as root or with sudo).
# What is there already is not installed again: a second run starts at once.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV ?= .venv
PYTHON ?=
DEMO_OPTIONS ?=
PYTEST_OPTIONS ?=
export PYTHON

BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps

# geosearch is installed in place: an environment that served another checkout (or one that moved) is pointed here.
ifneq ($(shell cat $(STAMPS)/checkout 2>/dev/null),$(CURDIR))
$(shell rm -f $(STAMPS)/environment)
endif

.PHONY: help demo test lint format reference system environment clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Variables: VENV (the environment's folder, .venv), PYTHON (made with this one), DEMO_OPTIONS, PYTEST_OPTIONS,"
	@echo "GEOSEARCH_HOME (data folder), GEOSEARCH_DATABASE_URL (another server for the demo),"
	@echo "GEOSEARCH_TEST_SERVER (URL of a superuser: another server for the tests)"

demo: $(STAMPS)/environment ## Catalogue Blue Marble, embed it, search it, write a page
	$(BIN)/geosearch demo $(DEMO_OPTIONS)

test: $(STAMPS)/gdal lint ## Run all checks and tests
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

lint: $(STAMPS)/environment ## Check style (ruff) and types (mypy)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMPS)/environment ## Put the code into its form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

reference: $(STAMPS)/environment ## Write docs/reference/cli.md anew
	$(BIN)/python docs/reference/make_cli.py

system: $(STAMPS)/system ## Install system packages only

environment: $(STAMPS)/environment ## Make the Python environment only

clean: ## Remove the environment and what the checks left (never data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

$(STAMPS)/system: setup/system.sh setup/find-python.sh
	setup/system.sh server python
	@mkdir -p $(@D)
	@test -n "$$GEOSEARCH_DATABASE_URL$$GEOSEARCH_TEST_SERVER" || touch $@  # with another server none was looked for

$(STAMPS)/gdal: setup/system.sh $(STAMPS)/system
	setup/system.sh gdal
	@mkdir -p $(@D) && touch $@

$(STAMPS)/environment: pyproject.toml setup/constraints.txt setup/environment.sh | $(STAMPS)/system
	setup/environment.sh $(VENV)
	@mkdir -p $(@D) && echo '$(CURDIR)' > $(@D)/checkout && touch $@
