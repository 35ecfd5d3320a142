"""The running service is held to its OpenAPI document by schemathesis.

It asks each call what the document allows and much that it does not, follows the links from answer
to call, leaves out keys and sends wrong ones, and checks every answer: its status, media type,
headers and content are those of the document.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.access.keys import Key, Scope, entry, hash_given, new_key
from tests.e2e.conftest import REPOSITORY, Service, environment

DOCUMENT = REPOSITORY / "service" / "api" / "openapi.json"
SETTINGS = Path(__file__).with_name("schemathesis.toml")
CASES = 2000
# Of answers alone: a caller who is refused whatever he asks says nothing of what is taken.
OF_ANSWERS = ",".join(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "documented_headers",
    )
)
ADMIN, READER = new_key(), new_key()
QUOTA = """
[keys.quota]
requests_per_s = 0.5
burst = 60
"""


def keys() -> str:
    admin = Key(id="admin", tenant="a", scopes=frozenset({Scope.ADMIN}), sha256=hash_given(ADMIN))
    reader = Key(id="reader", tenant="a", scopes=frozenset({Scope.READ}), sha256=hash_given(READER))
    return f"{entry(admin)}\n\n{entry(reader)}\n{QUOTA}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose callers need keys, for everything but probes and what problems mean."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys.toml").write_text(keys())
    settings = environment(folder) | {
        "ERC_KEYS_FILE": str(folder / "keys.toml"),
        "ERC_OPEN_OPERATIONS": "false",
    }
    running = Service(folder, settings)
    running.start()
    yield running
    assert running.stop() == 0


def held_to_the_document(
    service: Service, folder: Path, key: str, *options: str
) -> tuple[int, dict[str, set[int]]]:
    """How many cases a run without a complaint had, and each call's statuses."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--no-color", "--config-file", SETTINGS, "run", DOCUMENT, "--url", service.url),
            *("--report-json-path", folder / "run.json"),
            *("--report-ndjson-path", folder / "cases.ndjson"),
            *options,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "ERC_TEST_KEY": key},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((folder / "run.json").read_text())
    cases = report["test_cases"]
    print(f"{cases['generated']} cases in {report['running_time']:.0f} s")
    assert (cases["with_failures"], cases["errored"]) == (0, 0)
    assert report["operations"]["tested"] == report["operations"]["total"]
    return cases["generated"], statuses(folder / "cases.ndjson")


def statuses(events: Path) -> dict[str, set[int]]:
    faults_of = defaultdict(set)
    for line in events.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for name, each in recorder.get("interactions", {}).items():
            case = recorder["cases"][name]["value"]
            faults_of[f"{case['method']} {case['path']}"].add(each["response"]["status_code"])
    return dict(faults_of)


def test_whoever_may_do_everything_is_answered_as_documented(
    guarded: Service, tmp_path: Path
) -> None:
    """Each call does what it is for at least once, and every refusal that one caller can meet comes
    up; none of 2,000 cases is answered with 5xx.
    """
    cases, faults = held_to_the_document(guarded, tmp_path, ADMIN, "--max-examples", "80")

    assert cases >= CASES
    documented = {
        f"{method.upper()} {path}"
        for path, methods in json.loads(DOCUMENT.read_text())["paths"].items()
        for method in methods
    }
    assert documented <= set(faults)
    assert not {call for call in documented if not any(s < 300 for s in faults[call])}
    refusals = {400, 401, 403, 404, 405, 409, 412, 415, 422}
    assert refusals <= set().union(*faults.values())
    assert max(set().union(*faults.values())) < 500


def test_whoever_may_do_little_is_refused_as_documented(guarded: Service, tmp_path: Path) -> None:
    """For want of a scope, and once the quota is used up."""
    _, faults = held_to_the_document(
        guarded, tmp_path, READER, "--max-examples", "5", "--checks", OF_ANSWERS
    )

    assert {200, 403, 429} <= set().union(*faults.values())
    assert faults["POST /demonstrations"] <= {401, 403, 429}
