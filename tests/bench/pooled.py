"""`python -m tests.bench.pooled`: what a model gains by the votes of retrieved utterances.

A log-linear pool, p ~ p_model^a p_votes^b exp(bias of the label), with a, b and the biases fitted
on other dialogues than those it answers, beside the model alone with such a power and such biases.
With the training split as what is retrieved from, the votes are baselines' predictions
(`instructerc-train baselines`).
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from service.conversation.calibration import Temperature
from tests.bench.table import markdown
from training.arrays import Floats
from training.evaluation.bootstrap import mean_difference
from training.evaluation.calibration import fit_log_linear
from training.evaluation.metrics import own_measure
from training.evaluation.predictions import Predictions, read_predictions
from training.evaluation.seeds import model_and_seed

_PARTS = 5


def pooled(model: Predictions, votes: Predictions | None) -> Predictions:
    """The model's answers pooled with votes on the same utterances, or with none."""
    places = {(a.dialogue, a.index): place for place, a in enumerate(model.answers)}
    parts = [_logarithms(model)]
    if votes is not None:
        rows = np.empty_like(parts[0])
        for answer, row in zip(votes.answers, _logarithms(votes), strict=True):
            rows[places[answer.dialogue, answer.index]] = row
        parts.append(rows)
    probabilities = np.empty_like(parts[0])
    for fold in range(_PARTS):
        asked = model.dialogues % _PARTS == fold
        powers, biases = fit_log_linear([part[~asked] for part in parts], model.gold[~asked])
        scores = np.tensordot(powers, np.stack([part[asked] for part in parts]), 1) + biases
        probabilities[asked] = Temperature()(scores)
    return replace(
        model,
        answers=tuple(
            replace(answer, probabilities=tuple(row), reordered=())
            for answer, row in zip(model.answers, probabilities.tolist(), strict=True)
        ),
    )


def _logarithms(predictions: Predictions) -> Floats:
    logarithms: Floats = np.log(np.clip(predictions.probabilities, 1e-6, 1))
    return logarithms


def _log_loss(predictions: Predictions) -> float:
    rows = np.arange(len(predictions.gold)), predictions.gold
    return float(-np.log(np.clip(predictions.probabilities[rows], 1e-12, 1)).mean())


typer_app = typer.Typer(add_completion=False)


@typer_app.command()
def run(
    model: Annotated[Path, typer.Argument(help="The model's predictions.")],
    votes: Annotated[list[Path], typer.Argument(help="Votes; seeds as NAME@SEED.jsonl.")],
    out: Annotated[Path | None, typer.Option(help="File of the results.")] = None,
) -> None:
    """Print, for each kind of votes, the pool's lead over the model alone."""
    of_model = read_predictions(model)
    by_kind: dict[tuple[str, str], list[Predictions]] = {}
    for path in votes:
        for space, predictions in read_predictions(path).items():
            kind = model_and_seed(path.stem)[0]
            by_kind.setdefault((space, kind), []).append(predictions)
    rows, figures = [], []
    for (space, kind), of_seeds in sorted(by_kind.items()):
        alone = pooled(of_model[space], None)
        together = [pooled(of_model[space], one) for one in of_seeds]
        score = own_measure(space, alone.labels)
        lead = mean_difference(together, [alone], score)
        losses = [_log_loss(one) for one in together]
        figures.append(
            {
                **{"label_space": space, "votes": kind, "seeds": len(of_seeds)},
                "lead": asdict(lead),
                **{"log_loss_alone": _log_loss(alone), "log_loss": float(np.mean(losses))},
            }
        )
        spread = f"{100 * lead.low:.2f} to {100 * lead.high:.2f}"
        rows.append(
            [
                *(space, kind, str(len(of_seeds))),
                f"{100 * lead.value:+.2f} ({spread})",
                f"{np.mean(losses) - _log_loss(alone):+.4f}",
            ]
        )
    print(markdown(["label space", "votes", "seeds", "lead (95%)", "log loss"], rows))
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer_app()
