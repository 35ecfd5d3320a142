"""How corrections bind: each row asks before they are made, makes them, and asks again."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from service.conversation.dialogue import Dialogue
from service.conversation.labels import UNIFIED, LabelSpace
from tests.bench.correction_figures import (
    Figure,
    calibration_difference,
    differing,
    percent,
)
from tests.bench.correction_lines import (
    Asked,
    Rewording,
    apart_from,
    beside,
    candidates,
    kind_of,
    lines_of,
    short_kinds,
)
from tests.bench.tenants import Answer, Stored, Tenant, each_of
from training.evaluation import predictions as predicted
from training.evaluation.bootstrap import difference
from training.evaluation.metrics import weighted_f1
from training.evaluation.predictions import Predictions
from training.mixture.paraphrases import KINDS, paraphrases

Report = Callable[[str], None]
Spoken = Mapping[str, Sequence[Dialogue]]  # by label space

_EACH = 3  # candidates of a dialogue
_LONG = 10  # lines of a long context
_ELSEWHERE = 5  # short lines of a kind that are asked for
_WORDY = 13  # words from which on a line is a long one
_POINTS = 0.5  # of a hundred, that a split may be worse


@dataclass(frozen=True, slots=True)
class Wrong:
    """A line that the model labels wrongly, and what it is to be corrected to."""

    asked: Asked
    answer: Answer

    @property
    def label(self) -> str:
        return self.asked.gold


async def wrongly_labelled(tenant: Tenant, dev: Spoken, count: int, seed: int) -> list[Wrong]:
    """Lines of every corpus that are labelled wrongly in their context, equally many of each.

    As few of one dialogue as there can be, and no two that say the same.
    """
    results: list[Wrong] = []
    for space, dialogues in dev.items():
        questions = candidates(space, dialogues, _EACH, seed)
        answers = await tenant.ask(questions)
        wrong = [
            Wrong(one, answer)
            for one, answer in zip(questions, answers, strict=True)
            if answer.label != one.gold
        ]
        by_kind = {kind_of(one.asked): one for one in wrong}
        of_dialogue: Counter[str] = Counter()
        ranked: list[tuple[int, int, Wrong]] = []
        for one in by_kind.values():
            ranked.append((of_dialogue[one.asked.place[0]], len(ranked), one))
            of_dialogue[one.asked.place[0]] += 1
        ranked.sort(key=lambda each: each[:2])
        results += [one for _, _, one in ranked[: count // len(dev)]]
    return results


async def learn(tenant: Tenant, pairs: Sequence[tuple[Asked, str]]) -> list[Stored]:
    """Say lines in new dialogues and correct them, one after the other."""
    stored = await tenant.say([question for question, _ in pairs])
    for one, (question, label) in zip(stored, pairs, strict=True):
        await tenant.correct(one, question.label_space, label)
    return stored


@dataclass(frozen=True, slots=True)
class Probe:
    """Lines that are asked for before and after, each with the label that it may be bound to.

    Attributes:
        changes: whether it is of labels that changed, rather than of those as corrected.
        alone: whether each is asked with nothing else under way, where chance must change none.
    """

    row: str
    name: str
    asked: Sequence[Asked]
    labels: Sequence[str]
    wanted: float | None = None
    changes: bool = False
    alone: bool = False
    note: str = ""


def figure_of(probe: Probe, before: Sequence[Answer], after: Sequence[Answer]) -> Figure:
    """What a probe found."""
    old, new = [each.label for each in before], [each.label for each in after]
    as_corrected = [one == label for one, label in zip(new, probe.labels, strict=True)]
    if probe.changes:
        changed = differing(old, new)
        to_it = sum(one and other for one, other in zip(changed, as_corrected, strict=True))
        note = f"{to_it} of {sum(changed)} to the label of a correction"
        return Figure(
            row=probe.row,
            name=probe.name,
            asked=len(new),
            value=percent(changed),
            wanted=probe.wanted,
            at_least=False,
            note=probe.note or note,
        )
    return Figure(
        row=probe.row,
        name=probe.name,
        asked=len(new),
        before=percent(one == label for one, label in zip(old, probe.labels, strict=True)),
        value=percent(as_corrected),
        wanted=probe.wanted,
        note=probe.note,
    )


async def ask_probes(tenant: Tenant, probes: Sequence[Probe], report: Report) -> list[list[Answer]]:
    """What is said of each probe's lines."""
    results = []
    for probe in probes:
        report(f"  asking: {probe.name} ({len(probe.asked)})")
        ask = partial(_one_by_one, tenant) if probe.alone else tenant.ask
        results.append(await ask(probe.asked))
    return results


