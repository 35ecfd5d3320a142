"""A release is one version everywhere, and says what it is made of."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from requirements.licences import licences

REPOSITORY = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["version"]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yaml"))
TARGETS = re.findall(r"^([a-z][a-z-]*)(?:%|):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_the_chart_has_the_version_of_the_project() -> None:
    """Its own, and that of what it installs."""
    chart = yaml.safe_load((REPOSITORY / "helm/instructerc/Chart.yaml").read_text("utf-8"))

    assert {chart["version"], chart["appVersion"]} == {VERSION}


def test_the_changelog_begins_with_the_version() -> None:
    """The newest entry is the one that is being written."""
    entries = re.findall(r"^## \[(.+?)\]", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.M)

    assert entries[0] == VERSION


def test_make_knows_the_version() -> None:
    """Which names images."""
    told = subprocess.run(
        ["make", "--silent", "--no-print-directory", "version"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.strip() == VERSION


def test_licences_are_listed() -> None:
    """`make licences` writes what the installed packages state."""
    assert (REPOSITORY / "requirements/LICENCES.md").read_text("utf-8") == licences()


def test_no_package_would_bind_the_service_to_its_licence() -> None:
    """GPL and AGPL do; LGPL, MPL and the rest do not, where they are only imported."""
    bound = [line for line in licences().splitlines() if re.search(r"(?<!L)\bA?GPL", line)]

    assert not bound


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_what_github_takes(workflow: Path) -> None:
    """By the schema that editors use."""
    schemas = files("check_jsonschema").joinpath("builtin_schemas/vendor")
    schema = json.loads(schemas.joinpath("github-workflows.json").read_text("utf-8"))

    # YAML 1.1 reads the key `on` as true.
    text = workflow.read_text("utf-8").replace("\non:", '\n"on":')
    jsonschema.validate(yaml.safe_load(text), schema)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_anybody_can_run(workflow: Path) -> None:
    """Targets of the Makefile, and actions as they were when they were read."""
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        for target in re.findall(r"make (?:--silent )?\"?([a-z-]+)", step.get("run", "")):
            assert target in TARGETS, target


def test_a_change_is_checked_as_a_submission_is() -> None:
    """By every target that `.ci/run` has."""
    run = (REPOSITORY / ".ci/run").read_text("utf-8")
    (check,) = [workflow for workflow in WORKFLOWS if workflow.stem == "check"]

    done = {step.get("run") for step in steps(check)}

    assert {f"make {target}" for target in re.findall(r"^make (\w+)$", run, re.M)} <= done


def test_workflows_write_nothing_unless_they_publish() -> None:
    """The token of a check can read; no expression is put into a script, where it would run."""
    for workflow in WORKFLOWS:
        content = yaml.safe_load(workflow.read_text("utf-8"))
        assert content["permissions"] == {"contents": "read"}
        may_push = workflow.stem == "release"
        for job in content["jobs"].values():
            wanted = {"contents": "read", "packages": "write"} if may_push else None
            assert job.get("permissions") == wanted
        assert not any("${{" in step.get("run", "") for step in steps(workflow))


def test_the_table_of_values_is_a_script_too() -> None:
    """As the chart's README says."""
    script = [sys.executable, "helm/values_table.py"]
    told = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert told.stdout.strip() in (REPOSITORY / "helm/instructerc/README.md").read_text("utf-8")
