"""What training computes in is the machine's or the recipe's to say, and is on record."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from service.decoding.precision import ComputeType
from training.finetuning import finetune
from training.finetuning.run_record import open_record, write_record
from training.mixture.sources import Sources
from training.recipe import Recipe, RecipeError
from training.recipe_files import load_recipe

_PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm}


class _Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in what type matrices are multiplied, behind autocasting."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.overloadpacket in _PRODUCTS:
            self.types |= {each.dtype for each in args if isinstance(each, torch.Tensor)}
        return function(*args, **(kwargs or {}))


@contextmanager
def products() -> Iterator[set[torch.dtype]]:
    """The types of the matrices that are multiplied meanwhile."""
    with _Noted() as noted:
        yield noted.types


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    """Of a base whose weights are read in bfloat16."""
    return load_recipe(recipe_file).model_copy(update={"dtype": "bfloat16"})


@pytest.mark.parametrize(
    ("able", "computed"),
    [
        pytest.param({"avx2": True, "avx512_bf16": False}, "float32", id="AVX2"),
        pytest.param({"avx2": True, "avx512_bf16": True}, "bfloat16", id="AVX512-BF16"),
    ],
)
def test_a_machine_trains_in_what_it_multiplies(
    able: dict[str, bool],
    computed: str,
    recipe: Recipe,
    tiny_base: Path,
    sources: Sources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps and scores alike, whatever a launcher was told; the record says in what."""
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: able)
    for limit in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(limit, raising=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")

    with products() as multiplied:
        finetune.train(recipe, tiny_base, sources, tmp_path)

    assert (torch.bfloat16 in multiplied) == (computed == "bfloat16")
    assert json.loads((tmp_path / "training.json").read_text())["compute"] == computed


def test_a_recipe_may_say_what_is_computed_in(
    recipe: Recipe, tiny_base: Path, sources: Sources, tmp_path: Path
) -> None:
    """Whatever the machine multiplies."""
    changed = recipe.model_copy(update={"compute": "float32"})

    with products() as multiplied:
        finetune.train(changed, tiny_base, sources, tmp_path)

    assert multiplied == {torch.float32}


@pytest.mark.parametrize(("before", "now"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_a_run_does_not_go_on_in_another_type(
    before: ComputeType, now: ComputeType, recipe: Recipe, tmp_path: Path
) -> None:
    """The recipe can have it go on in the one that it was begun in: that is no other recipe."""
    record = open_record(recipe, {"base": "1"}, before, tmp_path)
    write_record(record, tmp_path)
    told = recipe.model_copy(update={"compute": before})

    with pytest.raises(RecipeError) as refused:
        open_record(recipe, {"base": "1"}, now, tmp_path)

    assert str(refused.value) == (
        f"{tmp_path}: was started in {before} and would continue in {now}; set compute: {before} "
        "in the recipe to resume it, remove it or choose another folder"
    )
    assert open_record(told, {"base": "1"}, before, tmp_path) == record


def test_a_run_that_is_complete_is_so_on_any_machine(recipe: Recipe, tmp_path: Path) -> None:
    """Nothing is left to compute."""
    record = open_record(recipe, {}, "bfloat16", tmp_path)
    record.complete = True
    write_record(record, tmp_path)

    assert open_record(recipe, {}, "float32", tmp_path) == record


def test_a_run_without_the_type_on_record_was_in_bfloat16(recipe: Recipe, tmp_path: Path) -> None:
    """It may go on in that."""
    record = open_record(recipe, {}, "bfloat16", tmp_path)
    described = record.model_dump(mode="json", exclude={"compute"})
    (tmp_path / "training.json").write_text(json.dumps(described))

    assert open_record(recipe, {}, "bfloat16", tmp_path) == record
    with pytest.raises(RecipeError, match="was started in bfloat16 and would continue in float32"):
        open_record(recipe, {}, "float32", tmp_path)
