"""What training must not know: held-out dialogues, in whichever corpus they are.

MELD and EmoryNLP are of one television series and were cut and split apart from each other: of the
development dialogues of the one, a tenth to a quarter have lines that the other trains on, under
labels of its own.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from service.conversation.dialogue import Dialogue
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus

log = logging.getLogger(__name__)

# Fewer words are said in many dialogues.
_WORDS = 5
_SHARED = 2
_WHOLE = 3


def without_held_out(corpora: Sequence[Corpus], held_out: Sequence[Corpus]) -> list[Corpus]:
    """The corpora without the dialogues that a held-out split has too, in part or as a whole.

    That is: two of its utterances of five words or more, or all of its utterances where they are
    three or more; case and punctuation aside.

    Raises:
        DatasetError: a file is held out, or nothing else is in it.
    """
    paths = {corpus.path.resolve() for corpus in held_out}
    dialogues = [_words(dialogue) for corpus in held_out for dialogue in corpus.dialogues]
    wholes = set(dialogues)
    lines = {line for said in dialogues for line in said if len(line) >= _WORDS}

    def is_known(dialogue: Dialogue) -> bool:
        said = _words(dialogue)
        shared = {line for line in said if line in lines}
        return len(shared) >= _SHARED or (len(said) >= _WHOLE and said in wholes)

    kept = []
    for corpus in corpora:
        if corpus.path.resolve() in paths:
            raise DatasetError(f"{corpus.path}: is a training corpus, and held out")
        apart = tuple(dialogue for dialogue in corpus.dialogues if not is_known(dialogue))
        if corpus.dialogues and not apart:
            raise DatasetError(f"{corpus.path}: every dialogue of it is held out")
        if left_out := len(corpus.dialogues) - len(apart):
            log.info(
                "%s: %d of %d dialogues are left out, for a held-out split has them, too",
                *(corpus.path, left_out, len(corpus.dialogues)),
            )
        kept.append(replace(corpus, dialogues=apart))
    return kept


def _words(dialogue: Dialogue) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(re.findall(r"\w+", u.text.casefold())) for u in dialogue.utterances)
