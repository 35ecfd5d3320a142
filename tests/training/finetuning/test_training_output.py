"""What training writes: the adapter, the description of its bundle, and the record."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from service.decoding.bundle import Base, Window, load_bundle, read_bundle, trained_labels
from training.finetuning import finetune
from training.finetuning.bases import base_revision
from training.finetuning.merge import merge
from training.finetuning.model_inspection import ADAPTER_WEIGHTS
from training.finetuning.run_record import read_record
from training.mixture.mixing import held_out, mix
from training.mixture.pools import Pools
from training.mixture.sources import Sources
from training.mixture.tasks import LabelledExample, prompt_settings
from training.recipe import is_one_run
from training.recipe_files import load_recipe, recipe_path


def test_adapter_says_what_a_bundle_of_it_will_be(
    adapter: Path, tiny_base: Path, sources: Sources
) -> None:
    """The bundle's description, complete but for its calibration."""
    bundle = read_bundle(adapter)

    assert (bundle.name, bundle.version, bundle.template) == ("tiny", "9", "v2")
    assert bundle.base == Base(name="tiny-base", revision=base_revision(tiny_base))
    assert bundle.window == Window(lowest=2, highest=3)
    assert (bundle.max_tokens, bundle.demonstrations) == (150, 1)
    assert bundle.languages == ("en",)
    assert bundle.encoder == "words@1"
    for name in ("meld", "emorynlp", "unified"):
        without_shares = bundle.label_spaces[name].model_copy(update={"trained": {}})
        assert without_shares == trained_labels(sources.label_spaces[name])
    assert bundle.data == {
        name: hashlib.sha256((sources.data / name).read_bytes()).hexdigest()
        for name in ("others.jsonl", "talks.jsonl")
    }


def test_bundle_knows_the_labels_shares_in_training(adapter: Path) -> None:
    """Of the last stage that trains the label space: nine utterances, and five for EmoryNLP's."""
    spaces = read_bundle(adapter).label_spaces

    assert spaces["meld"].trained == {
        **dict.fromkeys(("surprise", "fear", "sadness", "disgust", "anger"), 0.1111),
        **{"neutral": 0.2222, "joy": 0.2222},
    }
    assert spaces["emorynlp"].trained == {
        **dict.fromkeys(("mad", "peaceful", "neutral", "powerful", "scared"), 0.2),
        **{"joyful": 0.0, "sad": 0.0},
    }
    assert spaces["unified"].trained["joyful"] == 0.2222
    assert spaces["unified"].trained["peaceful"] == 0.0


def test_adapter_keeps_its_recipe(adapter: Path, recipe_file: Path) -> None:
    """A run can be repeated from what it left."""
    record = json.loads((adapter / "training.json").read_text())

    assert record["recipe"] == load_recipe(recipe_file).model_dump(mode="json")


def test_agreement_of_demonstrations_is_on_record_for_each_split(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path
) -> None:
    """The share of shown utterances whose nearest demonstration has their own label.

    Over all epochs of a stage, by label space; of the held-out split too; nothing where no
    demonstration is shown.
    """
    recipe = load_recipe(recipe_file)
    stage = recipe.stages[1]
    settings = prompt_settings(recipe, tiny_base)
    corpora, development = (sources.corpora(f) for f in (stage.corpora, recipe.development))
    pools = Pools(sources, corpora, recipe.seed, development)
    trained = [
        example
        for epoch in range(stage.epochs)
        for example in mix(corpora, stage, pools, sources, settings, recipe.seed, epoch)
    ]
    held = held_out(development, stage, pools, sources, settings)

    def share(examples: Sequence[LabelledExample], space: str) -> float:
        same = [
            example.label == example.demonstrations[0].label
            for example in examples
            if example.demonstrations and example.label_space.name == space
        ]
        return sum(same) / len(same)

    record = json.loads((adapter / "training.json").read_text())["agreement"]
    second, meld = record.pop("second"), "meld, with demonstrations"
    assert record == {
        "first": {},
        "meld, without demonstrations": {},
        meld: {"meld": pytest.approx(share(held[meld], "meld"), abs=1e-4)},
    }
    assert second == {
        space: pytest.approx(share(trained, space), abs=1e-4) for space in ("meld", "unified")
    }
    assert 0 < second["meld"] < 1


