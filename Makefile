# What CI runs is what you run. `make` alone lists the targets.
# The first of these that is there and is 3.11 to 3.14; `make PYTHON=…` names another.
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3
PYTHON ?= $(or $(firstword $(foreach each,$(PYTHONS),$(shell $(each) -c \
	'import sys; (3, 11) <= sys.version_info < (3, 15) and print("$(each)")' 2>/dev/null))),python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
# Every process of a test, and each of pytest's workers, would compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up down test labs local labs-all soak bench bench-hosts bench-kubernetes bench-scaler docs lint lock changelog format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement constraints.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

up: $(STAMP) ## start the cluster of examples/local.yaml and print where it is
	@$(BIN)/perennial up --yes --file examples/local.yaml

down: $(STAMP) ## stop it
	@$(BIN)/perennial down --file examples/local.yaml

# What asserts a time runs first, by itself; that ARGS chooses none of it (5) is no failure.
quietly = $(PYTEST) -m "quiet and not soak and $(1)" $(ARGS) || [ $$? -eq 5 ]

test: $(STAMP) ## the tests that need no lab
	$(call quietly,not lab)
	$(PYTEST) -m "not lab and not soak and not quiet" -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# Machines and people wait a lot: three files at once, the longest first. What is killed there in the
# middle closes nothing, so warnings are no errors.
LABS := -n 3 --dist loadfile --no-loadscope-reorder -W default
labs: $(STAMP) ## each real platform's life, in minutes
	$(call quietly,lab and smoke)
	$(PYTEST) -m "smoke and lab and not soak and not quiet" $(LABS) $(ARGS)

# What of it needs nothing but this machine, and is no part of `make labs`.
ELSEWHERE := tests/labs/hosts tests/labs/kubernetes tests/labs/aws tests/labs/test_pulumi.py tests/stacks \
	tests/platforms/fargate
local: $(STAMP) ## every test of clusters on this machine, but for those of make labs
	$(call quietly,lab and not smoke)
	$(PYTEST) -m "lab and not soak and not quiet and not smoke" $(LABS) \
		$(addprefix --ignore=,$(ELSEWHERE)) $(ARGS)

labs-all: $(STAMP) ## every test on real platforms
	$(call quietly,lab)
	$(PYTEST) -m "lab and not soak and not quiet" $(LABS) $(ARGS)

soak: $(STAMP) ## the long runs, and every example of Hypothesis's
	$(PYTEST) -m soak --timeout=7200 $(ARGS)
	$(PYTEST) -m "hypothesis and not soak" --hypothesis-profile=all --timeout=7200 $(ARGS)

bench: $(STAMP) ## the figures of a cluster on this machine, and of counting its demand
	$(BIN)/python -m benchmarks $(ARGS)

# Dask's Adaptive takes members out of sets, in an order that Python draws by lot.
bench-scaler: $(STAMP) ## the scaler in virtual time, beside Dask's own and a clairvoyant
	PYTHONHASHSEED=0 $(BIN)/python -m benchmarks.scaler $(ARGS)

bench-hosts: $(STAMP) ## the figures of clusters on hosts, in the lab
	$(BIN)/python -m benchmarks.hosts $(ARGS)

bench-kubernetes: $(STAMP) ## the figures of a cluster on Kubernetes, in the lab
	$(BIN)/python -m pytest -q -s tests/labs/kubernetes/test_figures.py $(ARGS)

docs: $(STAMP) ## the documentation, warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lint: $(STAMP) ## ruff, mypy --strict, import-linter, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.code_sizes

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP) ## resolve the dependencies anew into constraints.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
		--python-version 3.11 --all-extras --custom-compile-command "make lock" \
		--output-file constraints.txt pyproject.toml build-requirements.in

changelog: $(STAMP) ## print what the fragments add to CHANGELOG.md; `towncrier build` moves them
	$(BIN)/towncrier build --draft --version $$($(BIN)/perennial --version)

clean: ## remove what was built
	rm -rf $(VENV) docs/_build build dist *.egg-info
