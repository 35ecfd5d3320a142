"""The protocol of label engines: one forward pass, the log-probabilities of a few tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.priority import Priority


@dataclass(frozen=True, slots=True)
class Reading:
    """The model's distribution right after a prompt, at the candidate tokens.

    Attributes:
        log_probabilities: natural logarithms under the whole vocabulary, one per candidate token,
            in the order of the candidates.
        cached_tokens: the number of the prompt's tokens that came from the prefix cache.
        queue_s: seconds that the prompt waited for its forward pass.
    """

    log_probabilities: tuple[float, ...]
    cached_tokens: int
    queue_s: float = 0.0


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
