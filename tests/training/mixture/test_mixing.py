"""What one epoch of a stage consists of."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest

from service.conversation.dialogue import HistoryWindow
from service.conversation.prompts.default_v2 import V2
from service.decoding.tokenizer import Tokenizer
from tests.training.mixture.conftest import OTHERS, TALKS
from training.arrays import Vectors
from training.datasets.reading import Corpus
from training.mixture.mixing import held_out, mix
from training.mixture.pools import Pools
from training.mixture.sources import Sources
from training.mixture.tasks import MAIN, PREDICTION, LabelledExample, PromptSettings
from training.recipe import Demonstrations, Stage

Mixed = Callable[..., list[LabelledExample]]


@pytest.fixture
def prompts() -> PromptSettings:
    """Tokens are characters, so that examples can be read."""
    tokenizer = Tokenizer(lambda text: tuple(map(ord, text)), (), None)
    return PromptSettings(V2(), HistoryWindow(0, 0), tokenizer, 100_000)


@pytest.fixture
def mixed(sources: Sources, prompts: PromptSettings) -> Mixed:
    """An epoch on both corpora, with so much unified and so many demonstrations."""

    def run(
        *,
        unified: float = 0.0,
        count: int = 0,
        share: float = 1.0,
        pools: tuple[str, ...] = ("train",),
        seed: int = 1,
        epoch: int = 0,
        corpora: Sequence[Corpus] | None = None,
        settings: PromptSettings = prompts,
        pairing: Mapping[str, object] = MappingProxyType({}),
        **stage_options: object,
    ) -> list[LabelledExample]:
        read = sources.corpora([TALKS, OTHERS])
        stage = Stage.model_validate(
            {
                "name": "s",
                "corpora": (TALKS, OTHERS),
                "unified": unified,
                "demonstrations": {"count": count, "share": share, "pools": pools, **pairing},
                "epochs": 1,
                "learning_rate": 0.1,
                **stage_options,
            }
        )
        drawn_from = Pools(sources, read, seed, ())
        return mix(corpora or read, stage, drawn_from, sources, settings, seed, epoch)

    return run


def text(labelled: LabelledExample) -> str:
    return "".join(chr(t) for s in labelled.example.segments for t in s)


def target_line(labelled: LabelledExample) -> str:
    (line,) = re.findall(r"\nConversation:\n\d: (.*)", text(labelled))
    return str(line)


def shown(labelled: LabelledExample) -> list[tuple[str, str]]:
    """The demonstrations of a prompt and their labels."""
    return re.findall(r"\n(.*) = (\w+)", text(labelled))


def test_corpus_is_taught_in_its_own_labels(mixed: Mixed) -> None:
    """Each utterance once."""
    examples = mixed()

    assert [labelled.label_space.name for labelled in examples] == 9 * ["meld"] + 5 * ["emorynlp"]
    assert [labelled.label for labelled in examples[-5:]] == [
        "neutral",
        "peaceful",
        "powerful",
        "scared",
        "mad",
    ]
    assert len({target_line(labelled) for labelled in examples}) == 14


def test_unified_twin_asks_of_the_same_utterance_in_the_unified_labels(mixed: Mixed) -> None:
    """Another label statement, and the word that the label maps to."""
    examples = mixed(unified=1.0)

    own = {target_line(e): e for e in examples if e.label_space.name != "unified"}
    twins = {target_line(e): e for e in examples if e.label_space.name == "unified"}
    assert len(examples) == 28
    assert twins.keys() == own.keys()
    for line, twin in twins.items():
        assert twin.label == own[line].label_space.label(own[line].label).unified
        assert "Labels: joyful, sad, neutral, mad, excited, fear, disgust, peaceful" in text(twin)


def test_share_of_the_dialogues_has_a_unified_twin(mixed: Mixed) -> None:
    """Whole dialogues, so that their prompts share a prefix; each epoch draws others."""
    drawn = []
    for seed in range(30):
        twins = [e for e in mixed(unified=0.5, seed=seed) if e.label_space.name == "unified"]
        drawn.append(frozenset(map(target_line, twins)))

    assert len(set(drawn)) > 5
    assert sum(map(len, drawn)) / 30 == pytest.approx(7, abs=2)
    assert all(("This soup is cold." in d) == ("It is a raisin!" in d) for d in drawn)


def test_corpus_in_unified_labels_has_no_twin(mixed: Mixed, sources: Sources) -> None:
    """It is its own."""
    (talks,) = sources.corpora([TALKS])
    space = sources.label_spaces["unified"]
    dialogues = tuple(
        replace(d, utterances=tuple(replace(u, label="sad") for u in d.utterances))
        for d in talks.dialogues
    )

    examples = mixed(unified=1.0, corpora=[Corpus(talks.path, space, dialogues)])

    assert len(examples) == 9


def test_demonstrations_are_in_the_examples_label_space(mixed: Mixed) -> None:
    """A prompt never shows a word that its label statement does not list."""
    for labelled in mixed(unified=1.0, count=2):
        assert len(labelled.demonstrations) == len(shown(labelled)) > 0
        assert {label for _, label in shown(labelled)} <= {*labelled.label_space.verbalizers}


def test_demonstrations_are_of_other_dialogues(mixed: Mixed, sources: Sources) -> None:
    """Of the same corpora, also for the unified twins."""
    dialogue_of = {
        u.text: d.id
        for corpus in sources.corpora([TALKS, OTHERS])
        for d in corpus.dialogues
        for u in d.utterances
    }

    for labelled in mixed(unified=1.0, count=3):
        for line, _ in shown(labelled):
            assert dialogue_of[line] != dialogue_of[target_line(labelled)]


def test_demonstrations_come_from_the_pools_that_the_stage_names(mixed: Mixed) -> None:
    """From one of them for each utterance."""
    file = {"Hurrah, we found the ferry!", "Hurrah, we found the spider!"}

    def sources_of(*pools: str) -> set[str]:
        return {
            "shipped" if line in file else "train"
            for labelled in mixed(unified=1.0, count=1, pools=pools)
            for line, _ in shown(labelled)
        }

    assert sources_of("train") == {"train"}
    assert sources_of("shipped") == {"shipped"}
    assert sources_of("train", "shipped") == {"train", "shipped"}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_share_of_the_utterances_has_demonstrations(
    share: float, expected: float, mixed: Mixed
) -> None:
    """The model learns to answer without."""
    examples = [e for seed in range(20) for e in mixed(count=1, share=share, seed=seed)]

    assert sum(len(e.demonstrations) for e in examples) / len(examples) == pytest.approx(
        expected, abs=0.1
    )


def test_epochs_differ_and_can_be_repeated(mixed: Mixed) -> None:
    """By their number and the seed alone."""
    one, again, other = (mixed(unified=0.5, count=1, share=0.5, epoch=n) for n in (1, 1, 2))

    assert one == again
    assert one != other


def test_held_out_dialogues_are_shown_training_utterances_only(
    mixed: Mixed, sources: Sources
) -> None:
    """A pool is made of the corpora that train, whatever is asked about."""
    (talks,) = sources.corpora([TALKS])
    held_out = Corpus(
        talks.path,
        talks.label_space,
        tuple(
            replace(
                d,
                id=f"dev/{d.id}",
                utterances=tuple(replace(u, text=f"{u.text} Again.") for u in d.utterances),
            )
            for d in talks.dialogues
        ),
    )

    examples = mixed(count=3, corpora=[held_out])

    assert all(target_line(labelled).endswith("Again.") for labelled in examples)
    assert not any(line.endswith("Again.") for e in examples for line, _ in shown(e))


def test_later_epochs_encode_nothing(sources: Sources, prompts: PromptSettings) -> None:
    """What is near what does not change from epoch to epoch; only the draw does."""
    counts: list[int] = []

    def counting(texts: Sequence[str]) -> Vectors:
        counts.append(len(texts))
        return sources.encode_texts(texts)

    counted = replace(sources, encode_texts=counting)
    corpora = counted.corpora([TALKS])
    stage = Stage(
        name="s",
        corpora=(TALKS,),
        demonstrations=Demonstrations(count=1, share=1.0),
        epochs=2,
        learning_rate=0.1,
    )
    pools = Pools(counted, corpora, 1, ())

    mix(corpora, stage, pools, counted, prompts, 1)
    first = list(counts)
    mix(corpora, stage, pools, counted, prompts, 2)

    assert len(first) == 2  # the corpus and the pool
    assert counts == first


def test_corpora_can_be_taught_in_unified_labels_alone(mixed: Mixed) -> None:
    """One label statement for all, as the paper's unified experiments have it."""
    examples = mixed(own=0.0, unified=1.0)

    assert {e.label_space.name for e in examples} == {"unified"}
    assert len(examples) == 14


