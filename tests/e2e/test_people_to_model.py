"""From labels that people give to the next model, each step as its user takes it."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from service.conversation.labels import load_label_spaces
from tests.e2e.conftest import REPOSITORY, Service
from tests.training.conftest import RECIPE
from tests.training.miniature import write_base

TALKS: Mapping[str, list[tuple[str, str, str | None]]] = {
    "parcel": [
        ("Ann", "Did the parcel arrive?", None),
        ("Bo", "It was empty.", "sadness"),
        ("Ann", "You must be joking!", "surprise"),
    ],
    "bus": [("Cy", "The bus leaves at nine.", "neutral"), ("Di", "All right.", None)],
    "lift": [("Ed", "The lift is out again.", None)],
}
EPOCHS = 2


def train(*arguments: Any) -> str:
    """What a command of training logs."""
    done = subprocess.run(
        [sys.executable, "-m", "training.cli", *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_what_people_correct_trains_a_model(service: Service, tmp_path: Path) -> None:
    """Posted, labelled, exported, checked, trained, merged: only people's labels are learnt."""
    ids = {name: f"{name}-{uuid4().hex}" for name in TALKS}
    for name, talk in TALKS.items():
        for index, (speaker, text, label) in enumerate(talk):
            service.say(ids[name], speaker, text)
            if label is not None:
                path = f"/dialogues/{ids[name]}/utterances/{index}/label"
                body = {"label": label, "label_space": "meld"}
                assert service.client.put(path, json=body).status_code == 200

    exported = service.client.get("/corrections", params={"label_space": "meld"})
    mine = [
        dialogue
        for dialogue in map(json.loads, exported.text.splitlines())
        if dialogue["id"] in ids.values()
    ]
    for dialogue_id in ids.values():
        assert service.client.delete(f"/dialogues/{dialogue_id}").status_code == 204

    assert {dialogue["id"] for dialogue in mine} == {ids["parcel"], ids["bus"]}
    corpus = tmp_path / "corrections.jsonl"
    corpus.write_text("".join(json.dumps(dialogue) + "\n" for dialogue in mine))
    base, spaces = tmp_path / "base", load_label_spaces(REPOSITORY / "data" / "label_spaces")
    write_base(base, "opt", spaces)
    stage = {**RECIPE["stages"][0], "unified": 0.0, "epochs": EPOCHS}
    stage["corpora"] = [{"format": "jsonl", "path": corpus.name, "label_space": "meld"}]
    recipe = tmp_path / "recipe.yaml"
    changed = {"label_spaces": ["meld"], "stages": [stage], "development": []}
    recipe.write_text(yaml.safe_dump(RECIPE | changed))

    assert "5 utterances" in train("data", "check", f"jsonl/meld:{corpus}")
    logged = train(
        *("train", recipe, "--data", tmp_path, "--base", base, "--out", tmp_path / "run")
    )
    train("merge", tmp_path / "run", "--base", base, "--out", tmp_path / "bundle")

    labelled = sum(label is not None for talk in TALKS.values() for *_, label in talk)
    (examples,) = re.findall(r"stage first: (\d+) examples", logged)
    assert int(examples) == EPOCHS * labelled
    assert (tmp_path / "bundle" / "bundle.json").is_file()


def test_a_transcript_is_scored_by_the_running_service(service: Service) -> None:
    """A table goes in, and a table comes out."""
    table = "speaker,text\nAnn,We won!\nBo,No way.\n"

    answer = service.client.post(
        "/transcripts",
        content=table,
        headers={"Content-Type": "text/csv", "Accept": "text/csv"},
        params={"label_space": "meld", "name": "call-42"},
    )

    assert answer.status_code == 200, answer.text
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(row["dialogue"], row["text"]) for row in rows] == [
        ("call-42", "We won!"),
        ("call-42", "No way."),
    ]
    assert rows[0]["emotion"] == "joy"
