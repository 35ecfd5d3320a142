"""Several models' predictions of the same utterances, measured side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from training.evaluation.bootstrap import difference, interval
from training.evaluation.metrics import TITLES, compared_by, measure, own_measure
from training.evaluation.predictions import Predictions

Named = tuple[str, Mapping[str, Predictions]]  # a model, and its predictions by label space


def compared(models: Sequence[Named]) -> dict[str, Any]:
    """Every measure of every model, and the first model's lead over each other one.

    Returns:
        By label space: `compared_by`, which measure counts in it; `models`, with all measures and
        that one's interval by name, and `leads` of the first model by the other's name. Shares are
        from 0 to 1.

    Raises:
        NotTheSameUtterances: the models were asked about different utterances.
    """
    (first, ours), *others = models
    by_space: dict[str, Any] = {}
    for space, predictions in ours.items():
        own, counts = compared_by(space), own_measure(space, predictions.labels)
        in_space = [(name, theirs[space]) for name, theirs in models if space in theirs]
        by_space[space] = {
            "compared_by": own,
            "models": {
                name: measure(theirs).to_json()
                | {f"{own}_interval": asdict(interval(theirs, counts))}
                for name, theirs in in_space
            },
            "first": first,
            "leads": {
                name: asdict(difference(predictions, theirs[space], counts))
                for name, theirs in others
                if space in theirs
            },
        }
    return by_space


def markdown_tables(by_space: Mapping[str, Any]) -> str:
    """A table for each label space of what `compared` returns, in percent."""
    parts = []
    for space, one in by_space.items():
        own = one["compared_by"]
        lines = [
            f"{space}, {next(iter(one['models'].values()))['utterances']:,} utterances",
            "",
            f"| model | {TITLES[own]} | 95% | macro F1 | accuracy | Brier | calibration error |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, m in one["models"].items():
            span = m[f"{own}_interval"]
            lines.append(
                f"| {name} | {100 * m[own]:.2f} | {100 * span['low']:.1f} to "
                f"{100 * span['high']:.1f} | {100 * m['macro_f1']:.2f} | {100 * m['accuracy']:.2f} "
                f"| {m['brier']:.3f} | {m['calibration_error']:.3f} |"
            )
        for name, lead in one["leads"].items():
            lines += [
                "",
                f"{one['first']} leads {name} by {100 * lead['value']:.2f} "
                f"({100 * lead['low']:.2f} to {100 * lead['high']:.2f}, by chance "
                f"{lead['by_chance']:.3f}).",
            ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
