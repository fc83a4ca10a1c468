# Two commands do all: `make reproduce` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCALE ?= smoke
ARGS ?=

.PHONY: reproduce test check bench soak lab docs lint clean install

reproduce: install  ## every figure, the ledger of claims and the report, at SCALE
	$(BIN)/gahb reproduce --scale $(SCALE) $(ARGS)

test: install  ## the whole suite, the headless run of every notebook included
	$(BIN)/python -m pytest $(ARGS)

check: install  ## hold every routine against a known truth, and print the table
	$(BIN)/gahb check

bench: install  ## speed beside the plain way and the machine's ceiling: benchmarks/results.md
	$(BIN)/python benchmarks/bench.py

soak: install  ## ten smoke runs in a row with kills at random moments, and whether every file of the store verifies
	rm -rf runs/soak && $(BIN)/python tests/soak.py runs/soak $(ARGS)

lab: install  ## JupyterLab, with the .py and .ipynb of each notebook kept equal
	$(BIN)/jupyter lab --notebook-dir=. $(ARGS)

docs: install  ## docs/index.html: the API from the docstrings, and the executed notebooks of runs/
	$(BIN)/python -m gahb.docs

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/jupytext --test --to py:percent notebooks/*.ipynb

install: $(VENV)/.installed

# The stamp is newer than the pins and the package's metadata, or all is installed again.
$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("gahb needs Python 3.11 or later: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) docs figures/smoke  # trained denoisers stay, in runs/store
	find runs -mindepth 1 -maxdepth 1 ! -name store -exec rm -rf {} + 2>/dev/null || true