async def lines(
    learner: Tenant,
    bystander: Tenant,
    dev: Spoken,
    spaces: Mapping[str, LabelSpace],
    wrong: Sequence[Wrong],
    seed: int,
    report: Report,
) -> list[Figure]:
    """Rows 1, 2, 4 and 7, other contexts, other label spaces, and another tenant."""
    available = await learner.label_spaces()
    probes = [
        *_paraphrased(wrong),
        *_elsewhere(dev, wrong, seed),
        *_in_other_contexts(dev, wrong, seed),
        *_in_other_spaces(wrong, spaces, available),
    ]
    same = [one.asked for one in wrong]
    labels = [one.label for one in wrong]
    report(f"before {len(wrong)} corrections")
    before = await ask_probes(learner, probes, report)
    again = await learner.ask(probes[_UNRELATED].asked)
    report("  asking one by one, twice: the first time caches are empty")
    first = await _one_by_one(learner, same)
    former = await _one_by_one(learner, same)
    await _one_by_one(bystander, same)
    others = await _one_by_one(bystander, same)
    report("correcting")
    stored = await learn(learner, [(one.asked, one.label) for one in wrong])
    answers_again = await _one_by_one(learner, same)
    after = await ask_probes(learner, probes, report)
    unmoved = await _one_by_one(bystander, same)
    report("taking back")
    for one in stored:
        await learner.take_back(one)
    restored = await _one_by_one(learner, same)
    bound = Probe("1", "the same line in the same context", same, labels, 98)
    bars = [figure_of(bound, former, answers_again)]
    bars += [figure_of(*each) for each in zip(probes, before, after, strict=True)]
    bars.insert(1, _together("paraphrase: all kinds", bars[1 : 1 + len(KINDS)]))
    noise = Probe(
        "+",
        "unrelated lines asked twice, nothing corrected: changed",
        probes[_UNRELATED].asked,
        [""] * len(again),
        changes=True,
        note="chance",
    )
    back = [one == other for one, other in zip(former, restored, strict=True)]
    twice = [one == other for one, other in zip(first, former, strict=True)]
    return [
        *bars,
        figure_of(noise, before[_UNRELATED], again),
        Figure(
            row="7",
            name="taken back: the former answer to the last digit",
            asked=len(back),
            value=percent(back),
            wanted=100,
            note=f"{percent(twice):.0f}% asked twice before",
        ),
        Figure(
            row="+",
            name="another tenant's answers to the same lines: changed to any digit",
            asked=len(same),
            value=percent(differing(others, unmoved)),
            wanted=0,
            at_least=False,
        ),
    ]


async def _one_by_one(tenant: Tenant, asked: Sequence[Asked]) -> list[Answer]:
    """Posted with nothing else under way: what is computed together differs in the last digits."""
    return [stored.answer for stored in await tenant.say(asked, callers=1)]


