"""The `instructerc` command without a server."""

import csv
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import jsonschema_rs
import psutil

from service.dialogue_format import dialogue_schema
from tests.e2e.conftest import REPOSITORY, environment

TRANSCRIPTS = REPOSITORY / "tests" / "transcripts" / "files"


def run(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=folder,
        env=environment(folder) | changes,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_score_labels_every_utterance_of_a_file(tmp_path: Path) -> None:
    """Dialogues come back in their order, their own fields untouched, an emotion for each turn."""
    dialogues = [
        {"id": "a", "utterances": [{"speaker": "Ann", "text": "We won, I am so happy! 🎉"}]},
        {"id": "b", "utterances": []},
        {
            "id": "c",
            "utterances": [
                {
                    "id": "c_u1",
                    "speaker": "0",
                    "text": "My cat died yesterday.",
                    "label": "sadness",
                },
                {"speaker": "1", "text": "I am so sorry, that is awful."},
            ],
        },
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(d) + "\n" for d in dialogues))

    done = run(tmp_path, "score", str(source), str(target), "--label-space", "meld")

    assert done.returncode == 0, done.stderr
    scored = [json.loads(line) for line in target.read_text().splitlines()]
    assert [d["id"] for d in scored] == ["a", "b", "c"]
    assert scored[0]["utterances"][0]["emotion"]["label"] == "joy"
    assert scored[2]["utterances"][0]["label"] == "sadness"
    assert scored[2]["utterances"][0]["id"] == "c_u1"
    assert [len(d["utterances"]) for d in scored] == [1, 0, 2]
    assert "3 utterances scored" in done.stdout
    assert all(jsonschema_rs.is_valid(dialogue_schema(), d) for d in scored)


def test_score_tells_of_a_broken_line_and_scores_the_others(tmp_path: Path) -> None:
    """Its result is in its place."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    turns = {"a": "Hi.", "b": " ", "c": "Bye."}
    source.write_text(
        "".join(
            json.dumps({"id": name, "utterances": [{"speaker": "Ann", "text": text}]}) + "\n"
            for name, text in turns.items()
        )
    )

    done = run(tmp_path, "score", str(source), str(target))

    told = f"{source}:2: utterances[0].text must not be blank"
    assert done.returncode == 1
    assert f"not scored: {told}" in done.stderr
    first, second, third = map(json.loads, target.read_text().splitlines())
    assert second == {"error": told}
    assert all("emotion" in each["utterances"][0] for each in (first, third))


def test_score_reads_a_table_and_writes_one(tmp_path: Path) -> None:
    """Times, roles and ids come back; a row that cannot be read costs no other."""
    source, target = tmp_path / "calls.csv", tmp_path / "scored.csv"
    source.write_text(
        "call,id,speaker,role,start,text\n"
        "c1,m1,Mia,agent,0.5,How can I help you?\n"
        "c1,m2,Jo,customer,soon,My roses died.\n"
        'c1,m3,Jo,customer,4,"They died, I am so sad!"\n'
        "c2,m1,Mia,agent,0,We won the prize!\n"
    )

    done = run(tmp_path, "score", str(source), str(target), "--label-space", "meld")

    assert done.returncode == 1
    assert f"not scored: {source}:3: column 'start': 'soon' is not a time" in done.stderr
    rows = [*csv.DictReader(target.read_text().splitlines())]
    kept = ("dialogue", "index", "id", "speaker", "role", "start", "text")
    assert [tuple(row[name] for name in kept) for row in rows] == [
        ("c1", "0", "m1", "Mia", "agent", "0.5", "How can I help you?"),
        ("c1", "1", "m3", "Jo", "customer", "4.0", "They died, I am so sad!"),
        ("c2", "0", "m1", "Mia", "agent", "0.0", "We won the prize!"),
    ]
    for row in rows:
        probabilities = {name[2:]: float(row[name]) for name in row if name.startswith("p_")}
        assert abs(sum(probabilities.values()) - 1) < 1e-6
        assert row["emotion"] == max(probabilities, key=lambda name: probabilities[name])


def test_score_reads_a_transcript_and_writes_subtitles(tmp_path: Path) -> None:
    """With the options of segments, from a format that is named, into one that the name tells."""
    source, target = TRANSCRIPTS / "webvtt" / "zoom.vtt", tmp_path / "zoom.vtt"
    options = ("--from", "webvtt", "--unknown-speaker", "previous", "--label-space", "meld")

    done = run(tmp_path, "score", str(source), str(target), *options)

    assert done.returncode == 0, done.stderr
    assert "2 utterances scored" in done.stdout
    assert re.fullmatch(
        r"WEBVTT\n\n1\n00:00:03\.170 --> 00:00:05\.420\n"
        r"<v Ida Moor><c\.[a-z]+>Did you see the numbers\?</c></v>\n"
        r"\n2\n00:00:05\.900 --> 00:00:09\.000\n"
        r"<v Jo Reed><c\.[a-z]+>I did: they are awful\. Really awful\.</c></v>\n",
        target.read_text(),
    )


def test_score_knows_before_it_loads_anything_what_subtitles_cannot_hold(tmp_path: Path) -> None:
    """And which column is missing."""
    faults = {
        ("csv/calls.csv", "out.vtt"): "WebVTT holds one dialogue, and 'c-2' is another; write",
        ("csv/calls.csv", "out.csv", "--text", "words"): "calls.csv:1: no column 'words'; there",
    }

    for (name, *rest), problem in faults.items():
        done = run(tmp_path, "score", str(TRANSCRIPTS / name), *rest)

        assert done.returncode == 2
        assert problem in done.stderr
        assert done.stdout == ""
        assert not (tmp_path / rest[0]).exists()


def test_score_encodes_the_shipped_demonstrations_once(tmp_path: Path) -> None:
    """What the first leaves behind serves the second; the service's index has no part in it."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "a", "utterances": [{"speaker": "Ann", "text": "We won!"}]}\n')

    first, second = (
        run(tmp_path, "score", str(source), str(tmp_path / f"{name}.jsonl")) for name in ("1", "2")
    )

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "indexing demonstrations: 432 of 432" in first.stdout
    assert "indexing demonstrations" not in second.stdout
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()
    assert not Path(environment(tmp_path)["ERC_DEMONSTRATIONS__FOLDER"]).exists()


