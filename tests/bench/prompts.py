"""The prompts that the service would read for a run's dialogues, recorded from its own pipeline.

The bare engine and vLLM's own server get them as they are: they are compared by what they do with
a prompt, not by how they make one. Demonstrations are retrieved as in the service, with the real
encoder, from an index of the shipped ones.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from service.conversation.dialogue import Dialogue, lines_of
from service.conversation.labels import LabelSpace, load_label_spaces
from service.decoding.bundle import load_bundle
from service.decoding.engine import Reading
from service.decoding.tokenizer import load_tokenizer
from service.demonstrations.corpus import build_index, read_demonstrations
from service.demonstrations.encoder import Vector, load_encoder
from service.demonstrations.qdrant_edge.store import open_edge
from service.demonstrations.store import DemonstrationStore
from service.priority import Priority
from service.recognition.opening import open_recognizer
from service.recognition.pipeline import Recognizer
from service.recognition.retrieval import Retrieved, Wanted
from service.settings import load_settings
from tests.bench.turns import Read, Turn, Turns


async def record_prompts(
    bundle: Path,
    spoken: Sequence[tuple[Sequence[Dialogue], LabelSpace]],
    index: Path,
    *,
    demonstrations: bool,
) -> list[Turns]:
    """What the service reads for sets of dialogues, each in its label space.

    Args:
        index: an empty folder, for an index of the shipped demonstrations.
        demonstrations: whether prompts show any.

    Raises:
        BundleError: the service could not serve the bundle.
    """
    settings = load_settings()
    spaces = load_label_spaces(settings.data / "label_spaces")
    loaded = load_bundle(bundle, spaces)
    recorder = _Recorder()
    shown = demonstrations and loaded.demonstrations > 0
    texts = chain.from_iterable(_texts(dialogues) for dialogues, _ in spoken)
    async with (
        _retrieval(settings.demonstrations_file, spaces, index, texts) if shown else nullcontext()
    ) as retrieval:
        recognizer = open_recognizer(loaded, load_tokenizer(bundle), spaces, recorder, retrieval)
        return [
            tuple([await _turns(recognizer, recorder, dialogue, space) for dialogue in dialogues])
            for dialogues, space in spoken
        ]


@dataclass(slots=True)
class _Recorder:
    """A label engine that answers at once and keeps what it was asked."""

    reads: list[Read] = field(default_factory=list)

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        self.reads.append(Read(tuple(prompt), tuple(candidates)))
        return Reading((-1.0,) * len(candidates), 0)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _EncodedBefore:
    """Retrieval for texts whose vectors are known: one by one they would take minutes."""

    vectors: Mapping[str, Vector]
    store: DemonstrationStore

    async def nearest(
        self,
        texts: Sequence[str],
        label_space: str,
        wanted: Wanted,
        tenant: str | None,
        priority: Priority,
    ) -> Retrieved:
        vector = self.vectors[texts[-1]]
        matches = await self.store.nearest(vector, label_space, wanted.examples, tenant)
        return Retrieved(tuple(matches))


@asynccontextmanager
async def _retrieval(
    demonstrations: Path,
    label_spaces: Mapping[str, LabelSpace],
    index: Path,
    texts: Iterator[str],
) -> AsyncIterator[_EncodedBefore]:
    encoder = load_encoder()
    store = await open_edge(index, encoder.identity)
    try:
        await build_index(store, encoder, read_demonstrations(demonstrations, label_spaces))
        wanted = list(dict.fromkeys(texts))
        vectors = await asyncio.gather(*map(encoder.encode, wanted))
        yield _EncodedBefore(dict(zip(wanted, vectors, strict=True)), store)
    finally:
        await store.close()
        await encoder.close()


async def _turns(
    recognizer: Recognizer, recorder: _Recorder, dialogue: Dialogue, label_space: LabelSpace
) -> tuple[Turn, ...]:
    """As `service.recognition.dialogues.recognize_dialogue` asks, one utterance after another."""
    template = recognizer.bundle.prompt_template
    lines = lines_of(dialogue.utterances, keep_integers=template.keeps_integer_speakers)
    turns = []
    for target in range(len(lines)):
        first = max(0, target - recognizer.history_lines)
        recorder.reads.clear()
        await recognizer.recognize(lines[first : target + 1], label_space, first=first)
        turns.append(tuple(recorder.reads))
    return tuple(turns)


def _texts(dialogues: Sequence[Dialogue]) -> Iterator[str]:
    for dialogue in dialogues:
        for utterance in dialogue.utterances:
            yield utterance.text
