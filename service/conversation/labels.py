"""Label spaces: the labels, their order, and the word for each in a prompt.

Those that ship are `data/label_spaces/NAME.toml`, each with its labels in the prompt's order.
`service.conversation.derived` has label spaces whose labels are sums of another one's, and
`service.conversation.few_shot` a tenant's own, made from examples.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

UNIFIED = "unified"
# The key that marks a file as a derived label space, which no model is trained on.
DERIVED_FROM = "derived_from"


class AnyLabel(Protocol):
    """A label as answers report it.

    Attributes:
        unified: the Feeling-Wheel label it maps to; None if there is no single one.
    """

    @property
    def name(self) -> str: ...

    @property
    def unified(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Label:
    """One emotion of a label space.

    Attributes:
        name: the corpus's own word, in lower case, as answers report it.
        verbalizer: the word for it in prompts and in the model's continuation.
        unified: the name of the Feeling-Wheel label it maps to.
    """

    name: str
    verbalizer: str
    unified: str


class LabelSpaceError(ValueError):
    """A label space is invalid; the message names the file and the reason."""


class UnknownLabel(ValueError):
    """The label space has no such label."""


L = TypeVar("L", bound=AnyLabel, covariant=True)


@dataclass(frozen=True)
class Labels(Generic[L]):
    """An ordered set of labels, trained, derived or a caller's own."""

    name: str
    title: str
    labels: tuple[L, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @cached_property
    def _by_name(self) -> Mapping[str, L]:
        return {label.name: label for label in self.labels}

    def label(self, name: str) -> L:
        """The label called `name`, without regard to case.

        Raises:
            UnknownLabel: there is none; the message lists the known labels.
        """
        label = self._by_name.get(name.casefold())
        if label is None:
            raise UnknownLabel(f"{name!r} is not a label of {self.name}: {', '.join(self.names)}")
        return label


AnyLabelSpace = Labels[AnyLabel]


@dataclass(frozen=True)
class LabelSpace(Labels[Label]):
    """The labels of one corpus, in the order prompts list them."""

    @property
    def verbalizers(self) -> tuple[str, ...]:
        return tuple(label.verbalizer for label in self.labels)


def load_label_spaces(folder: Path) -> Mapping[str, LabelSpace]:
    """Read every `*.toml` of a folder except the derived label spaces; return them by name.

    Raises:
        LabelSpaceError: `unified.toml` is missing, a file is malformed, or a unified label is not
            in `unified.toml`.
    """
    contents = {path: read_label_file(path) for path in sorted(folder.glob("*.toml"))}
    trained = [
        _label_space(path, content)
        for path, content in contents.items()
        if DERIVED_FROM not in content
    ]
    spaces = {space.name: space for space in trained}
    if UNIFIED not in spaces:
        raise LabelSpaceError(f"{folder} has no {UNIFIED}.toml")
    for space in spaces.values():
        for label in space.labels:
            try:
                spaces[UNIFIED].label(label.unified)
            except UnknownLabel as error:
                raise LabelSpaceError(
                    f"{folder / space.name}.toml: {label.name}: {error}"
                ) from None
    return MappingProxyType(spaces)


def read_label_file(path: Path) -> dict[str, Any]:
    """Read the file of a label space.

    Raises:
        LabelSpaceError: it is not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabelSpaceError(f"{path}: {error}") from None


def _label_space(path: Path, values: Mapping[str, Any]) -> LabelSpace:
    try:
        labels = tuple(Label(**label) for label in values["labels"])
        space = LabelSpace(values["name"], values["title"], labels)
    except KeyError as error:
        raise LabelSpaceError(f"{path}: {error.args[0]} is missing") from None
    except TypeError as error:
        raise LabelSpaceError(f"{path}: {error}") from None
    if space.name != path.stem:
        raise LabelSpaceError(
            f"{path}: name is {space.name!r} but must be that of the file, {path.stem!r}"
        )
    for field in ("name", "verbalizer", "unified"):
        words = [getattr(label, field) for label in space.labels]
        if not all(isinstance(word, str) and word.strip() for word in words):
            raise LabelSpaceError(f"{path}: each label needs a {field}, got {words}")
        if field != "unified" and len(set(words)) != len(words):
            raise LabelSpaceError(f"{path}: each label must have its own {field}, got {words}")
    if len(space.labels) < 2 or any(name != name.casefold() for name in space.names):
        raise LabelSpaceError(f"{path}: needs two or more labels, with names in lower case")
    return space
