"""`python -m tests.bench.fleet`: how large a fleet is for a load, from what was measured.

It prints the tables of docs/fleet.md. What is not measured is an `assumption` below, and the page
says so.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.machine import REPOSITORY
from tests.bench.table import markdown

RESULTS = REPOSITORY / "data" / "results"
LOADS = (1_000, 10_000, 100_000)  # turns a second

# Of what a part can do at most. At 50 % of the highest rate the 99th percentile of a turn is
# 109 ms, at 75 % 411 ms (bench-amd-epyc-2-cores.json, row e), where the objective is 500 ms.
PLANNED_SHARE = 0.6
# With vLLM's blocks of 16 tokens, as on a GPU (data/results/README.md, approaches tried).
COMPUTED_SHARE_ON_A_GPU = {False: 0.174, True: 0.337}
SEARCHES = 2  # of a turn: for demonstrations and for corrections
TURNS = 10  # of a dialogue, as the load's of `make bench`
# Processor time of the service where it asks vLLM on a server, in batches (docs/engines.md).
REMOTE_MS = 0.9
# Turns a second that PostgreSQL stored, with the client on the same two cores (approaches tried).
STORED_TURNS = 5_850
CONNECTIONS = 10  # of a process to PostgreSQL (service/sessions/engines.py)

# Assumptions.
PAUSE_S = 10  # between two turns of a dialogue
RETENTION_DAYS = 30
CORRECTED = 1e-4  # of the turns
CORRECTIONS_KEPT_DAYS = 365
H100_RATE = 989e12  # operations a second in bfloat16, as NVIDIA states for the SXM form
H100_SHARE = 0.4  # of that, which an engine reaches
H100_BYTES = 80e9
GPU_MEMORY = 0.9  # ERC_ENGINE__GPU_MEMORY
ACTIVATIONS_BYTES = 4e9  # of a GPU


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt on average.

    Attributes:
        tokens: all of them.
        computed: those that no cache holds, if the cache has the dialogue.
        kept: those that the dialogue's next turn finds in the cache.
    """

    tokens: float
    computed: float
    kept: float


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        device: what it runs on.
        tokens_per_second: that it computes.
        prompts_per_second: at most, however few their tokens.
        token_bytes: of its cache.
        cache_bytes: None: as much as one gives it.
    """

    name: str
    device: str
    turn: Turn
    tokens_per_second: float
    prompts_per_second: float
    token_bytes: int
    cache_bytes: float | None = None

    def rate(self, tokens: float) -> float:
        """Turns a second of so many computed tokens, planned."""
        return PLANNED_SHARE * min(self.prompts_per_second, self.tokens_per_second / tokens)


@dataclass(frozen=True, slots=True)
class Engines:
    """Engines for a load.

    Attributes:
        holds_dialogues: whether their caches hold all open dialogues; where they do not, prompts
            are computed whole.
        cache_bytes: that all dialogues take.
    """

    count: int
    holds_dialogues: bool
    cache_bytes: float


def engines_for(turns: float, engine: Engine) -> Engines:
    """The fewest engines: those whose caches hold all dialogues, or those that need no cache.

    Args:
        turns: a second.
    """
    cache_bytes = turns * PAUSE_S * engine.turn.kept * engine.token_bytes
    held = math.ceil(turns / engine.rate(engine.turn.computed))
    if engine.cache_bytes is None:
        return Engines(held, True, cache_bytes)
    held = max(held, math.ceil(cache_bytes / engine.cache_bytes))
    whole = math.ceil(turns / engine.rate(engine.turn.tokens))
    return Engines(min(held, whole), held <= whole, cache_bytes)


def labelled_twice(pods: int, turns: int) -> float:
    """Share of the turns that are labelled again, if each reaches a pod by chance.

    A pod keeps the end of a dialogue whose turn it stored; if another one has stored a turn since,
    it labels its next turn with that end in vain. So these are the turns whose pod stored an
    earlier one, but not the last one.

    Args:
        turns: of a dialogue.
    """
    others = 1 - 1 / pods
    later = range(1, turns)  # the number of turns before each but the first
    return sum((1 - others**before) - 1 / pods for before in later) / turns


def _read(name: str) -> Any:
    (path,) = RESULTS.glob(name)
    return json.loads(path.read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Measured:
    """What the result files have.

    Attributes:
        turns: by whether prompts show a demonstration.
        engine_turns: of `erc-mini` on a core, a second; by the same.
        operations: of a token in `erc-mini`.
        prompt_s: of a prompt in the engine beside its matrices, on that core; by the same.
        service_ms: processor time of the service, apart from vLLM; by the same.
        costs: `tests.bench.turn_costs.TurnCosts`; by the same. Its processor times were taken
            beside other programs.
        choice_ms: of a server for a read, by the number of servers.
        index: the embedded index of a million demonstrations.
    """

    turns: Mapping[bool, Turn]
    engine_turns: Mapping[bool, float]
    operations: int
    prompt_s: Mapping[bool, float]
    service_ms: Mapping[bool, float]
    costs: Mapping[bool, Mapping[str, Any]]
    choice_ms: Mapping[int, float]
    index: Mapping[str, Any]


def read_measured() -> Measured:
    """Read the result files."""
    bench = _read("bench-amd-epyc-2-cores.json")
    rows = {(m["row"], m["load"], m["demonstrations"]): m for m in bench["measurements"]}
    floors = {floor["demonstrations"]: floor for floor in bench["floors"]}
    turns: dict[bool, Turn] = {}
    engine_turns: dict[bool, float] = {}
    prompt_s: dict[bool, float] = {}
    service_ms: dict[bool, float] = {}
    for shown in (False, True):
        spoken, alone = rows["e", "closed, 64", shown], rows["c", "in waves", shown]
        tokens = spoken["prompt_tokens"] / spoken["utterances"]
        kept = turns[False].tokens if shown else tokens  # demonstrations come last
        turns[shown] = Turn(tokens, spoken["computed_tokens"] / spoken["utterances"], kept)
        engine_turns[shown] = alone["per_second"]
        computed = alone["computed_tokens"] / alone["utterances"]
        matrices_s = computed * floors[shown]["operations"] / floors[shown]["matrix_rate"]
        prompt_s[shown] = 1 / alone["per_second"] - matrices_s
        in_all, in_engine = (1000 * m["processor_s"] / m["utterances"] for m in (spoken, alone))
        service_ms[shown] = in_all - in_engine + REMOTE_MS
    costs = _read("turns-*.json")
    return Measured(
        turns=turns,
        engine_turns=engine_turns,
        operations=floors[False]["operations"],
        prompt_s=prompt_s,
        service_ms=service_ms,
        costs={each["demonstrations"]: each for each in costs["turn_costs"]},
        choice_ms={int(servers): ms for servers, ms in costs["choice_ms"].items()},
        index=_read("demonstrations-*.json")["sizes"][-1],
    )


def _on_cores(
    name: str, measured: Measured, shown: bool, operations: float, token_bytes: int
) -> Engine:
    """An engine on one core: tokens as many times slower than erc-mini's as they take more."""
    turn, rate = measured.turns[shown], measured.engine_turns[shown]
    tokens = rate * turn.computed * measured.operations / operations
    return Engine(name, "core", turn, tokens, math.inf, token_bytes)


