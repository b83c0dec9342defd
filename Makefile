# Everything a contributor runs. Needs Python 3.11 or newer and make; the rest is installed into .venv-*.
# Another Airflow: make test AIRFLOW=2.11.2. Some tests only: make test ARGS="-k download".

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSIONS := 2.11.2 3.0.6 3.1.8 3.2.2 3.3.2 3.4.0b2
# The newest that is released: neither a beta nor a release candidate.
NEWEST := $(lastword $(foreach version,$(VERSIONS),$(if $(findstring b,$(version))$(findstring rc,$(version)),,$(version))))
AIRFLOW ?= $(NEWEST)
ARGS ?=
# A test that fails on a busy machine of the CI runs once more there; the closing line counts these as "rerun".
AGAIN := $(if $(CI),--reruns 1 -raR)

VENV := .venv-$(AIRFLOW)
READY := $(VENV)/.ready
# Lint checks the code against the newest Airflow whatever AIRFLOW says: only that one has types to check.
LINT_VENV := .venv-$(NEWEST)
LINT_READY := $(LINT_VENV)/.ready

.PHONY: help
help: ## Show this list
	@echo "usage: make <target> [ARGS=...] [AIRFLOW=<one of $(VERSIONS)>]"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(READY) ## Build .venv-<airflow version> from the pinned versions

# One rule for every version: the stem is the Airflow version.
.venv-%/.ready: pyproject.toml .ci/constraints-%.txt .ci/venv .ci/lib.sh
	@.ci/venv $*

# The whole suite in two processes; a selection in one, where you see its output and a debugger works.
.PHONY: test
test: $(READY) ## Run the whole test suite; ARGS goes to pytest
	@$(VENV)/bin/python -m pytest $(or $(ARGS),-n 2) $(AGAIN)

LOWEST := $(addprefix tests/,api hooks operators sensors triggers)

.PHONY: test-lowest
test-lowest: .venv-lowest/.ready ## Test with the lowest versions that pyproject.toml allows (Airflow 2.11.0)
	@.venv-lowest/bin/python -m pytest -n 2 $(or $(ARGS),$(LOWEST)) $(AGAIN)

# Rooms that import no Airflow, or that test-lowest runs on the oldest one.
APART := api cli conformance hooks hostile ledger operators sandbox sensors simulation storage triggers

.PHONY: test-airflow
test-airflow: $(READY) ## Run the rooms that differ most between versions of Airflow (with AIRFLOW=2.11.2)
	@$(VENV)/bin/python -m pytest -n 2 $(addprefix --ignore=tests/,$(APART)) $(ARGS) $(AGAIN)

.PHONY: matrix
matrix: ## Run the whole test suite on every Airflow, one after the other, with a summary
	@.ci/matrix $(VERSIONS)

.PHONY: lint
lint: $(LINT_READY) ## Check style (ruff), format and types (mypy --strict)
	@$(LINT_VENV)/bin/ruff check .
	@$(LINT_VENV)/bin/ruff format --check .
	@$(LINT_VENV)/bin/mypy

.PHONY: format
format: $(LINT_READY) ## Rewrite the code in the project's format
	@$(LINT_VENV)/bin/ruff check --fix-only .
	@$(LINT_VENV)/bin/ruff format .

.venv-docs/.ready: .ci/docs-requirements.txt .ci/docs-venv .ci/lib.sh
	@.ci/docs-venv

# The address is named in pyproject.toml alone.
REPOSITORY_URL = $(shell sed -n 's/^Source = "\(.*\)"$$/\1/p' pyproject.toml)

.PHONY: docs
docs: .venv-docs/.ready ## Build the documentation into .site; a warning is an error
	@REPOSITORY_URL=$(REPOSITORY_URL) NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict $(ARGS)

.PHONY: preview
preview: .venv-docs/.ready ## Serve the documentation, and rebuild it while you edit
	@REPOSITORY_URL=$(REPOSITORY_URL) NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve $(ARGS)

.tools/playwright/.ready: .ci/browser-requirements.txt .ci/browser .ci/lib.sh
	@.ci/browser

