# All that one needs: make quickstart, make test. See README.md.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
SITE   := import sysconfig; print(sysconfig.get_path("purelib"))
ON_LOWEST := config data metrics plots prepare inference checkpoints heads evaluators benchmarks optim training/test_loop.py

.PHONY: install quickstart test lowest lint schema docs clean
.DEFAULT_GOAL := quickstart

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "facetx needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: install  ## train a small face transformer on synthetic faces
	$(BIN)/python scripts/train.py --config configs/quickstart.yaml

test: install  ## every test; no network, no GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lowest: install  ## the installed package on the lowest versions that it allows; torch is that of .venv
	$(PYTHON) -m venv --clear --without-pip $(LOWEST)
	$(BIN)/python -c '$(SITE)' > "$$($(LOWEST)/bin/python -c '$(SITE)')/torch_of_venv.pth"
	$(LOWEST)/bin/python -m pip install --quiet --requirement tests/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --no-deps --no-build-isolation .
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -P -m pytest -n 2 --dist worksteal $(addprefix tests/,$(ON_LOWEST))

lint: install  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

schema: install  ## configs/schema.json, docs/backbones.md and docs/settings.md anew
	$(BIN)/python -m facetx.config.schema > configs/schema.json.new
	mv configs/schema.json.new configs/schema.json
	$(BIN)/python -m facetx.backbones.table
	$(BIN)/python -m facetx.config.reference

clean:
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info
