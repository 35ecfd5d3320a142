"""`instructerc score --cluster`, whose address may be left out."""

from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from service import score_command
from service.cli import app
from service.score_command import _OF_ENVIRONMENT


def cluster_of(*arguments: str) -> object:
    """What a call of the command takes for the address."""
    score = get_command(app).commands["score"]  # type: ignore[attr-defined]
    return score.make_context("score", ["in", "out", *arguments]).params["cluster"]


@pytest.mark.parametrize(
    ("arguments", "cluster"),
    [
        ((), None),
        (("--cluster",), _OF_ENVIRONMENT),
        (("--cluster", "--force"), _OF_ENVIRONMENT),
        (("--cluster", "10.0.0.1:6379"), "10.0.0.1:6379"),
        (("--cluster=auto", "--force"), "auto"),
    ],
)
def test_the_address_is_what_follows(arguments: tuple[str, ...], cluster: str | None) -> None:
    assert cluster_of(*arguments) == cluster


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_command, "find_spec", lambda name: None)

    result = CliRunner().invoke(app, ["score", str(tmp_path), str(tmp_path / "out"), "--cluster"])

    assert result.exit_code == 2
    assert "ray and pyarrow not installed: pip install 'instructerc[cluster]'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_actors_are_for_a_cluster(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["score", str(tmp_path), "out", "--actors", "2"])

    assert result.exit_code == 2
    assert "--cluster" in result.stderr
