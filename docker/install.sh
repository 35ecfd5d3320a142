#!/bin/sh
# What the images are made of, in three steps. A test takes the last two of them in a clean folder.
#
#   docker/install.sh packages cpu|gpu             Debian's packages that the service needs; as root
#   docker/install.sh dependencies cpu|gpu FOLDER  the locked Python packages, in FOLDER/venv
#   docker/install.sh service FOLDER               the service beside them, with its data
#
# PYTHON names the Python to use, 3.11, 3.12 or 3.13; without it python3 is taken. UV names an uv
# that is installed; without it the locked one is put into FOLDER/uv, which the images leave out.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
step=${1:?packages, dependencies or service}

if [ "$step" = service ]; then
  folder=${2:?the folder to install into}
else
  flavour=${2:?cpu or gpu}
  case $flavour in
    cpu | gpu) ;;
    *)
      echo "install.sh: $flavour is neither cpu nor gpu" >&2
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
    if [ "$flavour" = cpu ]; then
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

  *)
    echo "install.sh: $step is none of packages, dependencies, service" >&2
    exit 2
    ;;
esac