def test_tasks_of_an_utterance_stand_side_by_side(mixed: Mixed, prompts: PromptSettings) -> None:
    """So that a row holds what they share once."""
    longer = replace(prompts, window=HistoryWindow(3, 3))
    examples = mixed(tasks={"main": 1, "prediction": 0.1}, settings=longer)

    assert [(e.index, e.example.task) for e in examples[:5]] == [
        *((0, MAIN), (1, MAIN), (1, PREDICTION), (2, MAIN), (2, PREDICTION)),
    ]
    assert sum(e.example.task == PREDICTION for e in examples) == 9  # all but five first turns


def test_pseudo_labels_are_of_the_main_task(sources: Sources, prompts: PromptSettings) -> None:
    """A teacher did not say who speaks, nor what comes next."""
    (talks,) = sources.corpora([TALKS])
    stage = Stage.model_validate(
        {
            "name": "s",
            "corpora": [TALKS],
            "tasks": {"main": 1, "prediction": 0.1},
            "pseudo_labels": {"teacher": "earlier"},
            "epochs": 1,
            "learning_rate": 0.1,
        }
    )
    longer = replace(prompts, window=HistoryWindow(3, 3))
    taught = replace(talks, pseudo_labelled=True)

    for corpus, tasks in ((talks, {MAIN, PREDICTION}), (taught, {MAIN})):
        pools = Pools(sources, [corpus], 1, ())
        examples = mix([corpus], stage, pools, sources, longer, 1)
        assert {e.example.task for e in examples} == tasks


