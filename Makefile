# Two commands for a fresh machine with Python >= 3.11:
#   make demo   set up, then measure trained networks
#   make test   set up, then lint, type-check and test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed: all of [dev], or what the demo needs.
STAMP := $(VENV)/.installed
MEASURING := $(VENV)/.measuring
INSTALL = bin/pip install --disable-pip-version-check --quiet

.PHONY: setup demo test lint types unit doctests shuffled mutants fuzz test-oldest test-newest wheel audit docs clean

setup: $(STAMP)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nncomplexity needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(MEASURING): pyproject.toml constraints.txt | $(BIN)/python
	$(VENV)/$(INSTALL) --constraint constraints.txt --editable '.[demo]'
	touch $@

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(VENV)/$(INSTALL) --constraint constraints.txt --editable '.[dev]'
	touch $(MEASURING) $@

demo: $(MEASURING)
	cd examples/digits && ../../$(BIN)/nncomplexity measure checkpoints/mlp.safetensors --loss-fn task:loss \
	    --eps 0.1 --eps 0.01 --risk-fn task:error --n 1437 --classes 10 --save mlp_{eps}.coarse
	for network in memorised grokked; do \
	    $(BIN)/nncomplexity measure examples/grokking/checkpoints/$$network.safetensors --outputs examples.grokking.task:outputs \
	        --inputs examples.grokking.task:inputs --eps 0.1 --budget 300 || exit; \
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

# Not part of `test`: about an hour of one core. docs/testing.md says what was found.
mutants: setup
	$(BIN)/python tests/mutation.py --count 200 --seconds 30

# Damaged files for every reader, as long as FUZZ_SECONDS, small files that say they are large, and KILLS kills at random moments (docs/reliability.md).
FUZZ_SECONDS ?= 600
KILLS ?= 200

fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.sizes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.kills --kills $(KILLS)

# The oldest version of each dependency that pyproject.toml allows, in an environment of its own; OLDEST_PYTHON may be any from 3.11 to 3.12,
# the newest that those versions have wheels for.
OLDEST_PYTHON ?= python3.11
OLDEST := .venv-oldest

# What needs a package of another extra is left out there.
OF_EXTRAS := tests/integrations tests/workers/test_cluster.py tests/test_site.py

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/pytest -n 2 $(addprefix --ignore ,$(OF_EXTRAS))

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/$(INSTALL) --constraint constraints-oldest.txt --editable '.[test]'
	touch $@

# The newest versions on the package index, as users get them: without constraints.txt, in an environment of its own.
NEWEST := .venv-newest

test-newest:
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/$(INSTALL) --upgrade --upgrade-strategy eager --editable '.[test]'
	$(NEWEST)/bin/pytest -n 2 $(addprefix --ignore ,$(OF_EXTRAS))

# Wheel and sdist, each installed without extras in a new environment, and measured with.
wheel: setup
	tests/packaging/distributions.sh $(BIN)/python

# The site of docs/, in build/site; a warning is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --config-file docs/mkdocs.yml

# Known vulnerabilities in what constraints.txt pins.
audit: setup
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
