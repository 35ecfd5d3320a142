"""The published prompt for a run's dialogues: what a user of the published code would ask."""

from collections.abc import Iterable
from pathlib import Path

from service.conversation.dialogue import HistoryWindow, lines_of
from service.conversation.labels import LabelSpace
from service.conversation.prompts import InstructercV1
from service.conversation.prompts.tokens import fit, verbalizer_ids
from service.decoding.tokenizer import load_tokenizer
from tests.bench.setup import Setup

_WINDOW = HistoryWindow(12, 12)


def published_prompts(setup: Setup, passes: Iterable[int]) -> list[str]:
    """The prompts of the main task, utterance after utterance.

    The oldest lines go where a prompt is longer than the model reads: the published code would cut
    off the question.
    """
    bundle, space = setup.load_bundle()
    tokenizer, template = load_tokenizer(Path(setup.bundle)), InstructercV1()
    limit = bundle.max_tokens - longest_answer(Path(setup.bundle), space)
    prompts = []
    for number in passes:
        for dialogue in setup.passes(number):
            lines = lines_of(dialogue.utterances, keep_integers=template.keeps_integer_speakers)
            for target in range(len(lines)):
                fitted = fit(
                    template,
                    space,
                    _WINDOW,
                    lines[: target + 1],
                    (),
                    encode=tokenizer.encode,
                    starts=tokenizer.starts,
                    begin=tokenizer.begin,
                    limit=limit,
                )
                history = lines[target - fitted.history : target]
                prompts.append(template.main(space, history, lines[target]).text)
    return prompts


def longest_answer(bundle: Path, label_space: LabelSpace) -> int:
    """Tokens of the longest verbalizer and its end."""
    encode = load_tokenizer(bundle).encode
    return 1 + max(len(verbalizer_ids(InstructercV1(), v, encode)) for v in label_space.verbalizers)
