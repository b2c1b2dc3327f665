# make train: install into a virtual environment and train the default recipe on the
# embedded digits.  make test: the tests.  PYTHON=python3.13 chooses the interpreter.
# make mutants: put small faults in, one at a time, and see which test catches each;
# MUTANTS="NAME ... --only_likely" passes names and flags on.
# make soak: kill, stop and damage runs for an hour or two, and print the counts;
# SOAK="--parts=kills --scale=0.1" passes flags on.
# make site: build docs/ and the library's docstrings as pages, in site/.
# make bench: compare with the peers; BENCH="--data_dir=DIR" passes flags on.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := cnnjax scripts benchmarks tests

# Most of the tests' time is spent on compiling: LLVM is not asked to optimize, and where
# XLA still has its older emitters, which compile twice as fast, these are used.
OLD_EMITTERS = $(shell $(BIN)/python -c "import jax; \
	print('--xla_cpu_use_fusion_emitters=false' if jax.__version_info__ < (0, 11) else '')")
UNOPTIMIZED = XLA_FLAGS="$(XLA_FLAGS) --xla_backend_optimization_level=0 $(OLD_EMITTERS)"

# What the version of JAX decides: for a second interpreter, optimized as in use. Laws but
# that of equal gradients, that they catch every fault, and float64, are for the first.
# CHECK_TYPES holds every call to its hints of shapes and types: slow, so not in `test`,
# and not for tests that hand over wrong types on purpose.
JAX_TESTS := $(patsubst %,tests/test_%.py,layers models losses optimizers epochs \
	strategy_laws per_example partitioning export highest dropout)
TYPED_TESTS := $(patsubst %,tests/test_%.py,averages loaded exports likeness stopping \
	watching data_checks laws_check)
JAX_PART := -k "not every_fault_is_caught and not float64 and not without_rows \
	and not (every_strategy_obeys and not gradients_equal)"

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	-c constraints.txt

# Tests of a group share what is costly to make: they go to one worker.
PYTEST = $(BIN)/python -m pytest -n auto --dist loadgroup

.PHONY: site train test test-jax test-all soak mutants bench lint format clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'cnnjax needs Python 3.11 or later; choose one with PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	@echo "installing cnnjax into $(VENV)"
	@$(PIP_INSTALL) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "installing cnnjax and what its tests need into $(VENV)"
	@$(PIP_INSTALL) -e '.[dev]'
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	@echo "installing cnnjax and its peers into $(VENV)"
	@$(PIP_INSTALL) -e '.[bench]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	@echo "installing cnnjax and what its site needs into $(VENV)"
	@$(PIP_INSTALL) -e '.[docs]'
	touch $@

train: $(VENV)/.installed
	$(BIN)/python scripts/train.py --epochs=20 --workdir=runs/digits --overwrite

test: $(VENV)/.dev
	@echo 'pytest -m "not slow", with XLA told not to optimize'
	@$(UNOPTIMIZED) $(PYTEST) -m "not slow"

test-jax: $(VENV)/.dev
	@echo "pytest, the tests that depend on the version of JAX"
	@CHECK_TYPES=1 $(PYTEST) -m "not slow" $(JAX_TESTS) $(JAX_PART)

test-all: $(VENV)/.dev
	$(PYTEST)
	CHECK_TYPES=1 $(PYTEST) $(JAX_TESTS) $(TYPED_TESTS)

soak: $(VENV)/.dev
	@echo "tests/faults/soak.py $(SOAK)"
	@PYTHONPATH=.:scripts:tests:tests/faults $(BIN)/python tests/faults/soak.py $(SOAK)

mutants: $(VENV)/.dev
	@echo "tests/mutate.py $(MUTANTS)"
	@$(UNOPTIMIZED) $(BIN)/python tests/mutate.py $(MUTANTS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

site: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open site/index.html"

bench: $(VENV)/.bench
	@echo "benchmarks/throughput.py $(BENCH), then benchmarks/report.py"
	@$(BIN)/python benchmarks/throughput.py --out=runs/benchmarks/throughput.jsonl $(BENCH)
	@$(BIN)/python benchmarks/report.py --out=runs/benchmarks runs/benchmarks/throughput.jsonl

clean:
	rm -rf $(VENV) runs site .pytest_cache .ruff_cache
