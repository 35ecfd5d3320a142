"""`python -m tests.bench.demonstrations`: how long the nearest take, by the number there are.

The embedded index is filled with vectors of the right kind, but made up: mixtures of those of the
shipped demonstrations. Utterances of corpora are a little harder to search: of 49,000, 0.998 of the
nearest four were found, where it is all of them here.
"""

import asyncio
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import numpy as np
import psutil
import qdrant_edge as qdrant
import typer

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import DIMENSIONS, IDENTITY, Vectors, load_encoder
from service.demonstrations.filters import examples
from service.demonstrations.index_parameters import EXACT_UP_TO
from service.demonstrations.qdrant_edge.index import qdrant_filter
from service.demonstrations.qdrant_edge.store import open_edge
from tests.bench.machine import REPOSITORY, describe
from tests.bench.measuring import Percentiles, percentiles_ms
from tests.bench.table import markdown

P = ParamSpec("P")
T = TypeVar("T")
Sized = dict[str, Any]  # what was measured of one size

K = 4  # demonstrations that a prompt shows, or more
SEARCHED, BESIDE = "meld", "iemocap"  # label spaces
PORTION = 20_000  # vectors made at a time
WARM_UP = 50
EXHAUSTIVE = 50  # queries by exhaustive search, for comparison


@dataclass(frozen=True, slots=True)
class Written:
    """Filling an index.

    Attributes:
        write_s: seconds for the rows.
        finish_s: seconds to finish the edition: the graphs, and what comes with them.
        graph_mib: memory of the process that builds the graphs, at most.
        disk_mib: room that the index takes up.
    """

    write_s: float
    finish_s: float
    graph_mib: float
    disk_mib: float


@dataclass(frozen=True, slots=True)
class Asked:
    """Searching an index.

    Attributes:
        open_s: seconds to open it, in a process of its own.
        memory_mib: memory by which the process has grown after all queries, files that are mapped
            into it included.
        search_ms: the library's search and what chooses it, on a thread that waits.
        nearest_ms: the store's `nearest`, awaited.
        exhaustive_ms: a search that looks at every vector.
        similarities: of each query's K nearest, best first.
    """

    open_s: float
    memory_mib: float
    search_ms: Percentiles
    nearest_ms: Percentiles
    exhaustive_ms: Percentiles
    similarities: list[list[float]]


@dataclass(frozen=True, slots=True)
class Found:
    """Share of the nearest one and the nearest K of exhaustive search that were found."""

    first: float
    all: float


def made_up(base: Vectors, n: int, seed: int) -> Vectors:
    """n vectors of length 1, each of three of the base's in a random proportion, and some noise."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((n, DIMENSIONS), np.float32)
    for _ in range(3):
        share = rng.exponential(size=(n, 1)).astype(np.float32)
        vectors += share * base[rng.integers(0, len(base), n)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors += 0.5 / DIMENSIONS**0.5 * rng.standard_normal((n, DIMENSIONS), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def portions(base: Vectors, size: int) -> Iterator[tuple[int, Vectors]]:
    """The vectors of an index of a size, always the same, with the number of each one's first."""
    for start in range(0, size, PORTION):
        yield start, made_up(base, min(PORTION, size - start), start)


def row(number: int) -> Demonstration:
    """Three in four are in the label space that is searched."""
    space = BESIDE if number % 4 == 3 else SEARCHED
    return Demonstration(f"row-{number}", space, "joy", f"Somebody says something, {number}.")


def write(folder: Path, base: Vectors, size: int, exact_up_to: int) -> Written:
    """Make an index."""

    async def run() -> tuple[float, float]:
        store = await open_edge(folder, IDENTITY, exact_up_to)
        written = 0.0
        for start, vectors in portions(base, size):
            demonstrations = [row(start + n) for n in range(len(vectors))]
            began = time.perf_counter()
            await store.add(demonstrations, vectors, "bench")
            written += time.perf_counter() - began
        began = time.perf_counter()
        await store.finish_edition("bench")
        finished = time.perf_counter() - began
        await store.close()
        return written, finished

    write_s, finish_s = asyncio.run(run())
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    disk = sum(512 * path.stat().st_blocks for path in folder.rglob("*"))
    return Written(write_s, finish_s, children, disk / 2**20)


def ask(folder: Path, queries: Vectors, exact_up_to: int) -> Asked:
    """Open an index and search it."""

    async def run() -> Asked:
        before = psutil.Process().memory_info().rss
        began = time.perf_counter()
        store = await open_edge(folder, IDENTITY, exact_up_to)
        opened = time.perf_counter() - began
        for query in queries[:WARM_UP]:
            await store.nearest(query, SEARCHED, K)
        nearest_s, similarities = [], []
        for query in queries:
            began = time.perf_counter()
            matches = await store.nearest(query, SEARCHED, K)
            nearest_s.append(time.perf_counter() - began)
            similarities.append([match.similarity for match in matches])
        # The library's own calls, without the store's hop to its thread and back.
        searches: list[list[float]] = [query.tolist() for query in queries]
        among = examples(SEARCHED, None)
        index = store._index
        search_s = [timed(index.nearest, query, SEARCHED, K, among) for query in searches]
        grown = psutil.Process().memory_info().rss - before
        requests = [
            qdrant.QueryRequest(
                limit=K,
                query=qdrant.Query.Nearest(query),
                filter=qdrant_filter(among),
                params=qdrant.SearchParams(exact=True),
                with_payload=True,
            )
            for query in searches[:EXHAUSTIVE]
        ]
        exhaustive_s = [timed(index._shard.query, request) for request in requests]
        await store.close()
        return Asked(
            opened,
            grown / 2**20,
            percentiles_ms(search_s),
            percentiles_ms(nearest_s),
            percentiles_ms(exhaustive_s),
            similarities,
        )

    return asyncio.run(run())


