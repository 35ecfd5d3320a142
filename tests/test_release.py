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


def jobs_of(workflow: Path) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(workflow.read_text("utf-8"))["jobs"]
    return jobs


ALL_JOBS = [
    pytest.param(workflow, job, id=f"{workflow.stem}-{name}")
    for workflow in WORKFLOWS
    for name, job in jobs_of(workflow).items()
]
# What runs on the machine that has a token to publish with: no make, no Python, no build.
PUBLISHING = re.compile(
    r"sudo rm -rf [\w/ ]+"
    r"|zstd --decompress --stdout \S+ \| docker load"
    r"|echo \"\$TOKEN\" \| (docker|helm registry) login [^|;&]+ --password-stdin"
    r"|docker push [^|;&\s]+"
    r"|helm package [^|;&]+"
    r"|helm push [^|;&]+"
)


def test_workflows_can_write_nothing_unless_a_job_publishes() -> None:
    """The token of any other job can read; only the release has such jobs."""
    for workflow in WORKFLOWS:
        content = yaml.safe_load(workflow.read_text("utf-8"))
        assert content["permissions"] == {"contents": "read"}
        permissions = {name: job.get("permissions") for name, job in content["jobs"].items()}
        writing = {name for name, result in permissions.items() if result is not None}
        assert writing == ({"image", "chart"} if workflow.stem == "release" else set())
        for name in writing:
            assert permissions[name] == {"contents": "read", "packages": "write"}


@pytest.mark.parametrize(("workflow", "job"), ALL_JOBS)
def test_a_job_that_can_publish_runs_no_code_of_others(workflow: Path, job: dict[str, Any]) -> None:
    """Nor does one that can not have a secret: what is built elsewhere is only loaded and sent."""
    if "permissions" not in job:
        assert "secrets." not in str(job), workflow
        assert "github.token" not in str(job), workflow
        return
    for step in job["steps"]:
        if "uses" in step:
            assert step["uses"].startswith("actions/")
            assert "setup-" not in step["uses"]
        for line in step.get("run", "").splitlines():
            assert PUBLISHING.fullmatch(line), line


@pytest.mark.parametrize(("workflow", "job"), ALL_JOBS)
def test_credentials_come_last_and_to_one_step(workflow: Path, job: dict[str, Any]) -> None:
    """A token is in the environment of the login alone, after which only a push comes."""
    steps_of_job = job["steps"]
    assert "env" not in job, workflow
    with_token = [n for n, step in enumerate(steps_of_job) if "secrets." in str(step)]
    if not with_token:
        return
    (login,) = with_token
    assert "login" in steps_of_job[login]["run"]
    (after,) = steps_of_job[login + 1 :]
    assert re.match(r"(docker|helm) push ", after["run"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_of_a_change_reaches_a_script_or_another_run(workflow: Path) -> None:
    """No expression is put into a script, where it would run; no credential is left in the folder.

    Nothing is kept between runs, and no change of others runs with the repository's rights.
    """
    text = workflow.read_text("utf-8")
    assert "pull_request_target" not in text
    assert "workflow_run" not in text
    for step in steps(workflow):
        assert "${{" not in step.get("run", "")
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "cache" not in {*step.get("with", {}), step.get("uses", "").split("@")[0]}
        assert not step.get("uses", "").startswith("actions/cache")


def test_the_table_of_values_is_a_script_too() -> None:
    """As the chart's README says."""
    script = [sys.executable, "helm/values_table.py"]
    told = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert told.stdout.strip() in (REPOSITORY / "helm/instructerc/README.md").read_text("utf-8")