def _on_gpus(
    name: str, measured: Measured, gpus: int, layers: float, weights: float, token_bytes: int
) -> Engine:
    tokens, kept = measured.turns[True].tokens, measured.turns[True].kept
    return Engine(
        name,
        "H100" if gpus == 1 else f"{gpus} H100",
        Turn(tokens, tokens * COMPUTED_SHARE_ON_A_GPU[True], kept),
        gpus * H100_RATE * H100_SHARE / (2 * layers),
        1 / measured.prompt_s[True],
        token_bytes,
        gpus * (H100_BYTES * GPU_MEMORY - ACTIVATIONS_BYTES) - weights,
    )


def engines(measured: Measured) -> Sequence[Engine]:
    """The four models; bytes of a token are 2 * layers * width of keys * 2, in bfloat16."""
    return (
        _on_cores("erc-mini", measured, True, measured.operations, 2 * 6 * 384 * 2),
        _on_cores("erc-small", measured, False, 2 * 106.2e6, 2 * 30 * 192 * 2),
        _on_gpus("7B (Llama-2)", measured, 1, 6.48e9, 13.5e9, 2 * 32 * 4096 * 2),
        _on_gpus("7B, 8 heads of keys", measured, 1, 6.48e9, 13.5e9, 2 * 32 * 1024 * 2),
        _on_gpus("70B (Llama-2)", measured, 4, 68.5e9, 140e9, 2 * 80 * 1024 * 2),
    )