def timed(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call(*args, **kwargs)
    return time.perf_counter() - began


def exhaustive(base: Vectors, size: int, queries: Vectors) -> Vectors:
    """Cosines of each query's K nearest of the label space that is searched, best first."""
    best = np.full((len(queries), K), -1, np.float32)
    for start, vectors in portions(base, size):
        searched = [row(start + n).label_space == SEARCHED for n in range(len(vectors))]
        cosines = np.concatenate([best, queries @ vectors[searched].T], axis=1)
        best = -np.sort(-cosines, axis=1)[:, :K]
    return best


def found(similarities: list[list[float]], best: Vectors) -> Found:
    """How much of the best was found; what is as near as the last of it counts.

    Args:
        similarities: of each query, as many as there are of the best.
        best: shape (queries, as many), best first.
    """
    hits = np.array(similarities) >= best[:, -1:] - 1e-5
    first = np.array(similarities)[:, 0] >= best[:, 0] - 1e-5
    return Found(float(first.mean()), float(hits.mean()))


def apart(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a call in a process of its own, so that its memory is nobody else's."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(call, *args, **kwargs).result()


def shipped_vectors() -> Vectors:
    """The encoder's vectors of the shipped demonstrations."""
    lines = (REPOSITORY / "data" / "demonstrations.jsonl").read_text(encoding="utf-8").splitlines()
    return load_encoder().encode_now([json.loads(line)["text"] for line in lines])


def measure(base: Vectors, size: int, queries: int, folder: Path, exact_up_to: int) -> Sized:
    """Everything about one size."""
    vectors = made_up(base, queries, seed=2**32)
    with tempfile.TemporaryDirectory(dir=folder) as index:
        written = apart(write, Path(index), base, size, exact_up_to)
        answered = apart(ask, Path(index), vectors, exact_up_to)
    recall = found(answered.similarities, exhaustive(base, size, vectors))
    measured = asdict(answered)
    del measured["similarities"]
    searched = sum(row(number).label_space == SEARCHED for number in range(size))
    return {
        "demonstrations": size,
        "searched": searched,
        "graph": searched > exact_up_to,
        **asdict(written),
        **measured,
        "recall_at_1": recall.first,
        f"recall_at_{K}": recall.all,
    }


def table(measurements: list[Sized]) -> str:
    """One line a size, in Markdown."""
    heads = (
        *("demonstrations", "searched", "graph", "search ms p50/95/99", "nearest ms p50/95/99"),
        *("exhaustive ms p50", "recall@1", f"recall@{K}", "write s", "graphs s", "open s"),
        *("building MiB", "serving MiB", "disk MiB"),
    )
    rows = [
        (
            *(f"{m['demonstrations']:,}", f"{m['searched']:,}", "yes" if m["graph"] else "no"),
            *("/".join(f"{v:.2f}" for v in m[key].values()) for key in ("search_ms", "nearest_ms")),
            *(f"{m['exhaustive_ms']['p50']:.2f}", f"{m['recall_at_1']:.4f}"),
            *(f"{m[f'recall_at_{K}']:.4f}", f"{m['write_s']:.1f}", f"{m['finish_s']:.1f}"),
            *(f"{m['open_s']:.2f}", f"{m['graph_mib']:.0f}", f"{m['memory_mib']:.0f}"),
            f"{m['disk_mib']:.0f}",
        )
        for m in measurements
    ]
    return markdown(heads, rows)


def main(
    sizes: Annotated[str, typer.Option(help="Demonstrations, by commas.")] = "1000,10000,100000",
    queries: Annotated[int, typer.Option(help="Queries for each size.")] = 1000,
    exact_up_to: Annotated[
        int, typer.Option(help="Demonstrations up to which a label space has no graph.")
    ] = EXACT_UP_TO,
    folder: Annotated[Path | None, typer.Option(help="Where the indexes lie meanwhile.")] = None,
    out: Annotated[Path | None, typer.Option(help="File of the results, as JSON.")] = None,
) -> None:
    """Fill an embedded index with so many demonstrations, and search it."""
    base = shipped_vectors()
    described = describe()
    measurements = []
    for size in (int(word) for word in sizes.split(",")):
        print(f"{size:,} demonstrations", file=sys.stderr, flush=True)
        place = folder or Path(tempfile.gettempdir())
        measurements.append(measure(base, size, queries, place, exact_up_to))
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(described | {"sizes": measurements}, indent=1) + "\n")
    print(table(measurements))


if __name__ == "__main__":
    typer.run(main)
