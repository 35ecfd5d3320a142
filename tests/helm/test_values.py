"""Values: all are known, all are described, and a wrong one is refused with what to do."""

import json
import re
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml
from pydantic import ValidationError

from helm.values_table import values_table
from service.settings import OWN, Section, Settings
from tests.helm.rendering import CHART, INSTALLATIONS, Manifest, pods, render, variables

SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema that describes an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def settings_of(section: type[Any], prefix: str = "ERC_") -> Iterator[str]:
    for name, field in section.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.default, Section):
            yield from settings_of(type(field.default), variable + "__")
        else:
            yield variable


def test_the_readme_shows_the_values_there_are() -> None:
    """Paste what `python helm/values_table.py` prints between the two marks."""
    readme = (CHART / "README.md").read_text("utf-8")

    shown = readme.split("<!-- values -->\n")[1].split("\n<!-- end of values -->")[0]

    assert shown == values_table()


@pytest.mark.parametrize(
    "host",
    [
        *("*", "erc", "erc.example.org", "*.example.org", "erc.example.org.", "my_erc", "10.0.0.1"),
        *(
            "::1",
            "fd00::a:1",
            "",
            " ",
            "a..b",
            ".a",
            "*.",
            "*.*.a",
            "a b",
            "a/b",
            "http://a",
            "[::1]",
        ),
        *("a:8000", "ä.org", "**"),
    ],
)
def test_a_host_is_good_for_the_chart_if_it_is_for_the_service(host: str) -> None:
    """What the chart lets through and the service does not would keep pods from starting."""
    pattern = SCHEMA["properties"]["keys"]["properties"]["hosts"]["items"]["pattern"]
    try:
        good = Settings(allowed_hosts=host).allowed_hosts == (host,)
    except ValidationError:
        good = False

    assert (re.search(pattern, host) is not None) == good


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "/emotions", "/v1/erc_2.0-b~", "emotions", "/a//b", "//a", "/..", "/a/../b", "/a b"),
        *("/.a", "/a?b", "/%61", "https://a/b", "/" + 200 * "a", "/" + 199 * "a"),
        *(f"/{own}" for own in OWN),
        *(f"/{own}/erc" for own in OWN),
        *(f"/{own}s" for own in OWN),
    ],
)
def test_a_prefix_is_good_for_the_chart_if_it_is_for_the_service(prefix: str) -> None:
    """Pods would not start."""
    try:
        good = Settings(root_path=prefix).root_path == (prefix or None)
    except ValidationError:
        good = False
    try:
        render(ANYBODY | {"pathPrefix": prefix})
        rendered = True
    except helm_python.HelmError:
        rendered = False

    assert rendered == good


def test_helm_s_own_linter_finds_nothing() -> None:
    """Strictly; that a chart may have an icon is no finding."""
    report = helm_python.lint(CHART, dict(INSTALLATIONS["production"]), strict=True)

    assert report["total_charts_linted"] == 1
    assert not report["errors"]
    assert {message["error"] for message in report["messages"]} <= {"icon is recommended"}


def test_the_schema_is_closed() -> None:
    """Every object says what else it may hold: nothing, or values of one shape."""
    for schema in objects(SCHEMA):
        more = schema.get("additionalProperties")
        assert more is False or (isinstance(more, dict) and more.get("type") == "string"), schema


