"""Label spaces: which labels, in what order, and the word that stands for each in a prompt.

`service.conversation.derived` has those whose labels are sums of another one's.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

UNIFIED = "unified"
# What tells the file of a derived label space from one that a model can be trained on.
DERIVED_FROM = "derived_from"


class AnyLabel(Protocol):
    """A label as answers say it.

    Attributes:
        unified: the Feeling-Wheel label it maps to; None where it maps to no single one.
    """

    @property
    def name(self) -> str: ...

    @property
    def unified(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Label:
    """One emotion of a label space.

    Attributes:
        name: the corpus's own word, in lower case; what answers say.
        verbalizer: the word for it in the prompt, which the model continues with.
        unified: the name of the Feeling-Wheel label it maps to.
    """

    name: str
    verbalizer: str
    unified: str


class LabelSpaceError(ValueError):
    """Label spaces that cannot be used; the message names the file and says why."""


class UnknownLabel(ValueError):
    """A label that the label space does not have."""


L = TypeVar("L", bound=AnyLabel, covariant=True)


@dataclass(frozen=True)
class Labels(Generic[L]):
    """The labels of an answer, whoever made them, in their order."""

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
            UnknownLabel: there is none; the message lists those there are.
        """
        found = self._by_name.get(name.casefold())
        if found is None:
            raise UnknownLabel(f"{name!r} is not a label of {self.name}: {', '.join(self.names)}")
        return found


AnyLabelSpace = Labels[AnyLabel]


@dataclass(frozen=True)
class LabelSpace(Labels[Label]):
    """The labels of one corpus, in the order prompts list them."""

    @property
    def verbalizers(self) -> tuple[str, ...]:
        return tuple(label.verbalizer for label in self.labels)


def load_label_spaces(folder: Path) -> Mapping[str, LabelSpace]:
    """Read every `*.toml` of a folder but the derived label spaces', by name.

    Raises:
        LabelSpaceError: no file, a malformed one, or a unified label that `unified.toml` does not
            have.
    """
    read = {path: read_label_file(path) for path in sorted(folder.glob("*.toml"))}
    found = [_label_space(path, each) for path, each in read.items() if DERIVED_FROM not in each]
    spaces = {space.name: space for space in found}
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
    """What the file of a label space says.

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
        raise LabelSpaceError(f"{path}: name is {space.name!r}, the file says {path.stem!r}")
    for what in ("name", "verbalizer", "unified"):
        words = [getattr(label, what) for label in space.labels]
        if not all(isinstance(word, str) and word.strip() for word in words):
            raise LabelSpaceError(f"{path}: each label needs a {what}, got {words}")
        if what != "unified" and len(set(words)) != len(words):
            raise LabelSpaceError(f"{path}: each label needs a {what} of its own, got {words}")
    if len(space.labels) < 2 or any(name != name.casefold() for name in space.names):
        raise LabelSpaceError(f"{path}: needs two labels or more, their names in lower case")
    return space
