"""What a bundle is asked, and what is refused before it is started."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import UNIFIED, LabelSpace
from service.decoding.bundle import write_bundle
from tests.broken_folders import BUNDLE, put, weights
from tests.training.conftest import described
from training.cli import app
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus
from training.evaluation.questions import by_label_space, check_labelled


def corpus(path: str, space: LabelSpace, label: str | None, *ids: str) -> Corpus:
    """Dialogues of two turns, the second of which has no label."""
    return Corpus(
        Path(path),
        space,
        tuple(
            Dialogue(name, (Utterance("Ann", "Oh!", label), Utterance("Bo", "Hm."))) for name in ids
        ),
    )


def asked(questions: list[tuple[LabelSpace, tuple[Dialogue, ...]]]) -> dict[str, list[str]]:
    return {space.name: [dialogue.id for dialogue in dialogues] for space, dialogues in questions}


def test_files_of_one_label_space_are_asked_together(spaces: Mapping[str, LabelSpace]) -> None:
    """One score and one calibration come of them, whatever stands between them."""
    corpora = [
        corpus("Session4", spaces["iemocap"], "happy", "a", "b"),
        corpus("dev.csv", spaces["meld"], "joy", "a"),
        corpus("Session5", spaces["iemocap"], "sad", "c"),
    ]

    questions = by_label_space(corpora, {"iemocap", "meld"})

    assert asked(questions) == {"iemocap": ["a", "b", "c"], "meld": ["a"]}
    assert len(questions) == 2


def test_unified_labels_are_asked_of_all_files_once(spaces: Mapping[str, LabelSpace]) -> None:
    """Those that are in unified labels already too; one that is not trained on, in no other."""
    corpora = [
        corpus("mine.jsonl", spaces[UNIFIED], "joyful", "u"),
        corpus("dev.csv", spaces["meld"], "joy", "m"),
        corpus("Session5", spaces["iemocap"], "happy", "i"),
    ]

    questions = by_label_space(corpora, {"meld", UNIFIED}, spaces[UNIFIED])

    assert asked(questions) == {"meld": ["m"], UNIFIED: ["u", "m", "i"]}
    assert [d.utterances[0].label for d in questions[1][1]] == ["joyful"] * 3
    assert [d.utterances[0].label for d in questions[0][1]] == ["joy"]


def test_dialogues_of_one_id_are_refused(spaces: Mapping[str, LabelSpace]) -> None:
    """Both files are named; in label spaces of their own they may be."""
    corpora = [
        corpus("one.jsonl", spaces["meld"], "joy", "a", "b"),
        corpus("two.jsonl", spaces["emorynlp"], "mad", "b"),
    ]
    trained = {"meld", "emorynlp", UNIFIED}

    assert len(by_label_space(corpora, trained)) == 2
    for unified, named in ((spaces[UNIFIED], corpora), (None, [corpora[0], corpora[0]])):
        with pytest.raises(
            DatasetError, match=r"(two|one).jsonl: dialogue '.' is also in one.jsonl"
        ):
            by_label_space(named, trained, unified)


def test_corpus_without_a_label_is_refused(spaces: Mapping[str, LabelSpace]) -> None:
    """Nothing could be scored; of forecasts, first turns say nothing."""
    check_labelled(corpus("dev.csv", spaces["meld"], "joy", "a"))

    with pytest.raises(DatasetError, match=r"^raw\.jsonl: no utterance has a label$"):
        check_labelled(corpus("raw.jsonl", spaces["meld"], None, "a"))
    with pytest.raises(
        DatasetError, match=r"dev\.csv: no utterance after the first of a dialogue has"
    ):
        check_labelled(corpus("dev.csv", spaces["meld"], "joy", "a"), "prediction")


@pytest.fixture
def bundle(spaces: Mapping[str, LabelSpace], tmp_path: Path) -> Path:
    """Sound to look at, with one weight: nothing that could be started."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(described(spaces["meld"]), folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).symlink_to(BUNDLE / name)
    put("config.json", '{"architectures": ["OPTForCausalLM"]}')(folder)
    put("model.safetensors", weights({"weight": (2, 2)}))(folder)
    return folder


