"""The protocol of label engines: one forward pass, the log-probabilities of a few tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.priority import Priority as Priority


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model thinks comes right after a prompt.

    Attributes:
        log_probabilities: natural logarithms under the whole vocabulary, one a candidate token, in
            the order asked.
        cached_tokens: how many of the prompt's tokens came from the prefix cache.
        queue_s: seconds that the prompt waited for its pass.
    """

    log_probabilities: tuple[float, ...]
    cached_tokens: int
    queue_s: float = 0.0


class LabelEngine(Protocol):
    """A causal language model that is asked for single tokens.

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
            salt: the prompt shares cached beginnings with those of the same salt alone, so that
                nobody is answered faster because another one has said the same.
        """
        ...

    async def check(self) -> None:
        """Return when the engine works."""
        ...

    async def close(self) -> None: ...
