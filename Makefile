# Everything a newcomer needs: `make demo`, `make test`. Both set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake

.PHONY: demo test test-long check docs audit profiles clean

$(BIN)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The demo's tables in the terminal; the report has everything in it.
demo: $(BIN)/.installed
	$(SNAKEMAKE) --quiet rules
	@$(BIN)/decur tables results/demo --show
	@echo "Report: $(CURDIR)/results/demo/report.html"

# The tests in this order, the longest first, three at a time: those of SLURM, where there is one, mostly wait
# for it.
TESTS := tests/slurm tests/workflow tests/docs tests/packaging tests/unit
PYTEST := $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: $(BIN)/.installed check
	$(PYTEST) -m "not long" $(TESTS)

# What takes too long for every change: before a release.
test-long: $(BIN)/.installed
	$(PYTEST) -m long $(TESTS)

check: $(BIN)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check workflow rules
	$(BIN)/mypy

docs: $(BIN)/.installed
	rm -rf docs/_api
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "Documentation: $(CURDIR)/docs/_build/html/index.html"

# Known vulnerabilities of the pinned requirements; asks a public database, so not part of `test`.
audit: $(BIN)/.installed
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	.venv/audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip

# Let `snakemake --profile slurm` find the profile from any folder; what else is there stays.
profiles:
	@link="$${XDG_CONFIG_HOME:-$${HOME:?is not set: set it to a folder}/.config}/snakemake/slurm"; \
	[ "$$(readlink "$$link")" = "$(CURDIR)/profiles/slurm" ] && exit 0; \
	if [ -e "$$link" ] || [ -L "$$link" ]; then \
		echo "$$link is not a link to this profile: move it, or use --profile profiles/slurm" >&2; \
		exit 1; \
	fi; \
	mkdir -p "$${link%/*}" && ln -s "$(CURDIR)/profiles/slurm" "$$link"

clean:
	rm -rf .venv results/demo .snakemake
