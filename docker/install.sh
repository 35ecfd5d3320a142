#!/bin/sh
# What the images are made of, in four steps. A test takes the last three in a clean folder.
#
#   docker/install.sh packages FLAVOUR             Debian's packages that the service needs; as root
#   docker/install.sh dependencies FLAVOUR FOLDER  the locked Python packages, in FOLDER/venv
#   docker/install.sh service FOLDER               the service beside them, with its data
#   docker/install.sh model FLAVOUR FOLDER         the bundle in FOLDER/bundle, less what it leaves out
#
# FLAVOUR is cpu, gpu, or api: without vLLM, whose servers have the weights.
#
# PYTHON names the Python to use, 3.11, 3.12 or 3.13; without it python3 is taken. UV names an uv
# that is installed; without it the locked one is put into FOLDER/uv, which the images leave out.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
step=${1:?packages, dependencies, service or model}

if [ "$step" = service ]; then
  folder=${2:?the folder to install into}
else
  flavour=${2:?cpu, gpu or api}
  case $flavour in
    cpu | gpu | api) ;;
    *)
      echo "install.sh: $flavour is none of cpu, gpu, api" >&2
      exit 2
      ;;
  esac
fi

uv() {
  if [ -z "${UV:-}" ]; then
    UV=$folder/uv/bin/uv
    if [ ! -x "$UV" ]; then
      "$python" -m venv "$folder/uv"
      "$folder/uv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --require-hashes -r requirements/uv.txt
    fi
  fi
  "$UV" "$@"
}

case $step in
  packages)
    # libnuma: of vLLM's CPU build. A compiler: Triton compiles its kernels' launchers when it runs.
    case $flavour in
      cpu) set -- libnuma1 ;;
      gpu) set -- gcc g++ libc6-dev ;;
      api) exit 0 ;;
    esac
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@"
    rm -rf /var/lib/apt/lists/*
    ;;

  dependencies)
    folder=${3:?the folder to install into}
    uv venv --quiet --python "$python" "$folder/venv"
    # The locks are complete: nothing is resolved, and nothing without a hash is taken.
    set -- pip install --quiet --python "$folder/venv/bin/python" --no-deps --require-hashes
    if [ "$flavour" != gpu ]; then
      # Few package indexes have the CPU build of torch; PyTorch's own does.
      uv "$@" -r requirements/torch-cpu.txt 2>/dev/null \
        || uv "$@" -r requirements/torch-cpu.txt --index-url https://download.pytorch.org/whl/cpu
    fi
    uv "$@" -r "requirements/$flavour.txt"
    ;;

  service)
    # The locked setuptools builds it: nothing is fetched here.
    uv pip install --quiet --python "$folder/venv/bin/python" --no-deps --no-build-isolation .
    mkdir -p "$folder/data"
    cp -R data/label_spaces data/demonstrations.jsonl "$folder/data/"
    cp docker/health.py "$folder/"
    ;;

  model)
    folder=${3:?the folder of the bundle}
    if [ "$flavour" = api ]; then
      rm -f "$folder"/bundle/*.safetensors "$folder"/bundle/*.safetensors.index.json
    fi
    ;;

  *)
    echo "install.sh: $step is none of packages, dependencies, service, model" >&2
    exit 2
    ;;
esac
