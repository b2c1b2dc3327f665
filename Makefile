# make train: install into a virtual environment and train the default recipe on the
# embedded digits.  make test: the tests.  PYTHON=python3.13 chooses the interpreter.
# make bench: compare with the peers; BENCH="--data_dir=DIR" passes flags on.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := cnnjax scripts benchmarks tests

# What the version of JAX decides: for a second interpreter.
JAX_TESTS := $(patsubst %,tests/test_%.py,layers models losses optimizers epochs \
	strategy_laws per_example partitioning export)

.PHONY: train test test-jax test-all bench lint format clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'cnnjax needs Python 3.11 or later; choose one with PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

train: $(VENV)/.installed
	$(BIN)/python scripts/train.py --epochs=20 --workdir=runs/digits --overwrite

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto -m "not slow"

test-jax: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto -m "not slow" $(JAX_TESTS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/throughput.py --out=runs/benchmarks/throughput.jsonl $(BENCH)
	$(BIN)/python benchmarks/report.py --out=runs/benchmarks runs/benchmarks/throughput.jsonl

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