def test_score_looks_at_what_it_reads_and_writes_before_it_loads_anything(tmp_path: Path) -> None:
    """Nobody waits for a model to be told of a file."""
    source, there = tmp_path / "in.jsonl", tmp_path / "there.jsonl"
    source.write_text('{"id": "a", "utterances": []}\n')
    there.write_text("mine")
    faults = {
        (str(tmp_path / "none.jsonl"), "out.jsonl"): "No such file",
        (str(source), "none/out.jsonl"): "there is no folder",
        (str(source), str(there)): "already exists",
        (str(source), str(source)): "is read by this command",
    }

    for arguments, told in faults.items():
        done = run(tmp_path, "score", *arguments)

        assert done.returncode == 2
        assert told in done.stderr
        assert done.stdout == ""


def test_the_engine_of_a_score_that_is_killed_ends_with_it(tmp_path: Path) -> None:
    """Its process is a copy of the command's, and would go on with its memory."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "a", "utterances": [{"speaker": "Ann", "text": "We won!"}]}\n')
    command = [sys.executable, "-m", "service.cli", "score", str(source), str(tmp_path / "out")]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("warming up" in line for line in process.stdout)
        below = psutil.Process(process.pid).children(recursive=True)
        process.kill()

    gone, alive = psutil.wait_procs(below, timeout=60)
    assert gone
    assert not alive


def test_score_reads_an_utterance_longer_than_the_model_reads_by_its_end(tmp_path: Path) -> None:
    """No other turn is concerned, and nothing is printed of its tokens."""
    texts = ["Hello there.", "and then I said " * 300, "Why would you say that?", "I am so sorry."]
    utterances = [{"speaker": "AB"[n % 2], "text": text} for n, text in enumerate(texts)]
    short = [{"speaker": "A", "text": "We won, I am so happy!"}]
    dialogues = [{"id": "long", "utterances": utterances}, {"id": "short", "utterances": short}]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(d) + "\n" for d in dialogues))

    done = run(tmp_path, "score", str(source), str(target))

    assert done.returncode == 0, done.stderr
    long, other = (json.loads(line)["utterances"] for line in target.read_text().splitlines())
    assert [each["truncated"] for each in (*long, *other)] == [False, True, *[False] * 3]
    assert all(each["emotion"]["label"] for each in (*long, *other))
    assert "read only their ends: 1\n" in done.stdout
    assert "Token indices" not in done.stdout + done.stderr


def test_openapi_prints_the_committed_document(tmp_path: Path) -> None:
    """Byte for byte, whatever the settings."""
    done = run(tmp_path, "openapi")

    assert done.returncode == 0, done.stderr
    committed = REPOSITORY / "service" / "api" / "openapi.json"
    assert done.stdout == committed.read_text("utf-8")


def test_a_bad_file_is_named_with_its_line(tmp_path: Path) -> None:
    """Where no line is a dialogue, before anything is loaded; nothing is written."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('\n{"id": "b", "utterances": [{}]}\n{}\n')

    done = run(tmp_path, "score", str(source), str(target))

    assert done.returncode == 2
    assert f"{source}:2: utterances[0].speaker is missing; utterances[0].text" in done.stderr
    assert not target.exists()


def test_migrate_makes_the_tables_and_can_be_repeated(tmp_path: Path) -> None:
    """What a job does before the processes start; the second time there is nothing to do."""
    first, second = run(tmp_path, "migrate"), run(tmp_path, "migrate")

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    with closing(sqlite3.connect(tmp_path / "erc.sqlite3")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema")}
    assert {"dialogues", "utterances", "jobs"} <= tables


def test_migrate_says_which_variable_is_wrong(tmp_path: Path) -> None:
    """And does not print it: it may hold a password."""
    done = run(tmp_path, "migrate", ERC_DATABASE__URL="mysql://user:hunter2@host/name")

    assert done.returncode == 2
    assert "ERC_DATABASE__URL: " in done.stderr
    assert "hunter2" not in done.stderr


def test_index_builds_the_index_that_a_start_finds(tmp_path: Path) -> None:
    """No model is needed for it; the second time nothing is encoded."""
    first, second = (run(tmp_path, "index", ERC_BUNDLE="nowhere") for _ in range(2))

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert re.search(r"demonstrations: \d+ indexed", first.stdout)
    assert re.search(r"demonstrations: \d+ ready", second.stdout)


def test_index_names_the_server_that_does_not_answer(tmp_path: Path) -> None:
    """So that a job's log says which address is wrong."""
    done = run(tmp_path, "index", ERC_QDRANT__URL="http://127.0.0.1:9")

    assert done.returncode == 2
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