.PHONY: browser
browser: $(READY) .tools/playwright/.ready ## Connection form and the sandbox's page in a real browser (needs Chromium; pictures in .browser/)
	@.ci/browser --check
	@# One after the other: two synchronous Playwrights do not go into one process.
	@PYTHONPATH=.tools/playwright $(VENV)/bin/python -m pytest tests/browser $(ARGS) $(AGAIN)
	@PYTHONPATH=.tools/playwright $(VENV)/bin/python -m pytest tests/sandbox/test_page.py $(ARGS) $(AGAIN)

.PHONY: package
package: $(READY) ## Build wheel and sdist, and try them and each extra in clean environments (needs network)
	@$(MAKE) .venv-stores/.ready || echo "without the stores' servers, extras that need them are not tried"
	@DIFFIO_PACKAGE=1 $(VENV)/bin/python -m pytest tests/packaging $(ARGS) $(AGAIN)

.venv-stores/.ready: .ci/stores-requirements.txt .ci/stores .ci/debian .ci/lib.sh
	@.ci/stores

.PHONY: stores
stores: .venv-stores/.ready ## Try every store that the documentation names, on a real server (needs network)
	@.venv-stores/bin/python -m tests.stores $(or $(ARGS),-n 2) $(AGAIN)

.PHONY: powercut
powercut: $(READY) ## Cut the power at each point of a write, and judge every state of the disk (needs strace)
	@.ci/debian strace
	@$(VENV)/bin/python -m tests.powercut

.PHONY: demo
demo: $(READY) ## Restore a noisy recording with a real Airflow and the local sandbox, and measure it
	@$(VENV)/bin/python -m tests.demo $(ARGS)

.PHONY: hostile
hostile: $(READY) ## Try 20,000 bad responses of Diffio (the test suite tries some hundred)
	@DIFFIO_HOSTILE_EXAMPLES=20000 $(VENV)/bin/python -m pytest tests/hostile -q -s $(ARGS)

.PHONY: burst
burst: $(READY) ## Deliver 1,000 events at once to a real Airflow on PostgreSQL (the test suite delivers 200)
	@DIFFIO_BURST=1000 $(VENV)/bin/python -m pytest tests/e2e/test_events_postgresql.py -q $(ARGS)

STEPS ?= 100000
.PHONY: simulate
simulate: $(READY) ## Play 100,000 steps of paid restorations, and check the promises after each (STEPS=...; an hour)
	@DIFFIO_SIMULATION_STEPS=$(STEPS) $(VENV)/bin/python -m pytest tests/simulation -q --show-capture=no $(ARGS)

.PHONY: texts
texts: $(READY) ## Send 20,000 generated texts through everything, on SQLite and PostgreSQL (the test suite sends 200)
	@DIFFIO_TEXTS=20000 $(VENV)/bin/python -m pytest tests/plugins/test_texts.py -q $(ARGS)

.PHONY: event-table
event-table: $(READY) ## Measure the runs that 100 events come to, for the table in docs/events.md (AIRFLOW=...)
	@$(VENV)/bin/python -W ignore -m tests.e2e.event_table

.PHONY: bench
bench: $(READY) ## Measure polling, transfers, memory and imports against others (ARGS=--quick; some minutes)
	@$(VENV)/bin/python -m benchmarks $(ARGS)

.PHONY: soak
soak: $(READY) ## Kill processes of Airflow 24 times during one run, and count what was billed
	@$(VENV)/bin/python -m tests.crash.soak $(ARGS)

.venv-distributed/.ready: pyproject.toml .ci/constraints-$(NEWEST).txt .ci/distributed.txt .ci/venv .ci/lib.sh
	@.ci/venv $(NEWEST) distributed

.PHONY: e2e-distributed
e2e-distributed: .venv-distributed/.ready ## Restore 200 files on Celery workers, and kill some (ARGS="--files 20"; 15 minutes)
	@.venv-distributed/bin/python -m tests.distributed $(ARGS)

.PHONY: constraints
constraints: ## Resolve the pinned versions again (needs network)
	@.ci/constraints $(NEWEST) $(filter-out $(NEWEST),$(VERSIONS))
	@.ci/constraints lowest

.PHONY: recording
recording: $(READY) ## Make the noisy example recording again (needs espeak-ng)
	@$(VENV)/bin/python .ci/make_recording.py

.PHONY: clean
clean: ## Remove everything that was built here
	@rm -rf .venv-* .tools .demo .bench .browser .site .distributed build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
