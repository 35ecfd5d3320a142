"""Measurements as text, one line each."""

from collections.abc import Callable, Iterable, Sequence

from tests.bench.floor import Floor
from tests.bench.measuring import Measurement
from tests.bench.targets import Verdict

_SHOWN = {None: "-", True: "on", False: "off"}

_COLUMNS: tuple[tuple[str, Callable[[Measurement], str]], ...] = (
    ("row", lambda m: m.row),
    ("load", lambda m: m.load),
    ("demos", lambda m: _SHOWN[m.demonstrations]),
    ("utt/s", lambda m: f"{m.per_second:.1f}"),
    ("p50 ms", lambda m: f"{m.latency_ms.p50:.1f}"),
    ("p95 ms", lambda m: f"{m.latency_ms.p95:.1f}"),
    ("p99 ms", lambda m: f"{m.latency_ms.p99:.1f}"),
    ("prompt", lambda m: f"{m.prompt_tokens / m.utterances:.0f}"),
    ("computed", lambda m: f"{m.computed_tokens / m.utterances:.0f}"),
    ("hits", lambda m: f"{max(0.0, 1 - m.computed_share):.0%}"),
    ("rejects", lambda m: f"{m.rejects}"),
    ("cpu ms", lambda m: f"{1000 * m.processor_s / m.utterances:.1f}"),
    ("client", lambda m: _or_dash(m.client_processor_s, 1000 / m.utterances, 2)),
    ("MiB", lambda m: _or_dash(m.peak_memory_mib, 1, 0)),
)

_LEGEND = """\
utt/s: utterances a second. ms: from asking to answering what is asked at once (a: a batch; b: all;
d: a batch). prompt, computed: tokens an utterance, and those no cache served. cpu ms: processor
time an utterance takes of what is measured; client: of the load client. MiB: peak memory."""


def table(measurements: Sequence[Measurement]) -> str:
    """The table, what its columns are, and what the rows are."""
    cells = [[name for name, _ in _COLUMNS]]
    cells += [[show(m) for _, show in _COLUMNS] for m in measurements]
    lines = _aligned(cells, left=3)
    rows = {m.row: m.what for m in measurements}
    notes = {m.row: m.note for m in measurements if m.note}
    lines += ["", _LEGEND, ""]
    lines += [
        f"{row}: {what}" + (f" ({notes[row]})" if row in notes else "")
        for row, what in rows.items()
    ]
    return "\n".join(lines)


def stages_table(measurements: Sequence[Measurement]) -> str:
    """What the service says of its stages, in milliseconds; empty where it says nothing."""
    cells = [
        [
            m.row,
            m.load,
            _SHOWN[m.demonstrations],
            stage,
            *(f"{value:.2f}" for value in (took.p50, took.p95, took.p99)),
        ]
        for m in measurements
        for stage, took in m.stages_ms.items()
    ]
    if not cells:
        return ""
    head = ["row", "load", "demos", "stage", "p50 ms", "p95 ms", "p99 ms"]
    return "\n".join(_aligned([head, *cells], left=4))


def floors_table(floors: Sequence[Floor]) -> str:
    """What row c makes of what this machine can do; empty where it was not measured."""
    if not floors:
        return ""
    cells = [["demos", "new tokens", "utt/s at the floor", "c reaches", "of the matrix rate"]]
    cells += [
        [
            _SHOWN[floor.demonstrations],
            f"{floor.tokens:.1f}",
            f"{floor.per_second:.0f}",
            f"{floor.engine_share:.0%}",
            f"{floor.rate_share:.0%}",
        ]
        for floor in floors
    ]
    rate, operations = floors[0].matrix_rate, floors[0].operations
    lines = _aligned(cells, left=1)
    lines += [
        "",
        f"floor: tokens that no cache can hold, {operations / 1e6:.1f} million operations each, at "
        f"{rate / 1e9:.0f} billion a second. matrix rate: of the tokens that c computes.",
    ]
    return "\n".join(lines)


def targets_table(verdicts: Sequence[Verdict]) -> str:
    """Each target, what was measured, and whether that is enough; empty where none is judged."""
    if not verdicts:
        return ""
    cells = [["target", "measured", "wanted", ""]]
    cells += [
        [
            verdict.name,
            f"{verdict.value:.2f}",
            f"{'>=' if verdict.at_least else '<='} {verdict.wanted:.2f}",
            "met" if verdict.met else "MISSED",
        ]
        for verdict in verdicts
    ]
    return "\n".join(_aligned(cells, left=1))


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def _aligned(cells: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of equally wide columns, the first `left` of them flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _or_dash(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}"
