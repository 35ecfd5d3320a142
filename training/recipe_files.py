"""Recipes as YAML files: one run each, or an experiment of several.

A file may extend another (`extends: NAME`, a shipped recipe or a path beside it) and change some of
it: mappings are merged key by key, a list of things with names may be changed by name, null takes
away what is there, and anything else replaces it. Under `vary` it may name axes, each with named
changes; every combination of them is a run.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.failures import fields_at_fault
from training.recipe import Recipe, RecipeError
from training.yaml_files import read_yaml

_SHIPPED = Path(str(files("training") / "recipes"))


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe, or the path that `name` is."""
    shipped = _SHIPPED / f"{name}.yaml"
    return shipped if shipped.is_file() else Path(name)


def load_recipe(path: Path, only: str | None = None) -> Recipe:
    """Read the recipe of one run; a wrong key or type fails before weights are loaded.

    Args:
        only: its name, where the file has several.

    Raises:
        RecipeError: no such file, not YAML, a key twice, not a recipe, or not one run.
    """
    runs = load_runs(path)
    if only is not None:
        check_runs([only], runs, path)
        return runs[only]
    if len(runs) > 1:
        raise RecipeError(
            f"{path}: has {len(runs)} runs; choose one with --only: {', '.join(runs)}"
        )
    return next(iter(runs.values()))


def check_runs(names: Sequence[str], runs: Mapping[str, Recipe], file: Path | str) -> None:
    """See that runs of these names are among those of a file.

    Raises:
        RecipeError: some are not.
    """
    if unknown := set(names) - runs.keys():
        known = ", ".join(runs)
        raise RecipeError(f"{file}: has no run {', '.join(sorted(unknown))}; its runs are {known}")


def load_runs(path: Path) -> dict[str, Recipe]:
    """Read every run of an experiment, by its recipe's name: "NAME-CHANGE-CHANGE".

    Raises:
        RecipeError: no such file, not YAML, a key twice, or a run that is not a recipe.
    """
    described = _extended(path, ())
    axes = described.pop("vary", {})
    if not _is_axes(axes):
        raise RecipeError(f"{path}: vary: must contain axes with named changes")
    runs = {}
    for combination in product(*(axis.items() for axis in axes.values())):
        varied = described
        for _, change in combination:
            varied = _changed(varied, change, path)
        names = [str(described.get("name")), *(str(name) for name, _ in combination)]
        recipe = _recipe(varied | ({"name": "-".join(names)} if combination else {}), path)
        runs[recipe.name] = recipe
    return runs


def _extended(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """What a file says, with what it extends."""
    if path.resolve() in seen:
        raise RecipeError(f"{path}: extends itself")
    described = read_yaml(path, RecipeError)
    if not isinstance(described, dict):
        raise RecipeError(f"{path}: recipe: Input should be a valid dictionary")
    extended = described.pop("extends", None)
    if extended is None:
        return described
    shipped = _SHIPPED / f"{extended}.yaml"
    origin = shipped if shipped.is_file() else path.parent / str(extended)
    return _changed(_extended(origin, (*seen, path.resolve())), described, path)


def _changed(described: Mapping[str, Any], changes: Any, path: Path) -> dict[str, Any]:
    """A mapping with changes; see the module."""
    if not isinstance(changes, Mapping):
        raise RecipeError(f"{path}: {changes!r} is not a mapping of changes")
    result = dict(described)
    for key, change in changes.items():
        before = result.get(key)
        if change is None and key != "lora":  # `lora: null` is a value: all parameters
            result.pop(key, None)
        elif isinstance(change, Mapping) and isinstance(before, Mapping):
            result[key] = _changed(before, change, path)
        elif isinstance(change, Mapping) and isinstance(before, list) and _are_named(before):
            result[key] = _by_name(before, change, path)
        else:
            result[key] = change
    return result


def _are_named(things: list[Any]) -> bool:
    return all(isinstance(thing, Mapping) and "name" in thing for thing in things)


def _by_name(things: list[Any], changes: Mapping[str, Any], path: Path) -> list[Any]:
    if unknown := set(changes) - {thing["name"] for thing in things}:
        raise RecipeError(f"{path}: has nothing called {', '.join(sorted(unknown))} to change")
    return [
        _changed(thing, changes.get(thing["name"], {}), path)
        for thing in things
        if changes.get(thing["name"], {}) is not None
    ]


def _is_axes(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(axis, Mapping) and axis for axis in value.values()
    )


def _recipe(described: Mapping[str, Any], path: Path) -> Recipe:
    try:
        return Recipe.model_validate(described)
    except ValidationError as error:
        raise RecipeError(f"{path}: {fields_at_fault(error, 'recipe')}") from None
