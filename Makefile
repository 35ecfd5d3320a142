# `make serve` and `make test` need Python 3.11 on Linux (x86-64) and a package index, nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BASE := build/base/minilm-causal
ADAPTER := data/adapters/erc-mini
BUNDLE := build/bundles/erc-mini
PYTORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
TIMED := tests/api/test_event_loop.py
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes

export TOKENIZERS_PARALLELISM := false

.PHONY: serve test faults bench openapi check format install bundle lock clean
.DELETE_ON_ERROR:

serve: $(BUNDLE)/bundle.json
	@exec $(BIN)/instructerc serve

# Two at a time, but for those that measure how long things take.
test: $(BUNDLE)/bundle.json
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/faults --deselect $(TIMED)
	$(BIN)/python -m pytest tests/faults $(TIMED)

# What becomes of the running service when a part of it, a server or a client fails: ten minutes.
faults: $(BUNDLE)/bundle.json
	ERC_TEST_OVERLOAD_S=60 $(BIN)/python -m pytest -v -rP tests/faults

# About ten minutes on two cores; BENCH="--rows c,d --quick" for less.
bench: $(BUNDLE)/bundle.json
	@$(BIN)/python -m tests.bench $(BENCH)

# The document that tests compare with what the service says of itself.
openapi: $(INSTALLED)
	$(BIN)/instructerc openapi > service/api/openapi.json

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED)

bundle: $(BUNDLE)/bundle.json

# The lock is complete, so nothing is resolved: --no-deps leaves out torchvision and torchaudio,
# which vLLM names for models with images and sound and whose index builds are for CUDA.
# The CPU build of torch is on few package indexes; PyTorch's own has it.
$(INSTALLED): requirements/torch-cpu.txt requirements/locked.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed, $(PYTHON) is another; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing the lock into $(VENV); the first time this downloads about 700 MB"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --quiet -r requirements/torch-cpu.txt 2>/dev/null \
	  || $(PIP_INSTALL) -r requirements/torch-cpu.txt --index-url $(PYTORCH_CPU_INDEX)
	$(PIP_INSTALL) -r requirements/locked.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation \
	  --editable .
	@$(BIN)/python -c "import torch, vllm, qdrant_edge, sentence_transformers"
	@touch $@

$(BASE)/base.json: training/bases.py | $(INSTALLED)
	$(BIN)/instructerc-train base $(BASE)

$(BUNDLE)/bundle.json: $(BASE)/base.json $(wildcard $(ADAPTER)/*) training/merge.py | $(INSTALLED)
	$(BIN)/instructerc-train merge $(ADAPTER) --base $(BASE) --out $(BUNDLE)

# Resolves anew. UV_FIND_LINKS or UV_TORCH_BACKEND=cpu tells uv where the CPU build of torch is.
lock: $(INSTALLED)
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade \
	  --extra cpu --extra training --extra dev \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
	  --no-header --no-annotate --no-emit-find-links --no-emit-index-url \
	  --no-emit-package torch --no-emit-package torchvision --no-emit-package torchaudio \
	  --no-emit-package torchcodec --no-emit-package triton \
	  --output-file requirements/locked.txt

clean:
	rm -rf $(VENV) build
