# Common tasks; start with `make demo` or `make test`. Both create .venv if needed.
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake

$(BIN)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11, 4), "Python 3.11.4 or newer is needed"'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.PHONY: help demo test test-long unit coverage check docs audit profiles clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

# Tables are printed in the terminal; the report contains all results.
demo: $(BIN)/.installed ## run the full pipeline on synthetic data (minutes)
	$(SNAKEMAKE) --quiet rules
	@$(BIN)/decur tables results/demo --show
	@echo "Report: $(CURDIR)/results/demo/report.html"

# Tests run three at a time, the longest first. The tests of SLURM, where it is installed, mostly wait
# for it.
TESTS := tests/slurm tests/workflow tests/docs tests/packaging tests/unit
PYTEST := $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
QUICK := -m "not slow and not slurm and not long" tests/unit

test: $(BIN)/.installed check ## run all checks, and all tests except the long ones
	$(PYTEST) -m "not long" $(TESTS)

test-long: $(BIN)/.installed ## run the long tests, before a release
	$(PYTEST) -m long $(TESTS)

unit: $(BIN)/.installed ## run the quick unit tests
	$(PYTEST) $(QUICK)

coverage: $(BIN)/.installed ## measure the line coverage of the quick unit tests; fail below 90 %
	$(PYTEST) --cov --cov-report=term-missing:skip-covered --cov-fail-under=90 $(QUICK)

check: $(BIN)/.installed ## check style, types, imports, spelling and wording (under a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check workflow rules
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	$(BIN)/python -m tests.docs.test_language

docs: $(BIN)/.installed ## build the documentation
	rm -rf docs/_api
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "Documentation: $(CURDIR)/docs/_build/html/index.html"

# This queries a public database, so it is not part of `test`.
audit: $(BIN)/.installed ## check the pinned requirements for known vulnerabilities
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	.venv/audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip

profiles: ## make `snakemake --profile slurm` work from any folder
	@link="$${XDG_CONFIG_HOME:-$${HOME:?is not set: set it to a folder}/.config}/snakemake/slurm"; \
	[ "$$(readlink "$$link")" = "$(CURDIR)/profiles/slurm" ] && exit 0; \
	if [ -e "$$link" ] || [ -L "$$link" ]; then \
		echo "$$link is not a link to this profile: move it, or use --profile profiles/slurm" >&2; \
		exit 1; \
	fi; \
	mkdir -p "$${link%/*}" && ln -s "$(CURDIR)/profiles/slurm" "$$link"

clean: ## remove the demo's results, caches and builds; keep .venv
	rm -rf results/demo .snakemake build dist docs/_api docs/_build
	rm -rf .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . \( -path ./.venv -o -path ./results \) -prune -o -name __pycache__ -prune -exec rm -rf {} +