def _amount(value: float) -> str:
    """A number with two significant digits, or with all of those before its point."""
    if value >= 10 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2g}"


def parts_table(measured: Measured) -> str:
    """Everything but engines, with a demonstration in each prompt."""
    costs = measured.costs[True]
    stored = costs["database"]
    loop_ms, service_ms = (measured.service_ms[shown] for shown in (False, True))
    database_s = 2 / STORED_TURNS
    # A core is the event loop's, another the encoder's; the busier one decides.
    busier_ms = max(loop_ms, service_ms - loop_ms)
    pods = [math.ceil(n * busier_ms / 1000 / PLANNED_SHARE) for n in LOADS]
    day = 86_400
    vectors = [n * CORRECTED * CORRECTIONS_KEPT_DAYS * day for n in LOADS]
    searches = [SEARCHES * n for n in LOADS]
    search_s = measured.index["search_ms"]["p50"] / 1000
    index_bytes = measured.index["memory_mib"] * 2**20 / measured.index["demonstrations"]
    network = [n * (costs["to_engine_bytes"] + costs["from_engine_bytes"]) * 8 / 1e6 for n in LOADS]
    rows: list[tuple[str, Sequence[float]]] = [
        ("API pods of two cores", pods),
        (
            "processor time of them, in cores",
            [n * service_ms / 1000 / PLANNED_SHARE for n in LOADS],
        ),
        (
            "of these, for the encoder",
            [n * (service_ms - loop_ms) / 1000 / PLANNED_SHARE for n in LOADS],
        ),
        ("connections to PostgreSQL", [CONNECTIONS * n for n in pods]),
        (
            "cores of PostgreSQL",
            [n * database_s / PLANNED_SHARE for n in LOADS],
        ),
        (
            "rows written a second",
            [n * (stored["rows_added"] + stored["rows_changed"]) for n in LOADS],
        ),
        ("write-ahead log, MB/s", [n * stored["log_bytes"] / 1e6 for n in LOADS]),
        (
            f"stored in {RETENTION_DAYS} days, TB",
            [n * stored["stored_bytes"] * RETENTION_DAYS * day / 1e12 for n in LOADS],
        ),
        ("searches of Qdrant a second", searches),
        ("cores of Qdrant", [n * search_s / PLANNED_SHARE for n in searches]),
        ("corrections of a year, millions", [n / 1e6 for n in vectors]),
        ("memory for them, GB", [n * index_bytes / 1e9 for n in vectors]),
        ("API to engines, both ways, Mbit/s", network),
        ("% of turns labelled twice", [100 * labelled_twice(n, TURNS) for n in pods]),
    ]
    heads = ("turns a second", *(f"{n:,}" for n in LOADS))
    return markdown(heads, [(name, *map(_amount, values)) for name, values in rows])


def engines_table(measured: Measured) -> str:
    """Engines by model, and the memory that all open dialogues take."""
    rows: list[tuple[str, ...]] = []
    for engine in engines(measured):
        planned = [engines_for(n, engine) for n in LOADS]
        rows.append(
            (
                engine.name,
                engine.device,
                *(
                    f"{_amount(engine.rate(tokens) / PLANNED_SHARE)}"
                    for tokens in (engine.turn.computed, engine.turn.tokens)
                ),
                f"{_amount(planned[0].cache_bytes / 1e9)} GB",
                *(f"{each.count:,}{'' if each.holds_dialogues else ' *'}" for each in planned),
            )
        )
    heads = (
        *("model", "an engine is", "turns/s, cached", "whole", "cache for 1,000/s"),
        *(f"engines for {n:,}/s" for n in LOADS),
    )
    return markdown(heads, rows)


def tables() -> str:
    """Both tables, as the page has them."""
    measured = read_measured()
    return f"{engines_table(measured)}\n\n{parts_table(measured)}"


def page() -> Path:
    """The page with the tables."""
    return REPOSITORY / "docs" / "fleet.md"


if __name__ == "__main__":
    print(tables())
