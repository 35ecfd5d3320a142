"""Whatever command writes a file or folder: what is there already stays, unless a user says so."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from service.cli import app as service
from service.files import OutputError
from tests.training.conftest import HELD_OUT_TALKS, TALKS
from training.cli import app as training
from training.evaluation.predictions import Answer, Predictions, write_predictions
from training.experiment import Options, run_experiment
from training.finetuning import finetune
from training.finetuning.run_record import check_out
from training.finetuning.trainer import last_checkpoint, remove_checkpoints
from training.mixture.sources import Sources
from training.recipe import Recipe
from training.recipe_files import load_recipe

LABELS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")


def write_dialogues(path: Path, talks: dict[str, list[tuple[str, str, str]]]) -> None:
    rows = [
        {"id": name, "utterances": [{"speaker": s, "text": t, "label": e} for s, t, e in talk]}
        for name, talk in talks.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with something for every command to read."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    write_dialogues(folder / "talks.jsonl", TALKS)
    write_dialogues(folder / "held_out.jsonl", HELD_OUT_TALKS)
    row = {"dialogue": "ferry", "index": 0, "description": "A harbour."}
    (folder / "descriptions.jsonl").write_text(json.dumps(row) + "\n")
    answers = tuple(Answer("d", n, n % 7, (0.4, *(0.1,) * 6)) for n in range(8))
    for name in ("ours", "theirs"):
        write_predictions([Predictions("meld", LABELS, answers)], folder / f"{name}.jsonl")
    return folder


@dataclass(frozen=True)
class Command:
    """A command that writes a file.

    Attributes:
        words: what it is called with, by its folder of inputs and the file that it is to write.
        read: names of the files that it reads.
    """

    app: typer.Typer
    words: Callable[[Path, Path], list[object]]
    read: tuple[str, ...]


COMMANDS = {
    "score": Command(service, lambda i, o: ["score", i / "talks.jsonl", o], ("talks.jsonl",)),
    "prompts": Command(
        training,
        lambda i, o: ["prompts", i / "talks.jsonl", o, "--label-space", "meld"],
        ("talks.jsonl",),
    ),
    "describe": Command(
        training,
        lambda i, o: [
            *("data", "describe", f"jsonl/meld:{i / 'talks.jsonl'}", i / "descriptions.jsonl"),
            *("--out", o),
        ],
        ("talks.jsonl", "descriptions.jsonl"),
    ),
    "demonstrations": Command(
        training,
        lambda i, o: [
            *("data", "demonstrations", f"jsonl/meld:{i / 'talks.jsonl'}", "--out", o),
            *("--held-out", f"jsonl/meld:{i / 'held_out.jsonl'}"),
        ],
        ("talks.jsonl", "held_out.jsonl"),
    ),
    "evaluate": Command(
        training,
        lambda i, o: [
            *("evaluate", i / "bundle", "--corpus", f"jsonl/meld:{i / 'talks.jsonl'}"),
            *("--demonstrations-file", i / "ours.jsonl", "--predictions", o),
        ],
        ("talks.jsonl", "ours.jsonl"),
    ),
    "compare": Command(
        training,
        lambda i, o: ["compare", i / "ours.jsonl", i / "theirs.jsonl", "--out", o],
        ("ours.jsonl", "theirs.jsonl"),
    ),
    "report": Command(
        training,
        lambda i, o: ["report", i / "ours.jsonl", i / "theirs.jsonl", "--out", o],
        ("ours.jsonl", "theirs.jsonl"),
    ),
}
EVERY = pytest.mark.parametrize("name", list(COMMANDS))


def call(name: str, inputs: Path, out: Path, *more: str) -> Result:
    command = COMMANDS[name]
    words = [*map(str, command.words(inputs, out)), *more]
    return CliRunner().invoke(command.app, words)


def refused(result: Result) -> str:
    """The line that says why."""
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def tree(folder: Path) -> dict[Path, bytes | str | None]:
    """Everything in a folder, and what it holds or leads to."""
    return {
        path: str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@EVERY
def test_file_that_is_there_stays(name: str, inputs: Path, tmp_path: Path) -> None:
    """It is refused in a line, before anything is done."""
    out = tmp_path / "mine.html"
    out.write_text("mine")
    before = tree(tmp_path)

    assert f"{out}: already exists; name another file, or replace it: --force" in refused(
        call(name, inputs, out)
    )

    assert tree(tmp_path) == before


@EVERY
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_what_a_command_reads_stays(
    name: str, force: tuple[str, ...], inputs: Path, tmp_path: Path
) -> None:
    """Whatever a user says, and under whatever name."""
    before = tree(inputs)

    for read in COMMANDS[name].read:
        (tmp_path / "same").unlink(missing_ok=True)
        os.link(inputs / read, tmp_path / "same")
        for out in (inputs / read, inputs / ".." / "inputs" / read, tmp_path / "same"):
            assert "is read by this command" in refused(call(name, inputs, out, *force))

    assert tree(inputs) == before


@EVERY
@pytest.mark.parametrize("leads", ["inputs/talks.jsonl", "mine", "nowhere"])
def test_link_stays_and_what_it_leads_to(
    name: str, leads: str, inputs: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(leads)
    before = tree(tmp_path)

    line = refused(call(name, inputs, tmp_path / "link", "--force"))

    assert f"link: is a link to {leads}, and nothing is written through links" in line
    assert tree(tmp_path) == before


@EVERY
def test_folder_is_no_file_to_write(name: str, inputs: Path) -> None:
    before = tree(inputs)

    assert f"{inputs}: is a folder" in refused(call(name, inputs, inputs, "--force"))

    assert tree(inputs) == before


@EVERY
def test_file_in_a_file_is_refused(name: str, inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")

    line = refused(call(name, inputs, tmp_path / "mine" / "out"))

    assert "mine is not a folder" in line or "mine: is a file" in line


@pytest.mark.parametrize("name", ["prompts", "describe", "demonstrations", "compare", "report"])
def test_force_replaces_the_file_alone(name: str, inputs: Path, tmp_path: Path) -> None:
    """Of the commands that need no model here."""
    out = tmp_path / "mine.html"
    out.write_text("mine")
    before = tree(inputs)

    result = call(name, inputs, out, "--force")

    assert result.exit_code == 0, result.output
    assert "mine" not in out.read_text().split()
    assert tree(inputs) == before


def test_measures_beside_a_report_are_a_file_too(inputs: Path, tmp_path: Path) -> None:
    """A predictions file of that name, or anything else."""
    (inputs / "ours.jsonl").rename(inputs / "ours.json")
    (tmp_path / "page.json").write_text("mine")
    before = tree(tmp_path)

    for out, why in (
        (tmp_path / "page.html", "already exists"),
        (inputs / "ours.html", "is read by this command"),
    ):
        words = ["report", str(inputs / "ours.json"), "--out", str(out)]
        assert why in refused(CliRunner().invoke(training, words))

    assert tree(tmp_path) == before


def test_baselines_and_splits_stay(inputs: Path, tmp_path: Path) -> None:
    """Each of the files that are written into a folder, where it is there; others do not matter."""
    corpora = [f"jsonl/meld:{inputs / name}.jsonl" for name in ("talks", "held_out")]
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (tmp_path / "splits.pkl").write_bytes(b"")
    for name, words in (
        ("classifier", ["baselines", "--train", corpora[0], "--corpus", corpora[1]]),
        ("turn-graph@2", ["baselines", "--train", corpora[0], "--corpus", corpora[1]]),
        ("test", ["data", "convert", str(tmp_path / "splits.pkl"), "--label-space", "meld"]),
    ):
        (out / f"{name}.jsonl").write_text("mine")
        before = tree(out)

        line = refused(CliRunner().invoke(training, [*words, "--out", str(out)]))

        assert f"{name}.jsonl: already exists" in line
        assert tree(out) == before
        (out / f"{name}.jsonl").unlink()


@pytest.mark.parametrize(
    "words",
    [["base"], ["merge", "{adapter}", "--base", "{base}", "--out"]],
    ids=lambda words: words[0],
)
def test_users_folder_stays(
    words: list[str], adapter: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """With its folders; so do what a link leads to, and a file."""
    notes = tmp_path / "notes"
    (notes / "drafts").mkdir(parents=True)
    (notes / "drafts" / "one.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("notes")
    before = tree(tmp_path)
    words = [word.format(adapter=adapter, base=tiny_base) for word in words]

    for name, why in (
        ("notes", "notes: contains drafts/one.txt, which `instructerc-train "),
        ("link", "link: is a link to notes"),
        ("file", "file: is a file; name a folder"),
        ("file/in", "file is not a folder"),
        ("notes/drafts/..", "drafts/..: contains drafts/one.txt"),
    ):
        result = CliRunner().invoke(training, [*words, str(tmp_path / name)])
        assert why in refused(result)

    assert tree(tmp_path) == before


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file)


def train(
    recipe: Recipe, base: Path, sources: Sources, out: Path, pool: Path | None = None
) -> None:
    finetune.train(recipe, base, sources, out, demonstrations=pool)


def test_run_is_not_trained_into_a_users_folder(
    recipe: Recipe, tiny_base: Path, sources: Sources, tmp_path: Path
) -> None:
    """Nor into the base, the data, a file, or over a record that is none."""
    notes, other = tmp_path / "notes", tmp_path / "other"
    for folder, name in ((notes, "todo.txt"), (other, "training.json")):
        folder.mkdir()
        (folder / name).write_text("mine")
    before = [tree(folder) for folder in (tmp_path, tiny_base, sources.data)]

    for out, why in (
        (notes, r"notes: contains todo\.txt, which no run wrote; name another folder"),
        (notes / "todo.txt", r"todo\.txt: is a file; name a folder"),
        (tiny_base, "is read by this command"),
        (sources.data, r"contains held_out\.jsonl, which no run wrote"),
        (other, r"training\.json: is not the record of a run"),
    ):
        with pytest.raises(ValueError, match=why):
            train(recipe, tiny_base, sources, out)

    assert [tree(folder) for folder in (tmp_path, tiny_base, sources.data)] == before


def test_run_that_was_killed_before_it_had_a_record_goes_on(
    adapter: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """It has a bundle's description and checkpoints, and nothing else."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "bundle.json").write_bytes((adapter / "bundle.json").read_bytes())

    check_out(tmp_path / "run", tiny_base)
    (tmp_path / "run" / "notes.txt").touch()

    with pytest.raises(OutputError, match="which no run wrote"):
        check_out(tmp_path / "run", tiny_base)


