"""Measurements as JSON: from a row's process to the run, and the results that are kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.floor import Floor
from tests.bench.measuring import Measurement, Percentiles
from tests.bench.targets import Verdict


def write_measurements(measurements: Sequence[Measurement], path: Path) -> None:
    """Write what a row found."""
    path.write_text(json.dumps([asdict(measurement) for measurement in measurements]))


def read_measurements(path: Path) -> list[Measurement]:
    """Read what `write_measurements` wrote."""
    return [
        Measurement(
            **row
            | {
                "latency_ms": Percentiles(**row["latency_ms"]),
                "stages_ms": {k: Percentiles(**v) for k, v in row["stages_ms"].items()},
            }
        )
        for row in json.loads(path.read_text())
    ]


def write_results(
    path: Path,
    described: dict[str, Any],
    measurements: Sequence[Measurement],
    floors: Sequence[Floor],
    verdicts: Sequence[Verdict],
) -> None:
    """Write the results of a run, with what they were measured on.

    Args:
        described: hardware, versions, commit and options.
    """
    rows = [
        asdict(m) | {"per_second": m.per_second, "computed_share": m.computed_share}
        for m in measurements
    ]
    judged = [asdict(verdict) | {"met": verdict.met} for verdict in verdicts]
    document = {"measurements": rows, "floors": [asdict(floor) for floor in floors]}
    whole = _rounded(described | document | {"targets": judged})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value
