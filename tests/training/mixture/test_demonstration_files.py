"""Demonstrations made of corpora are what training draws from, in a file that the service reads."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.demonstrations.corpus import read_demonstrations
from training.cli import app
from training.finetuning import finetune
from training.mixture.demonstration_files import domain_base, write_demonstrations
from training.mixture.pools import Pools
from training.mixture.sources import Sources
from training.recipe import CorpusFile, Demonstrations, Sample
from training.recipe_files import load_recipe

FILES = (
    CorpusFile(format="jsonl", path=Path("talks.jsonl"), label_space="meld"),
    CorpusFile(format="jsonl", path=Path("others.jsonl"), label_space="emorynlp"),
)


@pytest.mark.parametrize("balanced", [True, False])
def test_base_is_the_pool_that_training_draws_from(
    balanced: bool, sources: Sources, tmp_path: Path
) -> None:
    """The same utterances in the same order, and no two with one id; as read from the file."""
    corpora = sources.corpora(FILES)
    spaces = [sources.label_spaces[name] for name in ("meld", "emorynlp", "unified")]

    write_demonstrations(domain_base(corpora, spaces, 7, balanced=balanced), tmp_path / "base")
    demonstrations = read_demonstrations(tmp_path / "base", sources.label_spaces)

    pools = Pools(sources, corpora, 7, [])
    for space in spaces:
        pool = pools.get("train", space, balanced).demonstrations
        ours = [d for d in demonstrations if d.label_space == space.name]
        assert [d.text for d in ours] == [d.text for d in pool]
        assert [d.label for d in ours] == [space.label(d.label).name for d in pool]
        assert len(ours) > 1
    assert demonstrations[0].id == f"meld-{demonstrations[0].label}-0001"


def test_base_has_as_many_of_each_label(sources: Sources) -> None:
    """A corpus is mostly neutral; its base is not."""
    (corpus,) = sources.corpora(FILES[:1])

    base = domain_base([corpus], [corpus.label_space], 7)

    assert set(Counter(d.label for d in base).values()) == {1}


def test_training_writes_what_its_last_stage_draws_from(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Of the utterances whose labels it may know; also where all else is done already."""
    recipe = load_recipe(recipe_file)
    changes = {
        "sample": Sample(share=0.5),
        "demonstrations": Demonstrations(count=1, share=1.0, balanced=False),
    }
    stage = recipe.stages[1].model_copy(update=changes)
    changed = recipe.model_copy(update={"label_spaces": ("meld",), "stages": (stage,)})
    path = tmp_path / "demonstrations.jsonl"

    def train() -> set[str]:
        out = tmp_path / "run"
        finetune.train(changed, tiny_base, sources, out, demonstrations=path)
        return {d.text for d in read_demonstrations(path, sources.label_spaces)}

    written = train()
    path.unlink()

    (corpus,) = sources.corpora(stage.corpora)
    texts = {u.text for d in corpus.dialogues for u in d.utterances}
    assert written < texts
    assert len(written) == round(0.5 * len(texts))
    assert train() == written
    assert sorted(p.name for p in (tmp_path / "run").glob("*.jsonl")) == []


def test_command_makes_a_file_of_the_users_own_corpora(sources: Sources, tmp_path: Path) -> None:
    """In the corpora's labels, and in unified ones."""
    out = tmp_path / "mine.jsonl"
    named = [f"jsonl/{file.label_space}:{sources.data / file.path}" for file in FILES]

    done = subprocess.run(
        [
            *(sys.executable, "-m", "training.cli", "data", "demonstrations", *named),
            *("--unified", "--no-balanced", "--out", str(out)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    counts = Counter(d.label_space for d in read_demonstrations(out, sources.label_spaces))
    assert counts == {"meld": 9, "emorynlp": 5, "unified": 14}
    assert f"{out}: 28 demonstrations in meld, emorynlp, unified" in done.stdout


def test_command_leaves_out_what_is_held_out(sources: Sources, tmp_path: Path) -> None:
    """A dialogue that the held-out split has too, in other labels; a file cannot be both."""
    kept, out = tmp_path / "kept.jsonl", tmp_path / "mine.jsonl"
    first, *rest = (sources.data / FILES[0].path).read_text().splitlines(keepends=True)
    kept.write_text(first)
    corpus = f"jsonl/meld:{sources.data / FILES[0].path}"

    def made(held_out: str) -> Result:
        command = ["data", "demonstrations", corpus, "--no-balanced", "--out", str(out)]
        return CliRunner().invoke(app, [*command, "--held-out", held_out])

    result = made(f"jsonl/meld:{kept}")

    assert result.exit_code == 0, result.output
    texts = {u["text"] for line in rest for u in json.loads(line)["utterances"]}
    assert {d.text for d in read_demonstrations(out, sources.label_spaces)} == texts
    out.unlink()
    again = made(corpus)
    assert again.exit_code == 2
    assert "is both a training corpus and held out" in again.output