def test_task_of_weight_zero_has_no_example(mixed: Mixed, prompts: PromptSettings) -> None:
    longer = replace(prompts, window=HistoryWindow(3, 3))

    examples = mixed(tasks={"main": 0, "prediction": 1}, settings=longer)

    assert {e.example.task for e in examples} == {PREDICTION}


def agreement(examples: Sequence[LabelledExample]) -> float:
    """How often a demonstration has the label of the utterance it is shown to."""
    shown = [e for e in examples if e.demonstrations]
    return sum(e.demonstrations[0].label == e.label for e in shown) / len(shown)


def test_published_pairing_shows_the_answer(mixed: Mixed) -> None:
    """Which is why it is not the default."""
    unbalanced = {"balanced": False}

    assert agreement(mixed(count=1, pairing=unbalanced)) < 1
    assert agreement(mixed(count=1, pairing={"pairing": "same_label", **unbalanced})) == 1


def test_label_dropout_leaves_a_share_to_any_label(mixed: Mixed) -> None:
    """So that copying does not always pay."""
    pairing = {"pairing": "label_dropout", "dropout": 0.5, "balanced": False}

    def shown_to(**changed: object) -> float:
        paired = pairing | changed
        seeds = range(20)
        return agreement([e for n in seeds for e in mixed(count=1, seed=n, pairing=paired)])

    assert shown_to(dropout=1.0) < shown_to() < shown_to(dropout=0.0) == 1


def test_held_out_split_is_asked_as_serving_asks(sources: Sources, prompts: PromptSettings) -> None:
    """Each utterance, without demonstrations and with, of any label whatever training shows."""
    (talks,) = sources.corpora([TALKS])
    stage = Stage.model_validate(
        {
            "name": "s",
            "corpora": (OTHERS,),
            "tasks": {"main": 1, "prediction": 0.1},
            "demonstrations": {"count": 1, "share": 0.5, "pairing": "same_label"},
            "epochs": 1,
            "learning_rate": 0.1,
        }
    )
    longer = replace(prompts, window=HistoryWindow(3, 3))

    held = held_out([talks], stage, Pools(sources, [talks], 1, ()), sources, longer)

    assert {what: len(examples) for what, examples in held.items()} == {
        "meld, without demonstrations": 9,
        "meld, with demonstrations": 9,
        "meld, prediction": 6,
    }
    assert agreement(held["meld, with demonstrations"]) < 1


def test_what_trains_by_its_end_is_counted(
    mixed: Mixed, prompts: PromptSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """For each corpus and label space, once."""
    whole = mixed(unified=1.0)
    bare = [(*e.example.segments[:1], e.example.segments[-1], e.example.target) for e in whole]
    short = replace(prompts, limit=max(sum(map(len, parts)) for parts in bare) + 6)

    with caplog.at_level(logging.INFO):
        examples = mixed(unified=1.0, settings=short)
        mixed(unified=1.0, settings=short, epoch=1)

    assert len(examples) == len(whole)
    assert any(e.truncated for e in examples)
    assert sum(int(message.split()[1]) for message in caplog.messages) == sum(
        e.truncated for e in examples
    )
