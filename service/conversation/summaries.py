"""What a dialogue was like: shares of labels, valence and how it changes, peaks, runs.

An utterance counts in the label space of its answer. A person's label in that label space takes the
place of the predicted one, with a probability of 1. Valence has one scale, so it is taken over all
label spaces, and a person's label counts there whatever its label space, if that has a valence.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter, itemgetter

from service.conversation.valence import UNIT

MOST_PARTS = 100
"""The most speakers, and the most roles, that a summary describes one by one."""

PARTS_OF_A_DIALOGUE = 3
# Of the normal distribution: 95% lie within as many standard deviations.
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class PersonsLabel:
    """A correction of an utterance.

    Attributes:
        valence: in millionths; None: the label space has none.
        agrees: with the prediction; None: they cannot be compared.
    """

    label_space: str
    label: str
    valence: int | None
    agrees: bool | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a summary needs of an utterance.

    Attributes:
        index: its position in the dialogue.
        label_space: of the answer.
        label: the predicted one.
        probability: the label's.
        valence: of the prediction, in millionths; None: the label space has none.
    """

    index: int
    speaker: str
    role: str | None
    label_space: str
    label: str
    probability: float
    valence: int | None
    correction: PersonsLabel | None = None

    @property
    def final_valence(self) -> int | None:
        """In millionths; a person's label counts, if it has one."""
        if self.correction is not None and self.correction.valence is not None:
            return self.correction.valence
        return self.valence


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums of valences, over a dialogue and over its first and its last third, in millionths.

    The thirds are of `length // 3` utterances each; those without a valence do not count.
    """

    count: int = 0
    total: int = 0
    first_count: int = 0
    first_total: int = 0
    last_count: int = 0
    last_total: int = 0

    @property
    def mean(self) -> float | None:
        """The mean valence, -1 to 1; None: no utterance has one."""
        return self.total / self.count / UNIT if self.count else None

    @property
    def shift(self) -> float | None:
        """The mean of the last third minus that of the first, -2 to 2; None: one has no mean."""
        if not self.first_count or not self.last_count:
            return None
        last, first = self.last_total / self.last_count, self.first_total / self.first_count
        return (last - first) / UNIT


def tally(length: int, valences: Iterable[tuple[int, int | None]]) -> Tally:
    """Sum valences.

    Args:
        length: the dialogue's.
        valences: indexes of utterances, and their valences in millionths.
    """
    third = length // PARTS_OF_A_DIALOGUE
    all_of_them: list[int] = []
    first: list[int] = []
    last: list[int] = []
    for index, valence in valences:
        if valence is not None:
            all_of_them.append(valence)
            if index < third:
                first.append(valence)
            if index >= length - third:
                last.append(valence)
    return Tally(len(all_of_them), sum(all_of_them), len(first), sum(first), len(last), sum(last))


@dataclass(frozen=True, slots=True)
class Peak:
    """The utterance with the most of something; the first of several.

    Attributes:
        value: a probability, or a valence from -1 to 1.
    """

    index: int
    value: float


@dataclass(frozen=True, slots=True)
class LabelShare:
    """How often a label occurs.

    Attributes:
        share: of the utterances in the label space.
        low, high: the share's 95% interval (`wilson`).
        peak: the utterance where the label is most probable.
    """

    label: str
    count: int
    share: float
    low: float
    high: float
    peak: Peak


@dataclass(frozen=True, slots=True)
class Run:
    """Utterances with one label, one after the other within their part of the dialogue.

    Attributes:
        first, last: indexes in the dialogue.
    """

    label: str
    length: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How people's labels agree with the predicted ones.

    Attributes:
        corrected: utterances that have a person's label.
        compared: those of them where the two can be compared.
        agreed: those of them where the two are the same.
    """

    corrected: int
    compared: int
    agreed: int


@dataclass(frozen=True, slots=True)
class LabelSpaceSummary:
    """The utterances answered in one label space.

    Attributes:
        labels: those that occur, the most frequent first.
        longest_run: the first of several.
    """

    label_space: str
    utterances: int
    labels: tuple[LabelShare, ...]
    longest_run: Run
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class ValenceSummary:
    """The valences of the utterances that have one; all are from -1 to 1, a shift from -2 to 2.

    Attributes:
        shift: as `Tally.shift`.
    """

    utterances: int
    mean: float
    shift: float | None
    lowest: Peak
    highest: Peak


