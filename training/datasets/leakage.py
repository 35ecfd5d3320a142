"""Held-out dialogues: kept out of training, and out of the demonstrations that prompts show.

Held out are a recipe's development splits and, as far as their files are there, its test splits.
A recipe without `test` keeps no test dialogue out; those of the shipped models have none.
`training/finetuning/preflight.py` keeps held-out dialogues out of the training corpora, from which
demonstrations are drawn, and `training/mixture/pools.py` refuses corpora that still have some. The
shipped demonstrations are of no corpus.

MELD and EmoryNLP are of one television series and were cut and split apart from each other: of the
development dialogues of the one, a tenth to a quarter have lines that the other trains on, under
labels of its own.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from service.conversation.dialogue import Dialogue
from training.datasets import iemocap
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus
from training.datasets.text import Words, words

Said = tuple[Words, ...]

log = logging.getLogger(__name__)

# Fewer words are said in many dialogues.
_WORDS = 5
_SHARED = 2
_WHOLE = 2
_NAMED = 5


def without_held_out(corpora: Sequence[Corpus], held_out: Sequence[Corpus]) -> list[Corpus]:
    """The corpora without the dialogues that a held-out split has too, in part or as a whole.

    That is: two of its utterances of five words or more, or all of its utterances where they are
    two or more; case and punctuation aside. Within IEMOCAP only the whole counts: each pair of
    actors plays the same scripts, and published results are of splits that share them.

    Raises:
        DatasetError: a file is held out, or nothing else is in it.
    """
    is_held_out = _held_out(held_out)
    paths = {corpus.path.resolve() for corpus in held_out}
    kept = []
    for corpus in corpora:
        if corpus.path.resolve() in paths:
            raise DatasetError(f"{corpus.path}: is both a training corpus and held out")
        apart = tuple(d for d in corpus.dialogues if not is_held_out(corpus, d))
        if corpus.dialogues and not apart:
            raise DatasetError(f"{corpus.path}: all of its dialogues are held out")
        if left_out := len(corpus.dialogues) - len(apart):
            log.info(
                "%s: %d of %d dialogues are excluded because they are also in a held-out split",
                *(corpus.path, left_out, len(corpus.dialogues)),
            )
        kept.append(replace(corpus, dialogues=apart))
    return kept


def check_apart(corpora: Sequence[Corpus], held_out: Sequence[Corpus]) -> None:
    """See that none of the corpora's dialogues is one that `without_held_out` leaves out.

    Raises:
        DatasetError: some are; the message names them.
    """
    is_held_out = _held_out(held_out)
    paths = {corpus.path.resolve() for corpus in held_out}
    for corpus in corpora:
        same_file = corpus.path.resolve() in paths
        leaked = [d.id for d in corpus.dialogues if same_file or is_held_out(corpus, d)]
        if leaked:
            named = ", ".join(map(repr, leaked[:_NAMED]))
            more = f" and {len(leaked) - _NAMED} more" if len(leaked) > _NAMED else ""
            raise DatasetError(
                f"{corpus.path}: held-out dialogues would be in prompts: {named}{more}"
            )


def lines_among(texts: Iterable[str], corpora: Sequence[Corpus]) -> int:
    """How many texts of five words or more are lines of the corpora, case and punctuation aside."""
    lines = {line for c in corpora for d in c.dialogues for line in _said(d) if len(line) >= _WORDS}
    return sum(words(text) in lines for text in texts)


def _held_out(held_out: Sequence[Corpus]) -> Callable[[Corpus, Dialogue], bool]:
    """Whether a dialogue of a corpus is held out, by what is said in it."""
    wholes: set[Said] = set()
    lines: dict[str, set[Words]] = defaultdict(set)  # by label space
    for corpus in held_out:
        for dialogue in corpus.dialogues:
            said = _said(dialogue)
            wholes.add(said)
            lines[corpus.label_space.name].update(line for line in said if len(line) >= _WORDS)

    def is_held_out(corpus: Corpus, dialogue: Dialogue) -> bool:
        said = _said(dialogue)
        space = corpus.label_space.name
        counted = [of for name, of in lines.items() if not space == name == iemocap.LABEL_SPACE]
        shared = {line for line in said if any(line in of for of in counted)}
        return len(shared) >= _SHARED or (len(said) >= _WHOLE and said in wholes)

    return is_held_out


def _said(dialogue: Dialogue) -> Said:
    return tuple(words(utterance.text) for utterance in dialogue.utterances)
