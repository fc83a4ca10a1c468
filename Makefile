# Two commands do all: `make reproduce` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCALE ?= smoke
ARGS ?=

.PHONY: reproduce test bench soak lab docs lint clean install

reproduce: install  ## every figure, the ledger of claims and the report, at SCALE
	$(BIN)/gahb reproduce --scale $(SCALE) $(ARGS)

test: install  ## the whole suite; ARGS="-m 'not slow'" leaves out kills, browsers and whole runs of notebooks
	$(BIN)/python -m pytest $(ARGS)

bench: install  ## speed against the plain way and the machine's ceiling: benchmarks/results.md
	$(BIN)/python benchmarks/bench.py

soak: install  ## ten smoke runs in a row with kills at random moments, and whether every file of the store verifies
	rm -rf runs/soak && $(BIN)/python tests/soak.py runs/soak $(ARGS)

lab: install  ## JupyterLab, with the .py and .ipynb of each notebook kept in step
	$(BIN)/jupyter lab --notebook-dir=. $(ARGS)

docs: install  ## docs/index.html: the API from the docstrings, and the executed notebooks of runs/; fails on broken links
	rm -rf build/docs build/html && mkdir -p build && cp -r tools/docs build
	for path in runs/*/[0-9][0-9]_*.ipynb; do \
	  if [ -f $$path ]; then mkdir -p build/docs/$$(dirname $$path) && cp $$path build/docs/$$path; fi; done
	$(BIN)/sphinx-build -W --keep-going -nq build/docs build/html
	rm -rf docs && mv build/html docs

lint: install  ## style, hints and docstrings; imports run one way; types; notebooks paired
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/jupytext --test --to py:percent notebooks/*.ipynb

install: $(VENV)/.installed

# Everything is installed again when the pins or the package's metadata are newer than the stamp.
$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("gahb needs Python 3.11 or later: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

clean:
	rm -rf $(VENV) build docs figures/smoke  # trained networks stay, in runs/store
	find runs -mindepth 1 -maxdepth 1 ! -name store -exec rm -rf {} + 2>/dev/null || true
