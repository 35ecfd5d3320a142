"""Derived label spaces: each label is a sum of the labels of one that a model is trained on.

An answer in one is exact and costs nothing: its probabilities are sums of the trained label space's
calibrated ones. A label that belongs to several sums, as MELD's surprise is now glad and now not,
is divided among them by shares that are known beforehand, which is the law of total probability.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service.conversation.labels import (
    DERIVED_FROM,
    Labels,
    LabelSpace,
    LabelSpaceError,
    read_label_file,
)
from service.conversation.prediction import Prediction

# Shares are written by hand, such as 0.49 and 0.51.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class DerivedLabel:
    """A sum of labels.

    Attributes:
        of: the share of each of the source's labels that counts here, above 0 and up to 1.
        unified: the Feeling-Wheel label that all of them map to; None where they map to several.
    """

    name: str
    of: Mapping[str, float]
    unified: str | None


@dataclass(frozen=True)
class DerivedLabelSpace(Labels[DerivedLabel]):
    """Sums of a trained label space's labels.

    Every label of the source is in them as a whole, so that their probabilities sum to 1.
    """

    source: LabelSpace

    def summed(self, prediction: Prediction) -> Prediction:
        """What a prediction in the source says in these labels."""
        given = dict(zip(self.source.names, prediction.probabilities, strict=True))
        sums = tuple(
            math.fsum(share * given[name] for name, share in label.of.items())
            for label in self.labels
        )
        return Prediction(self, sums, prediction.label_mass)


def derive(
    name: str, title: str, source: LabelSpace, sums: Mapping[str, Mapping[str, float]]
) -> DerivedLabelSpace:
    """A label space from the source's labels and their shares that each of its labels sums.

    Raises:
        LabelSpaceError: fewer than two labels, a name that is empty or not in lower case, a label
            that the source does not have, a share that is not above 0 and up to 1, or a label of
            the source that is not, as a whole, in the sums.
    """
    if len(sums) < 2 or not all(word.strip() and word == word.casefold() for word in sums):
        raise LabelSpaceError("needs two labels or more, their names in lower case")
    counted = dict.fromkeys(source.names, 0.0)
    for label, of in sums.items():
        if not of:
            raise LabelSpaceError(f"label {label!r}: sums nothing")
        for each, share in of.items():
            if each not in counted:
                known = ", ".join(counted)
                raise LabelSpaceError(
                    f"label {label!r}: {each!r} is not a label of {source.name}: {known}"
                )
            if not 0 < share <= 1:
                raise LabelSpaceError(
                    f"label {label!r}: {each}: a share must be above 0 and up to 1, got {share}"
                )
            counted[each] += share
    for each, share in counted.items():
        if abs(share - 1) > _ROUNDING:
            raise LabelSpaceError(
                f"{source.name}'s label {each!r} must be in the sums as a whole: its shares add up "
                f"to {share:g}"
            )
    labels = tuple(
        DerivedLabel(label, MappingProxyType(dict(of)), _unified(source, of))
        for label, of in sums.items()
    )
    return DerivedLabelSpace(name, title, labels, source)


def load_derived_label_spaces(
    folder: Path, label_spaces: Mapping[str, LabelSpace]
) -> Mapping[str, DerivedLabelSpace]:
    """Read every `*.toml` of a folder that says what it is derived from, by name.

    Args:
        label_spaces: those that `load_label_spaces` read.

    Raises:
        LabelSpaceError: a malformed one, or one derived from another than `label_spaces`; the
            message names the file.
    """
    read = {path: read_label_file(path) for path in sorted(folder.glob("*.toml"))}
    found = [
        _derived(path, values, label_spaces)
        for path, values in read.items()
        if DERIVED_FROM in values
    ]
    return MappingProxyType({space.name: space for space in found})


def _derived(
    path: Path, values: Mapping[str, Any], label_spaces: Mapping[str, LabelSpace]
) -> DerivedLabelSpace:
    for key in ("name", "title", "labels"):
        if key not in values:
            raise LabelSpaceError(f"{path}: {key} is missing")
    name, title, labels = values["name"], values["title"], values["labels"]
    if strays := values.keys() - {"name", "title", "labels", DERIVED_FROM}:
        raise LabelSpaceError(f"{path}: unknown: {', '.join(sorted(strays))}")
    if name != path.stem:
        raise LabelSpaceError(f"{path}: name is {name!r}, the file says {path.stem!r}")
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
                raise LabelSpaceError(f"each label needs a name and `of`, no more, got {label}")
            if not isinstance(label["name"], str) or label["name"] in sums:
                raise LabelSpaceError(f"each label needs a name of its own, got {label['name']!r}")
            sums[label["name"]] = _shares(label["name"], label["of"])
        return derive(path.stem, title, label_spaces[source], sums)
    except (LabelSpaceError, TypeError) as error:
        raise LabelSpaceError(f"{path}: {error}") from None


def _shares(label: str, of: object) -> Mapping[str, float]:
    """`of` as it is written: a list of labels, each as a whole, or a table of shares."""
    if isinstance(of, list) and all(isinstance(each, str) for each in of):
        return dict.fromkeys(of, 1.0)
    if isinstance(of, dict) and all(type(share) in (int, float) for share in of.values()):
        return {each: float(share) for each, share in of.items()}
    raise LabelSpaceError(
        f"label {label!r}: `of` must be a list of labels, or a table of their shares, got {of!r}"
    )


def _unified(source: LabelSpace, of: Mapping[str, float]) -> str | None:
    unified = {source.label(each).unified for each in of}
    return unified.pop() if len(unified) == 1 else None