def test_demonstrations_of_a_run_replace_nothing(
    recipe: Recipe, tiny_base: Path, sources: Sources, adapter: Path, tmp_path: Path
) -> None:
    """A run that goes on finds its own there."""
    mine, link, own = (tmp_path / name for name in ("mine", "link", "own"))
    mine.write_text("mine")
    link.symlink_to("nowhere")

    for pool, why in ((mine, "already exists; .* move it away"), (link, "is a link to nowhere")):
        with pytest.raises(OutputError, match=why):
            train(recipe, tiny_base, sources, tmp_path / "run", pool)
    assert mine.read_text() == "mine"
    assert not (tmp_path / "run").exists()

    for _ in range(2):
        train(recipe, tiny_base, sources, adapter, own)
    assert own.read_text()


def test_checkpoints_go_and_what_a_user_put_among_them_stays(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for made in ("first/1/kept", "first/1/checkpoint-20", "first/kept", "second/checkpoint-3"):
        (folder / made).mkdir(parents=True)
        (folder / made / "trainer_state.json").touch()
    (folder / "second" / "checkpoint-best").mkdir()
    (folder / "second" / "checkpoint-best" / "notes.txt").write_text("mine")

    assert last_checkpoint(folder / "second") == folder / "second" / "checkpoint-3"
    remove_checkpoints(folder)

    assert [path for path in folder.rglob("*") if path.is_file()] == [
        folder / "second" / "checkpoint-best" / "notes.txt"
    ]
    assert not (folder / "first").exists()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("results.json", r"results\.json: already exists; .* move it away"),
        ("tiny@7/notes.txt", r"tiny@7: contains notes\.txt, but not the recipe of the run"),
        ("tiny@7/recipe.yaml", r"tiny@7: contains recipe\.yaml, but not the recipe of the run"),
    ],
)
def test_experiment_replaces_nothing_of_a_users(
    path: str, why: str, recipe: Recipe, tiny_base: Path, sources: Sources, tmp_path: Path
) -> None:
    """It is refused before anything is trained."""
    mine = tmp_path / path
    mine.parent.mkdir(exist_ok=True)
    mine.write_text('{"mine": 1}')
    before = tree(tmp_path)

    with pytest.raises(OutputError, match=why):
        run_experiment({"tiny": recipe}, Options(sources.data, tiny_base, tmp_path))

    assert tree(tmp_path) == before


def test_users_own_recipe_is_not_rewritten(
    recipe: Recipe, recipe_file: Path, tiny_base: Path, sources: Sources, tmp_path: Path
) -> None:
    """One with comments, of another run than is asked for."""
    mine = tmp_path / "tiny@8" / "recipe.yaml"
    mine.parent.mkdir()
    mine.write_text(f"# mine\n{recipe_file.read_text()}")

    with pytest.raises(OutputError, match=r"contains recipe\.yaml, which no run wrote"):
        run_experiment({"tiny": recipe}, Options(sources.data, tiny_base, tmp_path, seeds=(8,)))
