# Needs make and a Python of 3.11 or later, nothing else. `make` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
# Tests wait for deadlines and processes about a third of their time.
WORKERS ?= $(shell echo $$(( ($$(nproc 2>/dev/null || echo 2) * 3 + 1) / 2 )))

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help serve test check bench chaos clean FORCE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: $(VENV)/.runtime ## run hubbub (HUBBUB_PORT=8100 make serve, make serve ARGS="--help")
	@exec $(BIN)/hubbub serve $(ARGS)

test: $(VENV)/.dev ## run the tests (PYTEST_ARGS="-k room -x" is passed on; WORKERS=0: one process)
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(PYTEST_ARGS)

check: $(VENV)/.dev ## lint, formatting, types and the layer rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.dev ## compare with other servers (BENCH_ARGS="--runs 1 --peers hubbub floor" is passed on)
	$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

chaos: $(VENV)/.dev ## break things and check what was promised (ARGS="--rows 17 18 --seeds 2" is passed on)
	$(BIN)/python -m tests.chaos $(ARGS)

clean: ## remove the environment, builds and caches
	rm -rf $(VENV) .chaos build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, or its step is taken again. The development
# environment contains the runtime one, hence two stamps from one installation.

$(VENV)/.runtime: pyproject.toml constraints.txt $(VENV)/.made
	@echo "hubbub: installing into $(VENV) (about a minute the first time)"
	@$(call pip-install,.)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.made
	@echo "hubbub: installing with development tools into $(VENV) (about a minute the first time)"
	@$(call pip-install,.[dev])
	@touch $(VENV)/.runtime $@

# An environment does not survive a move of its folder (scripts hold the full path) or another
# minor version of the Python it was made from, so both are written down and compared.
IDENTITY := import sys; print("%d.%d" % sys.version_info[:2], sys.argv[1])
ifneq ($(shell $(BIN)/python -c '$(IDENTITY)' "$(CURDIR)" 2>/dev/null),$(shell cat $(VENV)/.made 2>/dev/null))
$(VENV)/.made: FORCE
endif

$(VENV)/.made:
	@set -e; python=; \
	for candidate in $(PYTHONS); do \
	    if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        python=$$candidate; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "hubbub needs Python 3.11 or later; tried: $(PYTHONS)." >&2; \
	    echo "Install one, or name it: make PYTHON=/path/to/python3 ..." >&2; \
	    exit 1; \
	fi; \
	rm -rf $(VENV); \
	echo "hubbub: setting up $(VENV) with $$($$python --version)"; \
	if $$python -c 'import venv; from ensurepip import bootstrap' 2>/dev/null; then \
	    $$python -m venv $(VENV); \
	elif $$python -c 'import venv' 2>/dev/null && $$python -m pip --version >/dev/null 2>&1; then \
	    $$python -m venv --without-pip $(VENV); \
	    command -v $$python > $(VENV)/.pip-from; \
	else \
	    echo "This Python cannot make an environment: it lacks venv or pip." >&2; \
	    echo "On Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; \
	fi; \
	$(BIN)/python -c '$(IDENTITY)' "$(CURDIR)" > $@

# Debian without python3-venv: no pip inside the environment, so the one outside fills it.
define pip-install
if [ -f $(VENV)/.pip-from ]; then \
    pip="$$(cat $(VENV)/.pip-from) -m pip --python $(BIN)/python"; \
else \
    pip="$(BIN)/python -m pip"; \
fi; \
$$pip install --quiet --constraint constraints.txt --editable '$(1)'
endef
