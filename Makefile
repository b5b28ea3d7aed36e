# Two commands for a fresh machine with Python >= 3.11:
#   make demo   set up, then measure trained networks
#   make test   set up, then lint, type-check and test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint types unit doctests shuffled mutants fuzz clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nncomplexity needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	cd examples/digits && ../../$(BIN)/nncomplexity measure checkpoints/mlp.safetensors --loss-fn task:loss \
	    --eps 0.1 --eps 0.01 --risk-fn task:error --n 1437 --classes 10 --save mlp_{eps}.coarse
	for network in memorised grokked; do \
	    $(BIN)/nncomplexity measure examples/grokking/checkpoints/$$network.safetensors --loss-fn examples.grokking.task:loss \
	        --eps 1 --budget 400 --risk-fn examples.grokking.task:error --n 2553 --classes 113 || exit; \
	done

test: lint types unit doctests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/pytest -n 2

# In a run of their own: a module collected for its examples is imported once more, beside the one that tests import.
doctests: setup
	$(BIN)/pytest -n 2 --doctest-modules nncomplexity

shuffled: setup
	$(BIN)/pytest -n 2 --random-order-bucket=global

# Not part of `test`: some hours of one core. docs/testing.md says what was found.
mutants: setup
	$(BIN)/python tests/mutation.py --count 200

# Damaged files for every reader, as long as FUZZ_SECONDS, and KILLS kills at random moments (docs/reliability.md).
FUZZ_SECONDS ?= 600
KILLS ?= 200

fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.kills --kills $(KILLS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
