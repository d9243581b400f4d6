# Everything runs in .venv; the first target that needs it makes it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: search test test-slow test-gpu test-postgres check format schemas clean

search: $(STAMP)  ## the main job on the embedded default: no GPU, data or weights needed
	$(BIN)/nas-t2i search search_spaces/sdxl.yaml --budget budgets/embedded.yaml

test: $(STAMP)  ## the tests, without those marked slow, gpu or postgres
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal -m "not slow and not gpu and not postgres"

test-slow: $(STAMP)  ## the tests that train for minutes
	$(BIN)/python -m pytest -m slow

test-gpu: $(STAMP)  ## what only a machine with a CUDA device can show
	$(BIN)/python -m pytest -m gpu tests/gpu

test-postgres: $(STAMP)  ## storage tests; NAS_T2I_TEST_POSTGRES=postgresql+psycopg://user:password@host
	$(BIN)/python -m pytest -m postgres

check: $(STAMP)  ## format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(STAMP)  ## rewrite nas_t2i/schemas/ from the code
	$(BIN)/nas-t2i schema space -o nas_t2i/schemas/space.json
	$(BIN)/nas-t2i schema budget -o nas_t2i/schemas/budget.json

clean:
	rm -rf .venv build *.egg-info

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)