@dataclass(frozen=True, slots=True)
class Part:
    """The utterances of a dialogue, of one of its speakers, or of one of its roles.

    Attributes:
        valence: None: no utterance has one.
        label_spaces: in order of their names.
    """

    utterances: int
    valence: ValenceSummary | None
    label_spaces: tuple[LabelSpaceSummary, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A dialogue in figures.

    Attributes:
        speakers, roles: by name, those with the most utterances first, at most `MOST_PARTS`.
        speaker_count, role_count: of all.
    """

    whole: Part
    speakers: tuple[tuple[str, Part], ...]
    speaker_count: int
    roles: tuple[tuple[str, Part], ...]
    role_count: int


def summarize(length: int, readings: Sequence[Reading]) -> Summary:
    """Summarize a dialogue.

    Args:
        length: its number of utterances.
        readings: in order; utterances without a label have none.
    """
    final = [_final(reading) for reading in readings]
    speakers = _parts(length, [(utterance.speaker, utterance) for utterance in final])
    roles = _parts(
        length, [(utterance.role, utterance) for utterance in final if utterance.role is not None]
    )
    return Summary(_part(length, final), *speakers, *roles)


def _final(reading: Reading) -> Reading:
    """A reading with a person's label, if it has one, in place of the predicted one."""
    correction = reading.correction
    if correction is None:
        return reading
    final = replace(reading, valence=reading.final_valence)
    if correction.label_space != reading.label_space:
        return final
    return replace(final, label=correction.label, probability=1.0)


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95% interval of a share, as if the utterances were independent draws.

    Args:
        of: above 0.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    share, z2 = count / of, _Z * _Z
    centre = share + z2 / (2 * of)
    margin = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    low, high = (centre - margin) / (1 + z2 / of), (centre + margin) / (1 + z2 / of)
    # At the ends the formula gives 0 and 1, but for rounding.
    return (0.0 if count == 0 else max(0.0, low)), (1.0 if count == of else min(1.0, high))


def _parts(
    length: int, named: Iterable[tuple[str, Reading]]
) -> tuple[tuple[tuple[str, Part], ...], int]:
    """The largest parts by name, and how many parts there are."""
    of: dict[str, list[Reading]] = {}
    for name, utterance in named:
        of.setdefault(name, []).append(utterance)
    largest = sorted(of.items(), key=lambda part: -len(part[1]))[:MOST_PARTS]
    return tuple((name, _part(length, utterances)) for name, utterances in largest), len(of)


def _part(length: int, utterances: Sequence[Reading]) -> Part:
    spaces: dict[str, list[Reading]] = {}
    for utterance in utterances:
        spaces.setdefault(utterance.label_space, []).append(utterance)
    return Part(
        len(utterances),
        _valence(length, utterances),
        tuple(_label_space(name, spaces[name]) for name in sorted(spaces)),
    )


def _valence(length: int, utterances: Sequence[Reading]) -> ValenceSummary | None:
    valences = [(each.index, each.valence) for each in utterances if each.valence is not None]
    sums = tally(length, valences)
    if sums.mean is None:
        return None
    low = min(valences, key=itemgetter(1))
    high = max(valences, key=itemgetter(1))
    lowest, highest = Peak(low[0], low[1] / UNIT), Peak(high[0], high[1] / UNIT)
    return ValenceSummary(sums.count, sums.mean, sums.shift, lowest, highest)


def _label_space(name: str, utterances: Sequence[Reading]) -> LabelSpaceSummary:
    of: dict[str, list[Reading]] = {}
    for utterance in utterances:
        of.setdefault(utterance.label, []).append(utterance)
    shares = [
        _share(label, of[label], len(utterances))
        for label in sorted(of, key=lambda label: (-len(of[label]), label))
    ]
    corrections = [each.correction for each in utterances if each.correction is not None]
    agreement = Agreement(
        len(corrections),
        sum(correction.agrees is not None for correction in corrections),
        sum(correction.agrees is True for correction in corrections),
    )
    return LabelSpaceSummary(
        name, len(utterances), tuple(shares), _longest_run(utterances), agreement
    )


def _share(label: str, utterances: Sequence[Reading], of: int) -> LabelShare:
    count, peak = len(utterances), max(utterances, key=attrgetter("probability"))
    low, high = wilson(count, of)
    return LabelShare(label, count, count / of, low, high, Peak(peak.index, peak.probability))


def _longest_run(utterances: Sequence[Reading]) -> Run:
    runs = ((label, list(run)) for label, run in groupby(utterances, key=attrgetter("label")))
    label, longest = max(runs, key=lambda run: len(run[1]))
    return Run(label, len(longest), longest[0].index, longest[-1].index)
