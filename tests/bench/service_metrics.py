"""What the service counts of its prompts, read from `/metrics`."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of all prompts so far, and those of them that came from the cache."""

    prompt: int
    cached: int

    def since(self, before: "Tokens") -> "Tokens":
        return Tokens(self.prompt - before.prompt, self.cached - before.cached)


def tokens_of(exposition: str) -> Tokens:
    """From an answer of `/metrics`.

    Raises:
        ValueError: it has no such counters.
    """
    return Tokens(
        _counter(exposition, "erc_prompt_tokens_total"),
        _counter(exposition, "erc_cached_tokens_total"),
    )


def _counter(exposition: str, name: str) -> int:
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", exposition, re.MULTILINE)
    if not found:
        raise ValueError(f"/metrics has no {name}")
    return round(sum(map(float, found)))