def test_the_schema_has_the_values_there_are() -> None:
    """Each has a default, so that none is missing when a template asks for it."""

    def same(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        names = schema.get("properties", {}).keys() - {"global"}
        if path != "settings.":
            assert names == values.keys() or not names, path
        for name in names & values.keys():
            if isinstance(values[name], dict):
                same(schema["properties"][name], values[name], f"{path}{name}.")

    same(SCHEMA, VALUES, "")


def test_settings_are_those_that_the_chart_does_not_set() -> None:
    """A setting of the service is either a value of the chart's own or one of `settings`."""
    offered = set(SCHEMA["properties"]["settings"]["properties"])
    set_by_the_chart = {
        name
        for installed in INSTALLATIONS.values()
        for _, pod in pods(tuple(render({**installed, "settings": {}})))
        for container in pod["containers"]
        for name in variables(container)
        if name.startswith("ERC_")
    }
    set_by_the_chart -= {"ERC_ENGINE__THREADS", *VALUES["settings"]}  # which may be said otherwise

    assert offered | set_by_the_chart == set(settings_of(Settings))
    assert not offered & set_by_the_chart


SEVERAL = {"replicas": 2, "keys": {"anonymous": True}}
SERVERS = {
    "database": {"kind": "postgresql", "secret": {"name": "a"}},
    "qdrant": {"kind": "server", "url": "http://a"},
}
ANYBODY = {"keys": {"anonymous": True}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "set keys.secret.name"),
        (SEVERAL, "2 processes cannot share a SQLite file: set database.kind to postgresql"),
        (SEVERAL | {"qdrant": SERVERS["qdrant"]}, "cannot share a SQLite file"),
        (SEVERAL | {"database": SERVERS["database"]}, "cannot share an embedded index"),
        (ANYBODY | {"autoscaling": {"kind": "hpa"}}, "8 processes cannot share a SQLite file"),
        (ANYBODY | SERVERS | {"autoscaling": {"kind": "keda"}}, "set autoscaling.prometheus"),
        (ANYBODY | SERVERS | {"autoscaling": {"kind": "hpa", "max": 1}}, "less than"),
        (ANYBODY | {"database": {"kind": "postgresql"}}, "set database.secret.name"),
        (ANYBODY | {"database": {"kind": "trial"}}, "set database.trial.secret.name"),
        (ANYBODY | {"qdrant": {"kind": "server"}}, "set qdrant.url"),
        (ANYBODY | {"qdrant": {"kind": "trial"}}, "set qdrant.secret.name"),
        (ANYBODY | {"model": {"source": "volume"}}, "set model.volume.claim"),
        (ANYBODY | {"model": {"source": "objectStore"}}, "set model.objectStore.path"),
        (ANYBODY | {"model": {"source": "hub"}}, "set model.hub.repository"),
        (
            {"keys": {"secret": {"name": "a"}}, "metrics": {"monitor": {"enabled": True}}},
            "set metrics.monitor.secret.name",
        ),
        (ANYBODY | {"ingress": {"enabled": True}}, "set ingress.host"),
        (ANYBODY | {"gateway": {"enabled": True}}, "set gateway.parents"),
        (ANYBODY | {"batch": {"enabled": True}}, "set batch.claim"),
        (
            ANYBODY
            | {
                "batch": {
                    **dict.fromkeys(("claim", "input", "output"), "a"),
                    "enabled": True,
                    "cluster": {"workers": 2},
                }
            },
            "set batch.cluster.image",
        ),
        (ANYBODY | {"rollout": {"surge": 0}}, "set rollout.surge or rollout.unavailable"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values: dict[str, Any], message: str) -> None:
    """With what to set, before anything is installed."""
    with pytest.raises(helm_python.HelmError) as refused:
        render(values)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"replica": 2}, "replica"),
        ({"image": {"tags": "a"}}, "tags"),
        ({"settings": {"ERC_LOG_LEVLE": "debug"}}, "ERC_LOG_LEVLE"),
        ({"settings": {"ERC_BUNDLE": "/elsewhere"}}, "ERC_BUNDLE"),
        ({"model": {"hub": {"revision": "main"}}}, "revision"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"replicas": "2"}, "replicas"),
        ({"batch": {"output": "../../etc/passwd"}}, "output"),
        ({"batch": {"output": "a' --force '"}}, "output"),
        ({"shutdown": {"marginS": 1}}, "marginS"),
        ({"resources": {"limits": {"cpu": 2}}}, "cpu"),
    ],
)
def test_a_value_that_is_none_is_refused(values: dict[str, Any], place: str) -> None:
    """A misspelt name, another type, or a setting that the chart itself makes."""
    with pytest.raises(helm_python.HelmValuesError) as refused:
        render(ANYBODY | values)

    assert place in str(refused.value)


def test_a_setting_becomes_a_variable() -> None:
    """As text, whatever YAML makes of it; large numbers too."""
    rendered: list[Manifest] = render(
        ANYBODY
        | {
            "settings": {
                "ERC_SESSIONS__DIALOGUE_RETENTION_S": 2592000,
                "ERC_DEMONSTRATIONS__SHOWN": False,
            }
        }
    )

    (pod,) = [pod for _, pod in pods(tuple(rendered))]
    environment = variables(pod["containers"][0])
    assert environment["ERC_SESSIONS__DIALOGUE_RETENTION_S"] == "2592000"
    assert environment["ERC_DEMONSTRATIONS__SHOWN"] == "false"
