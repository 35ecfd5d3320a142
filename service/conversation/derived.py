"""Derived label spaces: each label is a sum of labels of a trained label space.

A prediction in one is exact and costs nothing: its probabilities are sums of the trained label
space's calibrated ones. A label that belongs to several sums (MELD's surprise may be glad or not)
is divided among them by shares fixed beforehand: the law of total probability.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service.conversation.labels import (
    DERIVED_FROM,
    AnyLabelSpace,
    Labels,
    LabelSpace,
    LabelSpaceError,
    load_label_spaces,
    read_label_file,
)
from service.conversation.prediction import Prediction

# Shares are written by hand, such as 0.49 and 0.51.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class DerivedLabel:
    """A sum of labels.

    Attributes:
        of: the share of each source label that counts towards this one, above 0 and up to 1.
        unified: the Feeling-Wheel label that all of them map to; None if they map to several.
    """

    name: str
    of: Mapping[str, float]
    unified: str | None


@dataclass(frozen=True)
class DerivedLabelSpace(Labels[DerivedLabel]):
    """Sums of a trained label space's labels.

    The shares of every source label add up to 1, so the probabilities do too.
    """

    source: LabelSpace

    def summed(self, prediction: Prediction) -> Prediction:
        """Convert a prediction in the source's labels to these labels."""
        probabilities = dict(zip(self.source.names, prediction.probabilities, strict=True))
        sums = tuple(
            math.fsum(share * probabilities[name] for name, share in label.of.items())
            for label in self.labels
        )
        return Prediction(self, sums, prediction.label_mass)


def derive(
    name: str, title: str, source: LabelSpace, sums: Mapping[str, Mapping[str, float]]
) -> DerivedLabelSpace:
    """Build a label space from sums of the source's labels.

    Args:
        sums: by name of the new label, the share of each source label in it.

    Raises:
        LabelSpaceError: there are fewer than two labels, a name is empty or not in lower case, a
            label is not one of the source's, a share is not above 0 and up to 1, or the shares of a
            source label do not add up to 1.
    """
    if len(sums) < 2 or not all(word.strip() and word == word.casefold() for word in sums):
        raise LabelSpaceError("needs two or more labels, with names in lower case")
    counted = dict.fromkeys(source.names, 0.0)
    for label, of in sums.items():
        if not of:
            raise LabelSpaceError(f"label {label!r}: has nothing to sum")
        for part, share in of.items():
            if part not in counted:
                known = ", ".join(counted)
                raise LabelSpaceError(
                    f"label {label!r}: {part!r} is not a label of {source.name}: {known}"
                )
            if not 0 < share <= 1:
                raise LabelSpaceError(
                    f"label {label!r}: {part}: a share must be above 0 and up to 1, got {share}"
                )
            counted[part] += share
    for part, share in counted.items():
        if abs(share - 1) > _ROUNDING:
            raise LabelSpaceError(
                f"the shares of {source.name}'s label {part!r} must add up to 1, got {share:g}"
            )
    labels = tuple(
        DerivedLabel(label, MappingProxyType(dict(of)), _unified(source, of))
        for label, of in sums.items()
    )
    return DerivedLabelSpace(name, title, labels, source)


def load_derived_label_spaces(
    folder: Path, label_spaces: Mapping[str, LabelSpace]
) -> Mapping[str, DerivedLabelSpace]:
    """Read every `*.toml` of a folder that has `derived_from`; return the label spaces by name.

    Args:
        label_spaces: the trained ones, as `load_label_spaces` returns them.

    Raises:
        LabelSpaceError: a file is malformed, or derived from a label space outside `label_spaces`;
            the message names the file.
    """
    contents = {path: read_label_file(path) for path in sorted(folder.glob("*.toml"))}
    spaces = [
        _derived(path, values, label_spaces)
        for path, values in contents.items()
        if DERIVED_FROM in values
    ]
    return MappingProxyType({space.name: space for space in spaces})


def load_every_label_space(folder: Path) -> Mapping[str, AnyLabelSpace]:
    """Read the label spaces of a folder by name: those to train on, then the derived ones.

    Raises:
        LabelSpaceError: as of `load_label_spaces` and `load_derived_label_spaces`.
    """
    label_spaces = load_label_spaces(folder)
    return MappingProxyType({**label_spaces, **load_derived_label_spaces(folder, label_spaces)})


def _derived(
    path: Path, values: Mapping[str, Any], label_spaces: Mapping[str, LabelSpace]
) -> DerivedLabelSpace:
    for key in ("name", "title", "labels"):
        if key not in values:
            raise LabelSpaceError(f"{path}: {key} is missing")
    name, title, labels = values["name"], values["title"], values["labels"]
    if strays := values.keys() - {"name", "title", "labels", DERIVED_FROM}:
        raise LabelSpaceError(f"{path}: unknown keys: {', '.join(sorted(strays))}")
    if name != path.stem:
        raise LabelSpaceError(
            f"{path}: name is {name!r} but must be that of the file, {path.stem!r}"
        )
    if not isinstance(title, str) or not title.strip():
        raise LabelSpaceError(f"{path}: title must be text, got {title!r}")
    source = values[DERIVED_FROM]
    if not isinstance(source, str) or source not in label_spaces:
        known = ", ".join(label_spaces)
        raise LabelSpaceError(f"{path}: {DERIVED_FROM}: {source!r} is not one of {known}")
    sums: dict[str, Mapping[str, float]] = {}
    try:
        for label in labels:
            if not isinstance(label, dict) or label.keys() != {"name", "of"}:
                raise LabelSpaceError(
                    f"each label must have a name and `of`, and nothing else, got {label}"
                )
            if not isinstance(label["name"], str) or label["name"] in sums:
                raise LabelSpaceError(f"each label must have its own name, got {label['name']!r}")
            sums[label["name"]] = _shares(label["name"], label["of"])
        return derive(path.stem, title, label_spaces[source], sums)
    except (LabelSpaceError, TypeError) as error:
        raise LabelSpaceError(f"{path}: {error}") from None


def _shares(label: str, of: object) -> Mapping[str, float]:
    """The shares of a label's `of`: a list of labels, each with share 1, or a table of shares."""
    if isinstance(of, list) and all(isinstance(source_label, str) for source_label in of):
        return dict.fromkeys(of, 1.0)
    if isinstance(of, dict) and all(type(share) in (int, float) for share in of.values()):
        return {source_label: float(share) for source_label, share in of.items()}
    raise LabelSpaceError(
        f"label {label!r}: `of` must be a list of labels or a table of their shares, got {of!r}"
    )


def _unified(source: LabelSpace, of: Mapping[str, float]) -> str | None:
    unified = {source.label(source_label).unified for source_label in of}
    return unified.pop() if len(unified) == 1 else None