@pytest.mark.parametrize(
    ("space", "label", "options", "message"),
    [
        ("meld", None, [], "talks.jsonl: no utterance has a label"),
        ("iemocap", "happy", [], "bundle b was not trained on 'iemocap'"),
        ("meld", "joy", ["--unified"], "bundle b was not trained on 'unified'"),
        ("meld", "joy", ["--task", "prediction"], "bundle b was not trained to forecast"),
        ("meld", "joy", ["--record", "nowhere"], "nowhere/bundle.json: No such file"),
        (
            "meld",
            "joy",
            ["--predictions", "nowhere/p.jsonl"],
            "nowhere/p.jsonl: there is no",
        ),
        (
            *("meld", "joy", ["--no-demonstrations", "--demonstrations-file", "mine.jsonl"]),
            "--demonstrations-file has no effect with --no-demonstrations",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_model_is_started(
    space: str,
    label: str | None,
    options: list[str],
    message: str,
    bundle: Path,
    tmp_path: Path,
) -> None:
    """In one line, although the bundle could not be started."""
    talks = tmp_path / "talks.jsonl"
    turn = {"speaker": "Ann", "text": "We won!", **({} if label is None else {"label": label})}
    talks.write_text(json.dumps({"id": "d", "utterances": [turn, turn]}))

    result = CliRunner().invoke(
        app, ["evaluate", str(bundle), "--corpus", f"jsonl/{space}:{talks}", *options]
    )

    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_baselines_refuse_a_corpus_without_a_label(tmp_path: Path) -> None:
    """Before the encoder is loaded."""
    talks = tmp_path / "talks.jsonl"
    talks.write_text(json.dumps({"id": "d", "utterances": [{"speaker": "Ann", "text": "Oh!"}]}))
    named = f"jsonl/meld:{talks}"

    result = CliRunner().invoke(
        app, ["baselines", "--train", named, "--corpus", named, "--out", str(tmp_path / "out")]
    )

    assert result.exit_code == 2
    assert "talks.jsonl: no utterance has a label" in result.stderr
    assert not (tmp_path / "out").exists()


def test_baselines_are_not_asked_what_they_know(tmp_path: Path) -> None:
    """The nearest utterance would be the one that is asked."""
    talks = tmp_path / "talks.jsonl"
    turn = {"speaker": "Ann", "text": "Oh!", "label": "joy"}
    talks.write_text(json.dumps({"id": "d", "utterances": [turn]}))
    named = f"jsonl/meld:{talks}"

    result = CliRunner().invoke(
        app, ["baselines", "--train", named, "--corpus", named, "--out", str(tmp_path / "out")]
    )

    assert result.exit_code == 2
    assert "talks.jsonl: is also what the baselines learn from" in result.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ["--only", "graph"],
            "unknown baseline 'graph'; known are majority, copied, neighbours, classifier",
        ),
        (["--only", "copied", "--only", "copied"], "copied is given twice"),
        (["--seed", "4", "--seed", "4"], "emotion-neighbours@4 is given twice"),
        (
            ["--only", "copied", "--out-of-fold", "{out}2"],
            "--out-of-fold needs speaker-states or turn-graph in --only",
        ),
        (
            ["--out-of-fold", "{out}"],
            "is the folder of --out, in which the files have the same names",
        ),
    ],
)
def test_baselines_that_cannot_be_asked_for_are_refused(
    options: list[str], why: str, tmp_path: Path
) -> None:
    """Before the encoder is loaded, and with nothing written."""
    corpora = []
    for name in ("talks", "others"):
        turn = {"speaker": "Ann", "text": "Oh!", "label": "joy"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": name, "utterances": [turn]}))
        corpora.append(f"jsonl/meld:{tmp_path / name}.jsonl")
    out = str(tmp_path / "out")
    words = ["baselines", "--train", corpora[0], "--corpus", corpora[1], "--out", out]

    result = CliRunner().invoke(app, [*words, *(one.format(out=out) for one in options)])

    assert result.exit_code == 2
    assert why in result.stderr
    assert not [*tmp_path.glob("out*")]
