"""A recognizer whose model and retrieval are scripted, and whose prompts can be read as text."""

import asyncio
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.conversation.dialogue import Demonstration
from service.conversation.labels import LabelSpace, load_label_spaces
from service.decoding.bundle import Base, Bundle, Window, trained_labels
from service.decoding.engine import Reading, current_dialogue
from service.decoding.tokenizer import Tokenizer
from service.demonstrations.store import Correction, CorrectionMatch, Match
from service.priority import Priority
from service.recognition.opening import open_recognizer
from service.recognition.pipeline import Recognizer
from service.recognition.retrieval import NearCorrection, Retrieved, Wanted

BEGIN, END = 0, 1


class Words:
    """A tokenizer whose tokens are words, each with the white space before it."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {"<begin>": BEGIN, "<end>": END}

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(
            self._ids.setdefault(word, len(self._ids)) for word in re.findall(r"\s*\S+", text)
        )

    def decode(self, ids: Sequence[int]) -> str:
        words = list(self._ids)
        return "".join(words[token] for token in ids)


@dataclass
class ScriptedEngine:
    """A label engine that believes what it is told.

    Attributes:
        believes: the share of the vocabulary that it gives to a word; other words get none.
        certainty: what it multiplies these with, by the prompt's length.
        prompts: what it was asked with, as text, in order.
        salts: what kept each prompt apart from others.
        at_once: the most prompts that were under way together.
    """

    words: Words
    believes: dict[str, float] = field(default_factory=lambda: {"neutral": 0.5})
    certainty: Callable[[int], float] = lambda length: 1.0
    failure: Exception | None = None
    prompts: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    priorities: list[Priority] = field(default_factory=list)
    salts: list[str | None] = field(default_factory=list)
    dialogues: list[tuple[str | None, str] | None] = field(default_factory=list)
    at_once: int = 0
    _under_way: int = 0

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        self.prompts.append(self.words.decode(prompt))
        self.lengths.append(len(prompt))
        self.priorities.append(priority)
        self.salts.append(salt)
        self.dialogues.append(current_dialogue())
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        await asyncio.sleep(0)
        self._under_way -= 1
        if self.failure is not None:
            raise self.failure
        certainty = self.certainty(len(prompt))
        words = [self.words.decode([c]).strip() for c in candidates]
        shares = [certainty * self.believes.get(word, 0.0) for word in words]
        return Reading(
            tuple(math.log(share) if share else -math.inf for share in shares), cached_tokens=5
        )

    async def check(self) -> None: ...

    async def close(self) -> None: ...


@dataclass
class ScriptedRetrieval:
    """Retrieval that finds what it is told, and keeps what it was asked."""

    matches: list[Match] = field(default_factory=list)
    corrections: list[NearCorrection] = field(default_factory=list)
    failure: Exception | None = None
    asked: list[tuple[list[str], str, int, str | None]] = field(default_factory=list)

    async def nearest(
        self,
        texts: Sequence[str],
        label_space: str,
        wanted: Wanted,
        tenant: str | None,
        priority: Priority,
    ) -> Retrieved:
        self.asked.append((list(texts), label_space, wanted.examples, tenant))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return Retrieved(
            tuple(m for m in self.matches if m.demonstration.label_space == label_space),
            tuple(self.corrections),
        )


def corrected(
    name: str, label: str, similarity: float, context_similarity: float, text: str = "We won!"
) -> NearCorrection:
    """A correction in MELD's labels that retrieval may find."""
    correction = Correction(Demonstration(name, "meld", label, text), None, 0.0)
    return NearCorrection(CorrectionMatch(correction, similarity), context_similarity)


# Opens a recognizer with one label space; its arguments change the bundle.
OpenRecognizer = Callable[..., Recognizer]


@pytest.fixture(scope="session")
def spaces() -> Mapping[str, LabelSpace]:
    return load_label_spaces(Path(__file__).parents[2] / "data" / "label_spaces")


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
def engine(words: Words) -> ScriptedEngine:
    return ScriptedEngine(words)


@pytest.fixture
def retrieval() -> ScriptedRetrieval:
    """Finds two demonstrations."""
    return ScriptedRetrieval(
        [
            Match(Demonstration("e1", "meld", "anger", "Who took it?"), 0.75),
            Match(Demonstration("e2", "meld", "joy", "Found it!"), 0.5),
        ]
    )


@pytest.fixture(scope="session")
def bundle(spaces: Mapping[str, LabelSpace]) -> Bundle:
    """Trained on MELD and the unified labels, with a window of two to four lines."""
    return Bundle(
        format=1,
        name="mini",
        version="3",
        base=Base(name="base", revision="none"),
        template="v2",
        window=Window(lowest=2, highest=4),
        max_tokens=300,
        demonstrations=2,
        label_spaces={name: trained_labels(spaces[name]) for name in ("meld", "unified")},
        encoder="encoder@1",
        data={},
        code_version="test",
    )


@pytest.fixture
def open_with(
    bundle: Bundle,
    spaces: Mapping[str, LabelSpace],
    words: Words,
    engine: ScriptedEngine,
    retrieval: ScriptedRetrieval,
) -> OpenRecognizer:
    """Opens a recognizer on the scripted parts; keyword arguments replace fields of the bundle."""

    def open_(*, retrieval: ScriptedRetrieval | None = retrieval, **changes: object) -> Recognizer:
        return open_recognizer(
            bundle.model_copy(update=changes),
            Tokenizer(words.encode, (BEGIN,), END),
            spaces,
            engine,
            retrieval,
        )

    return open_


@pytest.fixture
def recognizer(open_with: OpenRecognizer) -> Recognizer:
    return open_with()
