"""`instructerc-train evaluate` with the real model behind it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.conversation.calibration import Isotonic, Temperature
from service.decoding.bundle import read_bundle, write_bundle
from tests.e2e.conftest import BUNDLE, environment
from training.evaluation.calibration import calibrated, fit_isotonic, fitted
from training.evaluation.evaluate import uncalibrated
from training.evaluation.metrics import measure
from training.evaluation.predictions import read_predictions

TALKS: dict[str, list[tuple[str, str, str | None]]] = {
    "match": [("Ann", "We won, I am so happy!", "joy"), ("Bo", "No way! Really?", "surprise")],
    "vet": [("Cy", "My cat died yesterday.", "sadness"), ("Di", "Oh.", None)],
    "queue": [("Ed", "How dare you!", "anger"), ("Flo", "I was here first.", "anger")],
    "bus": [("Gus", "The bus leaves at nine.", "neutral"), ("Hal", "All right.", "neutral")],
    "film": [("Ida", "That was great fun!", "joy"), ("Jo", "It starts at eight.", "neutral")],
    "lift": [("Kim", "Get out of my way!", "anger"), ("Lee", "I miss her so much.", "sadness")],
}


def test_bundle_is_asked_in_every_way_and_gets_its_calibration(tmp_path: Path) -> None:
    """What is recorded fits what was said, which the bundle's own temperature has not changed.

    No Qdrant server is asked, although one is set: its demonstrations are the service's.
    """
    bundle, talks = tmp_path / "bundle", tmp_path / "talks.jsonl"
    shutil.copytree(BUNDLE, bundle)
    warm = uncalibrated(read_bundle(bundle))
    meld = warm.label_spaces["meld"].calibrated(Temperature(2.0))
    spaces = {**warm.label_spaces, "meld": meld}
    write_bundle(warm.model_copy(update={"label_spaces": spaces}), bundle)
    with talks.open("w") as file:
        for name, spoken in TALKS.items():
            lines = [{"speaker": who, "text": text, "label": label} for who, text, label in spoken]
            file.write(json.dumps({"id": name, "utterances": lines}) + "\n")

    done = subprocess.run(
        [
            *(sys.executable, "-m", "training.cli", "evaluate", str(bundle)),
            *("--corpus", f"jsonl/meld:{talks}", "--predictions", "said.jsonl"),
            *("--calibration", "isotonic", "--record", str(bundle)),
            *("--label-orders", "1", "--free-decode"),
        ],
        cwd=tmp_path,
        env=environment(tmp_path) | {"ERC_QDRANT__URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert (scores["utterances"], scores["calibration"]) == (11, "isotonic")
    assert 0 <= scores["label_order_flip_rate"] < 0.5
    assert scores["invalid_rate"] < 0.2
    assert scores["free_decode_agreement"] > 0.8
    predictions = read_predictions(tmp_path / "said.jsonl")["meld"]
    assert predictions.reordered.shape == (11, 1, 7)
    assert measure(predictions).invalid_rate == pytest.approx(scores["invalid_rate"], abs=1e-4)
    recorded = read_bundle(bundle).label_spaces
    assert isinstance(recorded["meld"].calibration(), Isotonic)
    shares = np.array([recorded["meld"].trained[label] for label in predictions.labels])
    assert calibrated(predictions, recorded["meld"].calibration()).probabilities == pytest.approx(
        calibrated(predictions, fitted(predictions, fit_isotonic, shares)).probabilities
    )
    assert recorded["unified"].calibration() == Temperature(1.0)
