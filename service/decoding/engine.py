"""The protocol of label engines: one forward pass, the log-probabilities of a few tokens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from service.priority import Priority


@dataclass(frozen=True, slots=True)
class Reading:
    """The model's distribution right after a prompt, at the candidate tokens.

    Attributes:
        log_probabilities: natural logarithms under the whole vocabulary, one per candidate token,
            in the order of the candidates.
        cached_tokens: the number of the prompt's tokens that came from the prefix cache; None:
            unknown.
        queue_s: seconds that the prompt waited for its forward pass; None: unknown.
    """

    log_probabilities: tuple[float, ...]
    cached_tokens: int | None
    queue_s: float | None = 0.0


class LabelEngine(Protocol):
    """A causal language model that scores single tokens.

    Raises EngineUnavailable, never a library's own error. Cancelling a call frees its place.
    """

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        """The candidates' log-probabilities after a prompt of token ids.

        Args:
            salt: the prompt shares cached prefixes only with prompts of the same salt, so that the
                response time reveals nothing of another tenant's utterances.
        """
        ...

    async def check(self) -> None:
        """Return if the engine works."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class ServerWork:
    """The answered reads of one server, without those that only try it.

    Attributes:
        reads: how many there were.
        seconds: what they took, added up.
        prompt_tokens: of their prompts.
        cached_tokens: of these, the ones that came from the prefix cache, as far as it is known.
    """

    reads: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0

    def count(self, prompt: Sequence[int], reading: Reading, seconds: float) -> None:
        """Count an answered read."""
        self.reads += 1
        self.seconds += seconds
        self.prompt_tokens += len(prompt)
        self.cached_tokens += reading.cached_tokens or 0


@dataclass(frozen=True, slots=True)
class ServerState:
    """What an engine knows of one server.

    Attributes:
        name: its host and port; "in-process" if vLLM runs in this process.
        is_available: whether it is asked.
        outcomes: the number of requests to it, by what became of them; empty if vLLM runs in this
            process.
        open_reads: how many prompts it is reading for this process.
    """

    name: str
    is_available: bool
    outcomes: Mapping[str, int]
    open_reads: int
    work: ServerWork


class WatchableEngine(LabelEngine, Protocol):
    """A label engine that is watched for as long as the service runs."""

    @property
    def lost(self) -> str | None:
        """Why it will not answer again in this process; None while it may."""
        ...

    @property
    def silent_s(self) -> float:
        """Seconds of open requests without an answer to any of them."""
        ...

    @property
    def servers(self) -> Sequence[ServerState]:
        """The servers that it reads from, or would."""
        ...

    async def watch(self, on_loss: Callable[[str], None]) -> None:
        """Keep watching until the engine is lost, if it can be.

        Args:
            on_loss: called once with the reason why the engine will not answer again.
        """
        ...


_dialogue: ContextVar[tuple[str | None, str] | None] = ContextVar("_dialogue", default=None)


@contextmanager
def reading_dialogue(tenant: str | None, dialogue_id: str) -> Iterator[None]:
    """Relate the reads of the block, and of the tasks that it starts, to a dialogue.

    An engine of several servers sends them to the one whose prefix cache has the dialogue. It is a
    hint: what is read does not depend on it.
    """
    token = _dialogue.set((tenant, dialogue_id))
    try:
        yield
    finally:
        _dialogue.reset(token)


def current_dialogue() -> tuple[str | None, str] | None:
    """The tenant and the dialogue of the current read; None if it belongs to no dialogue."""
    return _dialogue.get()
