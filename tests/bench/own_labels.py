"""Labels of one's own, against a vote of the nearest examples' sentence vectors.

    python -m tests.bench.own_labels --data DATA --url http://127.0.0.1:8000

asks a running service, without keys, in five labels of GoEmotions: eight comments of the
development split each are examples, and the other comments with one of these labels alone are the
trial. Several draws of the examples; the vote takes as many neighbours as are best.
"""

import argparse
import asyncio
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt

from service.demonstrations.encoder import load_encoder

# Those that the way to fit was chosen on, and others, which nothing was chosen on.
LABELS = {
    "chosen-on": {
        "caring": "The speaker cares about somebody and wishes them well.",
        "confusion": "The speaker does not understand something and is confused.",
        "curiosity": "The speaker wants to know more and asks about it.",
        "gratitude": "The speaker is thankful and says thank you.",
        "remorse": "The speaker is sorry and apologizes.",
    },
    "unseen": {
        "admiration": "The speaker admires somebody or something.",
        "amusement": "The speaker finds something funny.",
        "disapproval": "The speaker disagrees or disapproves.",
        "optimism": "The speaker hopes that things turn out well.",
        "sadness": "The speaker is sad about something.",
    },
}
EXAMPLES = 8
NEIGHBOURS = (1, 3, 5, 7)
_DIALOGUES = 100

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Draw:
    """What came of one draw of the examples; the vote's macro F1 by the number of neighbours."""

    macro_f1: float
    calibration_error: float
    votes: tuple[float, ...]


def macro_f1(predicted: Places, gold: Places) -> float:
    """Of 100, the mean of the labels' F1."""
    scores = []
    for label in range(int(gold.max()) + 1):
        hits = int(((predicted == label) & (gold == label)).sum())
        scores.append(2 * hits / max(1, int((predicted == label).sum() + (gold == label).sum())))
    return 100 * float(np.mean(scores))


def calibration_error(shares: npt.NDArray[np.float64], gold: Places) -> float:
    """Expected calibration error, ten bins of equal width."""
    right, sure = shares.argmax(1) == gold, shares.max(1)
    bins = np.minimum((sure * 10).astype(int), 9)
    return float(
        sum(
            abs(right[bins == each].mean() - sure[bins == each].mean()) * (bins == each).mean()
            for each in set(bins.tolist())
        )
    )


def read_comments(folder: Path, names: Sequence[str]) -> tuple[list[str], Places]:
    """The development comments that carry one of the labels and no other."""
    labels = (folder / "labels.txt").read_text().split()
    texts, gold = [], []
    with (folder / "dev.tsv").open(encoding="utf-8", newline="") as file:
        for text, numbers, _ in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if "," not in numbers and labels[int(numbers)] in names:
                texts.append(text)
                gold.append(names.index(labels[int(numbers)]))
    return texts, np.asarray(gold)


def trial(url: str, data: Path, draws: int, sentences: Mapping[str, str]) -> list[Draw]:
    """Ask the service, draw after draw; a draw that it refuses is printed and left out."""
    names = tuple(sentences)
    texts, gold = read_comments(data / "goemotions", names)
    encoder = load_encoder()
    vectors = encoder.encode_now(texts)
    asyncio.run(encoder.close())
    draws_scored = []
    with httpx.Client(base_url=url, timeout=300) as client:
        for seed in range(draws):
            rng = np.random.default_rng(seed)
            chosen = np.concatenate(
                [rng.permutation(np.flatnonzero(gold == n))[:EXAMPLES] for n in range(len(names))]
            )
            rest = np.setdiff1d(np.arange(len(texts)), chosen)
            examples = [
                {
                    "name": name,
                    "sentence": sentences[name],
                    "examples": [texts[n] for n in chosen if gold[n] == label],
                }
                for label, name in enumerate(names)
            ]
            made = client.put("/label-spaces/bench-own-labels", json={"labels": examples})
            if made.status_code != 200:
                print(f"draw {seed}: refused: {made.text}")
                continue
            shares = np.concatenate(
                [
                    _answers(client, names, [texts[n] for n in rest[start : start + _DIALOGUES]])
                    for start in range(0, len(rest), _DIALOGUES)
                ]
            )
            votes = tuple(
                macro_f1(vote(vectors[rest] @ vectors[chosen].T, gold[chosen], k), gold[rest])
                for k in NEIGHBOURS
            )
            draws_scored.append(
                Draw(
                    macro_f1(shares.argmax(1), gold[rest]),
                    calibration_error(shares, gold[rest]),
                    votes,
                )
            )
        client.delete("/label-spaces/bench-own-labels")
    return draws_scored


def vote(similarities: npt.NDArray[np.float32], gold: Places, k: int) -> Places:
    """The label of most of the k nearest, each counted by how near it is."""
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    rows = np.arange(len(similarities))
    counted = np.zeros((len(similarities), int(gold.max()) + 1))
    for place in range(k):
        counted[rows, gold[nearest[:, place]]] += similarities[rows, nearest[:, place]]
    votes: Places = counted.argmax(1)
    return votes


def _answers(
    client: httpx.Client, names: Sequence[str], texts: Sequence[str]
) -> npt.NDArray[np.float64]:
    dialogues = [
        {"id": str(n), "utterances": [{"speaker": "A", "text": text}]}
        for n, text in enumerate(texts)
    ]
    answer = client.post("/batch", json={"label_space": "bench-own-labels", "dialogues": dialogues})
    answer.raise_for_status()
    emotions = [each["utterances"][0]["emotion"] for each in answer.json()["results"]]
    return np.asarray([[each["probabilities"][name] for name in names] for each in emotions])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds goemotions/")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--labels", choices=LABELS, default="unseen")
    options = parser.parse_args()
    scores = trial(options.url, options.data, options.draws, LABELS[options.labels])
    ours = np.asarray([each.macro_f1 for each in scores])
    votes = np.asarray([each.votes for each in scores])
    errors = np.asarray([each.calibration_error for each in scores])
    best = int(votes.mean(0).argmax())
    print(f"draws: {len(scores)} of {options.draws}")
    print(f"macro F1: {ours.mean():.1f} (deviation {ours.std():.1f})")
    print(f"vote of {NEIGHBOURS[best]}: {votes[:, best].mean():.1f}")
    above = ours - votes[:, best]
    print(f"points above it: {above.mean():.1f}, least {above.min():.1f}")
    print(f"calibration error: {errors.mean():.3f}, most {errors.max():.3f}")


if __name__ == "__main__":
    main()