def test_bundle_shows_no_demonstrations_where_training_showed_none(
    recipe_file: Path, tiny_base: Path, sources: Sources, tmp_path: Path
) -> None:
    """However many there would be."""
    recipe = load_recipe(recipe_file)
    none = recipe.stages[0].demonstrations.model_copy(update={"count": 1, "share": 0.0})
    stage = recipe.stages[0].model_copy(update={"demonstrations": none})
    changed = recipe.model_copy(update={"stages": (stage,)})

    finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert read_bundle(tmp_path / "run").demonstrations == 0


def test_adapter_names_its_base_and_no_folder(adapter: Path, tiny_base: Path) -> None:
    """Where it was trained is nobody's business, and nowhere else."""
    written = {path.name: path.read_text() for path in adapter.glob("*.json")}

    assert json.loads(written["adapter_config.json"])["base_model_name_or_path"] == "tiny-base"
    assert not [name for name, text in written.items() if str(tiny_base.parent) in text]


@pytest.mark.parametrize("name", ["erc-mini", "erc-small"])
def test_shipped_adapter_is_of_the_shipped_recipe(name: str) -> None:
    """What made it is here."""
    folder = Path(__file__).parents[3] / "data" / "adapters" / name
    recipe = load_recipe(recipe_path(name))

    config = json.loads((folder / "adapter_config.json").read_text())

    assert is_one_run(read_record(folder).recipe, recipe)
    assert config["base_model_name_or_path"] == recipe.base


def test_adapter_holds_what_the_recipe_trains_and_nothing_else(adapter: Path) -> None:
    """Low-rank changes of the linear layers, their biases, whole layer norms; no word table."""
    weights = load_file(adapter / ADAPTER_WEIGHTS)

    norms = {name for name in weights if "_layer_norm." in name}
    low_rank = {name for name in weights if ".lora_A." in name or ".lora_B." in name}
    biases = {name for name in weights if name.endswith(".bias")} - norms
    assert weights.keys() == norms | low_rank | biases
    # Two layers of six linear ones.
    assert (len(low_rank), len(biases)) == (24, 12)
    assert all(weights[name].abs().max() > 0 for name in low_rank | biases)
    # And of two norms.
    gains = [weights[name] for name in norms if name.endswith(".weight")]
    assert len(gains) == 4
    assert all((gain - 1).abs().max() > 0 for gain in gains)


def test_adapter_is_rounded_where_the_recipe_says_so(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Once it is finished, to half the bytes; it is merged as any other."""
    recipe = load_recipe(recipe_file)
    assert recipe.lora is not None
    lora = recipe.lora.model_copy(update={"stored_as": "bfloat16"})
    rounded = tmp_path / "rounded"
    finetune.train(recipe.model_copy(update={"lora": lora}), tiny_base, sources, rounded)

    whole, half = load_file(adapter / ADAPTER_WEIGHTS), load_file(rounded / ADAPTER_WEIGHTS)
    assert whole.keys() == half.keys()
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    assert all(torch.equal(whole[name].to(torch.bfloat16), half[name]) for name in whole)
    merge(rounded, tiny_base, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "model.safetensors").is_file()


@pytest.mark.parametrize("adapted", [False, True], ids=["all-parameters", "adapter"])
def test_recipe_without_stages_makes_a_bundle_of_the_base(
    adapted: bool, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Zero-shot: the base's own weights, rounded to what is served, under the recipe's prompts."""
    changed = {"stages": ()} | ({} if adapted else {"lora": None})
    recipe = load_recipe(recipe_file).model_copy(update=changed)

    finetune.train(recipe, tiny_base, sources, tmp_path / "run")
    merge(tmp_path / "run", tiny_base, tmp_path / "bundle")

    base, bundled = (load_file(f / "model.safetensors") for f in (tiny_base, tmp_path / "bundle"))
    assert base.keys() == bundled.keys()
    assert all(bundled[name].equal(base[name].bfloat16()) for name in base)
    bundle = load_bundle(tmp_path / "bundle", sources.label_spaces)
    assert (bundle.demonstrations, bundle.data) == (0, {})
    assert tuple(bundle.label_spaces) == recipe.label_spaces