def _paraphrased(wrong: Sequence[Wrong]) -> list[Probe]:
    """Light paraphrases in the same context: all of them, then each kind."""
    by_kind: dict[str, list[tuple[Asked, str]]] = {kind: [] for kind in KINDS}
    for n, one in enumerate(wrong):
        for paraphrase in paraphrases(one.asked.line.text, n):
            by_kind[paraphrase.kind].append((one.asked.said_as(paraphrase.text), one.label))
    return [
        Probe("2", f"paraphrase: {kind}", [a for a, _ in made], [label for _, label in made], 95)
        for kind, made in by_kind.items()
    ]


def _together(name: str, figures: Sequence[Figure]) -> Figure:
    """Several figures as one."""
    count = sum(figure.asked for figure in figures)
    before, value = (
        sum(figure.asked * share for figure, share in zip(figures, shares, strict=True)) / count
        for shares in (
            [figure.before or 0.0 for figure in figures],
            [figure.value for figure in figures],
        )
    )
    return replace(figures[0], name=name, asked=count, before=before, value=value)


_UNRELATED = len(KINDS)  # the place of that probe


def _elsewhere(dev: Spoken, wrong: Sequence[Wrong], seed: int, count: int = 120) -> list[Probe]:
    """Lines of dialogues that have nothing to do with the corrected ones, and those beside them."""
    rng = random.Random(seed)
    every = {dialogue.id: dialogue for split in dev.values() for dialogue in split}
    corrected = [every[name] for name in {one.asked.place[0] for one in wrong}]
    unrelated: list[Asked] = []
    near: list[Asked] = []
    for space, dialogues in dev.items():
        lines = lines_of(space, apart_from(dialogues, corrected), range(1, 1000))
        unrelated += rng.sample(lines, count // len(dev))
        mine = [one.asked for one in wrong if one.asked.label_space == space]
        near += beside(space, dialogues, mine)
    corrected_to = {one.asked.place[0]: one.label for one in wrong}
    near_labels = [corrected_to[each.place[0]] for each in near]
    return [
        Probe(
            "4",
            "unrelated lines: changed",
            unrelated,
            [""] * len(unrelated),
            1,
            changes=True,
            note="of all lengths",
        ),
        Probe("4", "lines beside the corrected ones: changed", near, near_labels, 1, changes=True),
    ]


def _in_other_contexts(dev: Spoken, wrong: Sequence[Wrong], seed: int) -> list[Probe]:
    """The corrected lines after ten lines of another dialogue."""
    rng = random.Random(seed)
    results = []
    for name, wordy in (("up to 12 words", False), ("13 words or more", True)):
        chosen = [one for one in wrong if (one.asked.length >= _WORDY) == wordy]
        other, long = [], []
        for one in chosen:
            strange = [
                dialogue.utterances[:_LONG]
                for dialogue in dev[one.asked.label_space]
                if len(dialogue.utterances) >= _LONG and dialogue.id != one.asked.place[0]
            ]
            before = rng.choice(strange)
            other.append(one.asked.after(before))
            long.append(one.asked.later(before))
        labels = [one.label for one in chosen]
        results += [
            Probe("+", f"the same line ({name}) in another context of ten lines", other, labels),
            Probe("+", f"its two lines and the line ({name}) after ten others", long, labels),
        ]
    return results


def _in_other_spaces(
    wrong: Sequence[Wrong], spaces: Mapping[str, LabelSpace], available: Sequence[str]
) -> list[Probe]:
    """The corrected lines in each label space that they were not corrected in."""
    results = []
    for name in available:
        chosen = [one for one in wrong if one.asked.label_space != name]
        questions = [one.asked.seen_as(name) for one in chosen]
        unified = [spaces[one.asked.label_space].label(one.label).unified for one in chosen]
        labels = unified if name == UNIFIED else [""] * len(chosen)
        # What a label says in the unified space follows from it: there it may bind.
        bar = 0.0 if name in spaces and name != UNIFIED else None
        probe = Probe(
            "+", f"in {name}, corrected elsewhere: changed", questions, labels, bar, changes=True
        )
        results.append(probe)
    return results


async def rewordings(tenant: Tenant, pairs: Sequence[Rewording], report: Report) -> list[Figure]:
    """Row 3: the same said in other words, in the same context."""
    report(f"rewordings: {len(pairs)}")
    model = await tenant.ask([pair.asked for pair in pairs])
    labels = [
        next(label for label in pair.labels if label != answer.label)
        for pair, answer in zip(pairs, model, strict=True)
    ]
    questions = [pair.asked.said_as(pair.reworded) for pair in pairs]
    before = await tenant.ask(questions)
    await learn(tenant, [(pair.asked, label) for pair, label in zip(pairs, labels, strict=True)])
    after = await tenant.ask(questions)
    results = [
        figure_of(Probe("3", "rewording, the same context", questions, labels, 60), before, after)
    ]
    for degree in dict.fromkeys(pair.degree for pair in pairs):
        of = [n for n, pair in enumerate(pairs) if pair.degree == degree]
        probe = Probe(
            "3", f"rewording: {degree}", [questions[n] for n in of], [labels[n] for n in of]
        )
        results.append(figure_of(probe, [before[n] for n in of], [after[n] for n in of]))
    return results


async def short_lines(tenant: Tenant, dev: Spoken, seed: int, report: Report) -> list[Figure]:
    """Row 5: lines of one or two words, after one of their kind was corrected elsewhere."""
    here: list[tuple[Asked, str]] = []
    there: list[Asked] = []
    labels: list[str] = []
    for space, dialogues in dev.items():
        for questions in short_kinds(space, dialogues, seed).values():
            answers = await tenant.ask(questions)
            wrong = [n for n, each in enumerate(questions) if each.gold != answers[n].label]
            place = wrong[0] if wrong else 0
            label = questions[place].gold if wrong else answers[place].second
            elsewhere = [each for n, each in enumerate(questions) if n != place][:_ELSEWHERE]
            here.append((questions[place], label))
            there += elsewhere
            labels += [label] * len(elsewhere)
    report(f"short lines: {len(here)} kinds")
    probes = [
        Probe("5", "short lines elsewhere: changed", there, labels, 10, changes=True),
        Probe(
            "+",
            "the corrected short line itself, in its context",
            [questions for questions, _ in here],
            [label for _, label in here],
        ),
    ]
    before = await ask_probes(tenant, probes, report)
    await learn(tenant, here)
    after = await ask_probes(tenant, probes, report)
    return [figure_of(*each) for each in zip(probes, before, after, strict=True)]


async def contradictions(
    twice: Tenant,
    nearly: Tenant,
    spaces: Mapping[str, LabelSpace],
    wrong: Sequence[Wrong],
    report: Report,
) -> list[Figure]:
    """Two corrections of one line, or nearly one, that contradict each other."""
    report(f"contradictions: {len(wrong)}")
    same = [one.asked for one in wrong]
    first = [one.label for one in wrong]
    second = [_third(spaces[one.asked.label_space], one) for one in wrong]
    stored = await learn(twice, list(zip(same, first, strict=True)))
    await learn(twice, list(zip(same, second, strict=True)))
    later = [each.label for each in await twice.ask(same)]
    for one, question, label in zip(stored, same, first, strict=True):
        await twice.correct(one, question.label_space, label)
    put_again = [each.label for each in await twice.ask(same)]
    near = [
        one.asked.said_as(list(paraphrases(one.asked.line.text, n))[-1].text)
        for n, one in enumerate(wrong)
    ]
    await learn(nearly, list(zip(same, first, strict=True)))
    await learn(nearly, list(zip(near, second, strict=True)))
    own = [each.label for each in await nearly.ask(same)]
    other = [each.label for each in await nearly.ask(near)]
    count = len(wrong)
    return [
        Figure(
            row="+",
            name="the same line corrected twice: the later one",
            asked=count,
            value=_equal(later, second),
            note=f"the earlier one {_equal(later, first):.0f}%",
        ),
        Figure(
            row="+",
            name="and the earlier one put again: as that",
            asked=count,
            value=_equal(put_again, first),
            note=f"the other {_equal(put_again, second):.0f}%",
        ),
        Figure(
            row="+",
            name="a paraphrase corrected otherwise later: as that",
            asked=count,
            value=_equal(other, second),
            note=f"as its line {_equal(other, first):.0f}%",
        ),
        Figure(
            row="+",
            name="and the line itself: still as its own",
            asked=count,
            value=_equal(own, first),
            note=f"as its paraphrase {_equal(own, second):.0f}%",
        ),
    ]


def _third(space: LabelSpace, one: Wrong) -> str:
    """The label least like either."""
    others = [name for name in space.names if name not in (one.label, one.answer.label)]
    return min(others, key=lambda name: one.answer.probabilities[name])


def _equal(one: Sequence[str], other: Sequence[str]) -> float:
    return percent(left == right for left, right in zip(one, other, strict=True))


async def splits(
    tenant: Tenant,
    dev: Spoken,
    train: Spoken,
    spaces: Mapping[str, LabelSpace],
    count: int,
    seed: int,
    report: Report,
) -> list[Figure]:
    """Row 6: the development splits, with training lines added as corrections and without."""
    rng = random.Random(seed)
    report("development splits without corrections")
    before = {name: await _predicted(tenant, spaces[name], split) for name, split in dev.items()}
    for name, dialogues in train.items():
        wanted = count // len(train)
        chosen: list[Dialogue] = []
        for dialogue in rng.sample(dialogues, len(dialogues)):
            if sum(len(each.utterances) for each in chosen) >= wanted:
                break
            chosen.append(dialogue)
        report(f"{wanted} training lines of {name}, of {len(chosen)} dialogues")
        stored = chain.from_iterable(await tenant.say_all(name, chosen))
        spoken = chain.from_iterable(dialogue.utterances for dialogue in chosen)
        pairs = [
            (one, utterance.label)
            for one, utterance in zip(stored, spoken, strict=True)
            if utterance.label is not None
        ][:wanted]

        async def put(pair: tuple[Stored, str], space: str = name) -> None:
            await tenant.correct(pair[0], space, pair[1])

        await each_of(pairs, put)
    report("development splits with corrections")
    results = []
    for name, split in dev.items():
        after = await _predicted(tenant, spaces[name], split)
        f1 = difference(after, before[name], weighted_f1)
        error = calibration_difference(after, before[name])
        changed = differing(
            before[name].probabilities.argmax(1).tolist(), after.probabilities.argmax(1).tolist()
        )
        answers = len(changed)
        results += [
            Figure(
                row="6",
                name=f"{name}: weighted F1, difference in points",
                asked=answers,
                value=100 * f1.value,
                wanted=-_POINTS,
                note=f"{100 * f1.low:.2f} to {100 * f1.high:.2f}; "
                f"{percent(changed):.1f}% of the labels changed",
            ),
            Figure(
                row="6",
                name=f"{name}: calibration error, difference in points",
                asked=answers,
                value=100 * error.value,
                wanted=_POINTS,
                at_least=False,
                note=f"{100 * error.low:.2f} to {100 * error.high:.2f}",
            ),
        ]
    return results


async def _predicted(
    tenant: Tenant, space: LabelSpace, dialogues: Sequence[Dialogue]
) -> Predictions:
    answers = await tenant.score(space.name, [each.utterances for each in dialogues])
    rows = [
        predicted.Answer(
            dialogue.id,
            index,
            space.names.index(utterance.label),
            tuple(answer.probabilities[name] for name in space.names),
        )
        for dialogue, result in zip(dialogues, answers, strict=True)
        for index, (utterance, answer) in enumerate(zip(dialogue.utterances, result, strict=True))
        if utterance.label is not None
    ]
    return Predictions(space.name, space.names, tuple(rows))
