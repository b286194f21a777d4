# The project in seven commands. On Windows: the two lines of `setup`, then `.venv\Scripts\posekit course`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2
export OMP_NUM_THREADS ?= 1
# uv does not read pip's setting for extra wheel folders.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Real pictures and outputs of the original networks, where they lie beside the checkout.
export POSEKIT_REALDATA ?= $(abspath $(wildcard ../shared/realdata))
export POSEKIT_PARITY ?= $(abspath $(wildcard ../shared/parity))

.PHONY: help setup course lab figures test lint bench clean

help:
	@echo "make setup    a virtual environment in $(VENV) with everything (once)"
	@echo "make course   run every notebook, quick profile, into build/notebooks/quick"
	@echo "make lab      open the notebooks in JupyterLab"
	@echo "make test     all tests"
	@echo "make figures  run the course and replace figures/"
	@echo "make lint     style and types"
	@echo "make bench    benchmarks beside their peers"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
	  (test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV)) && \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
	  (test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)) && \
	  $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

course: setup
	$(BIN)/posekit course --profile quick --jobs $(JOBS)

lab: setup
	$(BIN)/jupyter lab notebooks

figures: setup
	$(BIN)/python -m posekit.course.figures --write --jobs $(JOBS)

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/posekit bench

clean:
	rm -rf build
