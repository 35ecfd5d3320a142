"""The programs of docs/plugs, run against the real service."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from instructerc import AsyncClient, Client, Retries
from tests.api.conftest import Service
from tests.api.serving import Served
from tests.client.generation import REPOSITORY


def loaded(name: str) -> ModuleType:
    """A plug, as a program that copies the file imports it."""
    path = REPOSITORY / "docs" / "plugs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"plug_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


voice = loaded("voice")
label_studio = loaded("label_studio")


class FrameProcessor:
    """As Pipecat's: frames come by `process_frame` and go by `push_frame`."""

    def __init__(self) -> None:
        self.pushed: list[tuple[Any, Any]] = []

    async def process_frame(self, frame: Any, direction: Any) -> None:
        """Pipecat begins and ends the processor here."""

    async def push_frame(self, frame: Any, direction: Any) -> None:
        self.pushed.append((frame, direction))


@dataclass
class Transcription:
    text: str
    user_id: str


@dataclass
class Interim:
    text: str
    user_id: str


@dataclass
class Transcribed:
    """As LiveKit's event."""

    transcript: str
    is_final: bool
    speaker_id: str | None = None


async def test_a_voice_loop_gets_emotions_behind_its_transcripts(
    served: Served, service: Service
) -> None:
    """Each frame passes at once; what is not final is not posted."""
    processor = FrameProcessor()
    async with AsyncClient(f"http://127.0.0.1:{served.port}") as client:
        stage = voice.EmotionStage(
            client,
            "call-42",
            processor.push_frame,
            transcripts=Transcription,
            label_space="meld",
        )
        frames: list[Any] = [
            Interim("We", "Ann"),
            Transcription("We won!", "Ann"),
            Transcription("Who did?", "Bo"),
            Transcription("  ", "Bo"),
        ]
        async with stage:
            for frame in frames:
                await stage.process_frame(frame, "downstream")
            passed = [frame for frame, _ in processor.pushed]

    assert [each for each in passed if not isinstance(each, voice.EmotionFrame)] == frames
    emotions = [each for each, _ in processor.pushed if isinstance(each, voice.EmotionFrame)]
    assert [each.utterance.text for each in emotions] == ["We won!", "Who did?"]
    assert {direction for _, direction in processor.pushed} == {"downstream"}
    stored = (await service.timeline("call-42"))["utterances"]
    assert [(each["speaker"], each["text"]) for each in stored] == [
        ("Ann", "We won!"),
        ("Bo", "Who did?"),
    ]
    assert {each["emotion"]["label_space"] for each in stored} == {"meld"}


async def test_a_session_of_livekit_hands_its_events_over(served: Served, service: Service) -> None:
    """Its handlers are plain functions."""
    processor = FrameProcessor()
    handlers: dict[str, Callable[[Any], None]] = {}
    async with AsyncClient(f"http://127.0.0.1:{served.port}") as client:
        stage = voice.EmotionStage(client, "call-43", processor.push_frame, transcripts=())
        async with stage:
            handlers["user_input_transcribed"] = stage.transcribed
            handlers["user_input_transcribed"](Transcribed("We", is_final=False))
            handlers["user_input_transcribed"](Transcribed("We won!", is_final=True))

    stored = (await service.timeline("call-43"))["utterances"]
    assert [(each["speaker"], each["text"]) for each in stored] == [("user", "We won!")]
    assert [type(frame) for frame, _ in processor.pushed] == [voice.EmotionFrame]


async def test_a_conversation_goes_on_without_the_service(
    served: Served, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says what is left out, without a word of the transcript."""
    processor = FrameProcessor()
    service.engine.goes_away()
    retries = Retries(attempts=1)
    async with (
        AsyncClient(f"http://127.0.0.1:{served.port}", retries=retries) as client,
        voice.EmotionStage(
            client, "call-44", processor.push_frame, transcripts=Transcription
        ) as stage,
    ):
        for n in range(100):
            await stage.process_frame(Transcription(f"Secret {n}.", "Ann"), None)

    assert len(processor.pushed) == 100
    assert "a transcript has no emotion: 503" in caplog.text
    assert "64 transcripts wait already" in caplog.text
    assert "Secret" not in caplog.text


def annotated(task: dict[str, Any], *labels: str, **more: Any) -> dict[str, Any]:
    """A task as Label Studio exports it, with an annotation for each label, the last one last."""
    annotations = [
        {
            "id": n,
            "created_at": f"2026-05-04T09:3{n}:00Z",
            "was_cancelled": False,
            "result": [
                {
                    "from_name": "emotion",
                    "to_name": "text",
                    "type": "choices",
                    "value": {"choices": [label]},
                }
            ],
        }
        | more
        for n, label in enumerate(labels)
    ]
    return {**task, "id": 1, "annotations": annotations}


async def test_label_studio_gets_tasks_and_gives_corrections(
    served: Served, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What people leave as predicted, skip or do not touch changes nothing."""
    for n in range(4):
        await service.say("call-42", "Ann", f"Line {n}.", label_space="meld")
    await service.say("call-42", "Ann", "Line 4.")
    options = ("--url", f"http://127.0.0.1:{served.port}", "--label-space", "meld")

    await asyncio.to_thread(label_studio.main, ["tasks", *options, "call-42"])
    tasks = json.loads(capsys.readouterr().out)
    await asyncio.to_thread(label_studio.main, ["interface", *options])
    interface = ElementTree.fromstring(capsys.readouterr().out)

    assert [task["data"]["index"] for task in tasks] == [0, 1, 2, 3]
    assert tasks[2]["data"] == {
        "dialogue_id": "call-42",
        "index": 2,
        "context": "Ann: Line 0.\nAnn: Line 1.",
        "text": "Ann: Line 2.",
    }
    (prediction,) = tasks[2]["predictions"]
    (region,) = prediction["result"]
    assert prediction["model_version"] == "erc-test 1"
    assert 0 < prediction["score"] <= 1
    choices = interface.find("Choices")
    assert choices is not None
    assert (choices.get("name"), choices.get("toName")) == (region["from_name"], region["to_name"])
    labels = [each.get("value") for each in choices]
    assert labels == list(service.services.label_spaces["meld"].names)
    assert region["value"]["choices"][0] in labels
    texts = {each.get("name"): each.get("value") for each in interface.findall("Text")}
    assert {str(value).removeprefix("$") for value in texts.values()} <= tasks[0]["data"].keys()

    predicted = region["value"]["choices"][0]
    exported = [
        annotated(tasks[0], "anger", "joy"),
        annotated(tasks[1], predicted),
        annotated(tasks[2], "fear", was_cancelled=True),
        tasks[3],
    ]
    file = tmp_path / "export.json"
    file.write_text(json.dumps(exported))
    for expected in (1, 0):  # a second import finds nothing to do
        await asyncio.to_thread(label_studio.main, ["corrections", *options, str(file)])
        assert capsys.readouterr().out == f"{file}: {expected} corrected\n"

    stored = (await service.timeline("call-42"))["utterances"]
    corrections = [each["correction"] and each["correction"]["label"] for each in stored]
    assert corrections == ["joy", None, None, None, None]


async def test_tasks_of_somebody_else_are_refused(served: Served) -> None:
    task = annotated({"data": {"text": "Hi."}}, "joy")

    with (
        Client(f"http://127.0.0.1:{served.port}") as client,
        pytest.raises(ValueError, match="task 1: its data names no utterance"),
    ):
        label_studio.correct(client, label_studio.annotations_of([task]), "meld")
