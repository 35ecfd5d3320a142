"""A bundle that cannot be served: `score` and `doctor` say which file is broken, and what to do.

Neither the encoder nor vLLM is started for it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.doctor.findings import check
from service.doctor.model import bundle as look
from service.settings import load_settings
from tests.broken_folders import ADAPTER, BASE, BUNDLE, MODELS, Broken, changed, linked, put
from tests.training.conftest import TALKS


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def starts(*_: Any, **__: Any) -> Any:
        pytest.fail("something is started")

    monkeypatch.setattr("service.recognition_parts.start_engine", starts)
    monkeypatch.setattr("service.recognition_parts.load_encoder", starts)


@pytest.fixture
def scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], str]:
    """Have `score` use a bundle; the line in which it says why it does not."""
    talks = tmp_path / "talks.jsonl"
    rows = [
        {"id": name, "utterances": [{"speaker": s, "text": t} for s, t, _ in talk]}
        for name, talk in TALKS.items()
    ]
    talks.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def score(folder: Path) -> str:
        monkeypatch.setenv("ERC_BUNDLE", str(folder))
        result = CliRunner().invoke(app, ["score", str(talks), str(tmp_path / "out.jsonl")])
        assert result.exit_code == 2, (result.output, result.exception)
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out.jsonl").exists()
        return str(result.stderr.splitlines()[-1])

    return score


@pytest.mark.parametrize("broken", MODELS.values(), ids=MODELS.keys())
def test_bundle_that_cannot_be_served(
    broken: Broken, scoring: Callable[[Path], str], tmp_path: Path
) -> None:
    folder = linked(BUNDLE, tmp_path / "bundle")
    broken.spoil(folder)

    line = scoring(folder)

    assert line.startswith("instructerc: ")
    assert str(folder) in line
    assert broken.problem in line
    assert broken.remedy in line.partition(broken.problem)[2]
    finding = check("bundle", lambda: look(load_settings()))
    assert finding.status == "failed"
    assert broken.problem in f"{finding.detail}; {finding.remedy}"
    assert finding.remedy.endswith(", or set ERC_BUNDLE to another bundle")


def test_description_in_place_of_which_something_else_stands(
    scoring: Callable[[Path], str], tmp_path: Path
) -> None:
    """Of a broken description the line says where; a pointer is called one."""
    folder = linked(BUNDLE, tmp_path / "bundle")

    put("bundle.json", "version https://git-lfs.github.com/spec/v1\n")(folder)
    assert "bundle/bundle.json: is a git-lfs pointer" in scoring(folder)
    put("bundle.json", "")(folder)
    assert "bundle/bundle.json: is empty" in scoring(folder)
    put("bundle.json", '{\n"format": 1,\n')(folder)
    assert "bundle/bundle.json: file: Invalid JSON: EOF while parsing" in scoring(folder)
    assert "line 2" in scoring(folder) or "line 3" in scoring(folder)


def test_bundle_of_no_architecture(scoring: Callable[[Path], str], tmp_path: Path) -> None:
    """vLLM, unlike transformers, knows a model by nothing else."""
    folder = linked(BUNDLE, tmp_path / "bundle")
    changed("config.json", architectures=None)(folder)

    assert "bundle/config.json: has no architectures" in scoring(folder)


def test_what_goes_into_a_bundle_is_none(scoring: Callable[[Path], str], tmp_path: Path) -> None:
    """An adapter, all of a model's weights as they were trained, a base, and what is not there."""
    trained = linked(BUNDLE, tmp_path / "trained")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (trained / name).unlink()
    put("training.json", "{}")(trained)
    merge = "merge it (`instructerc-train merge {} --base BASE --out BUNDLE`) and name the bundle"

    line = scoring(ADAPTER)
    assert f"{ADAPTER}: is an adapter that is not yet merged into its base" in line
    assert merge.format(ADAPTER) in line
    assert "ERC_BUNDLE" in line
    line = scoring(trained)
    assert f"{trained}: is a trained model that is not yet merged into its base" in line
    assert merge.format(trained) in line
    assert f"{BASE}: is a model without bundle.json, so it is not a bundle; train it" in scoring(
        BASE
    )
    assert (
        "nowhere: there is no such folder; name the folder of a bundle, which this command writes: "
        in (scoring(tmp_path / "nowhere"))
    )
    assert "bundle.json: is not a folder; name the folder that contains it" in scoring(
        BUNDLE / "bundle.json"
    )


def test_sound_bundle_is_not_refused() -> None:
    assert look(load_settings()).startswith("erc-mini ")
