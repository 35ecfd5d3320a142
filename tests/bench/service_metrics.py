"""What the service counts of its prompts, read from `/metrics`."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


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
    values = [
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == name
    ]
    if not values:
        raise ValueError(f"/metrics has no {name}")
    return round(sum(values))
