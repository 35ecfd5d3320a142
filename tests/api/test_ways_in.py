"""One rule for what somebody says and who says it, whichever way it comes in."""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.conversation.dialogue import LATEST, Dialogue, Utterance
from service.conversation.labels import LabelSpace
from service.demonstrations.corpus import DemonstrationFormatError, read_demonstrations
from service.dialogue_files import DialogueFormatError, read_dialogues, write_dialogues
from tests.api.batches.test_lines import HEADERS

if TYPE_CHECKING:
    from tests.api.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What is said, and whether it is taken as a text and as a speaker's name.
INPUTS = {
    "": (False, False),
    " ": (False, False),
    "\t\n\r\x0b\x0c": (False, False),
    "\x85": (False, False),
    "\u00a0\u2003\u2028\u3000": (False, False),
    "a\0b": (False, False),
    "a\x1bb": (False, False),
    "a\x7fb": (False, False),
    "a\ud800b": (False, False),
    "\udc00": (False, False),
    "a\tb": (True, True),
    "a\nb": (True, False),
    "a\r\nb": (True, False),
    "a\x85b": (True, False),
    "a\u2028b": (True, False),
    "a\ufeffb": (True, True),
    "\u202eabc": (True, True),
    "e\u0301\u0302\u0303": (True, True),
    " a ": (True, True),
    "\N{PARTY POPPER}": (True, True),
}
# When something is said, and whether that is taken as its start and as its end.
TIMES: dict[Any, bool] = {
    0: True,
    1.5: True,
    LATEST: True,
    LATEST + 1: False,
    -0.5: False,
    math.inf: False,
    math.nan: False,
    "1.5": False,
    True: False,
}
# Of requests alone, whose lengths are bounded.
TOO_LONG = "a" * 10_001

Way = Callable[["Service", Path, Mapping[str, Any]], Awaitable[bool]]


async def as_utterance(service: "Service", _: Path, turn: Mapping[str, Any]) -> bool:
    answer = await sent(service, "/dialogues/ways/utterances", turn)
    return bool(answer.status_code == 201)


async def as_batch(service: "Service", _: Path, turn: Mapping[str, Any]) -> bool:
    answer = await sent(service, "/batch", {"dialogues": [{"id": "a", "utterances": [turn]}]})
    return bool(answer.status_code == 200)


async def as_line(service: "Service", _: Path, turn: Mapping[str, Any]) -> bool:
    answer = await sent(service, "/batch", {"id": "a", "utterances": [turn]}, **HEADERS)
    return "error" not in answer.json()


async def as_job(service: "Service", _: Path, turn: Mapping[str, Any]) -> bool:
    later = HEADERS | {"Prefer": "respond-async"}
    job = await sent(service, "/batch", {"id": "a", "utterances": [turn]}, **later)
    await service.work()
    results = await service.client.get(job.json()["results"])
    await service.client.delete(job.headers["location"])
    return "error" not in results.json()


async def as_transcript(service: "Service", _: Path, turn: Mapping[str, Any]) -> bool:
    answer = await sent(service, "/transcripts", {"id": "a", "utterances": [turn]})
    return bool(answer.status_code == 200)


async def in_file(_: "Service", folder: Path, turn: Mapping[str, Any]) -> bool:
    """As `score`, `evaluate`, `train` and the others read it."""
    path = folder / "dialogues.jsonl"
    path.write_text(json.dumps({"id": "a", "utterances": [turn]}))
    try:
        return len(list(read_dialogues(path))) == 1
    except DialogueFormatError:
        return False


async def written(_: "Service", folder: Path, turn: Mapping[str, Any]) -> bool:
    """As `data convert` and `data describe` write it."""
    try:
        utterance = Utterance(**turn)
        write_dialogues([Dialogue("a", (utterance,))], folder / "dialogues.jsonl")
    except DialogueFormatError:
        return False
    return True


REQUESTS: tuple[Way, ...] = (as_utterance, as_batch, as_line, as_job, as_transcript)
FILES: tuple[Way, ...] = (in_file, written)


async def sent(service: "Service", path: str, body: Any, **headers: str) -> Any:
    content = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | headers
    return await service.client.post(path, content=content, headers=headers)


@pytest.mark.parametrize("way", [*REQUESTS, *FILES])
async def test_every_way_in_takes_the_same(
    standing_service: "Service", tmp_path: Path, way: Way
) -> None:
    """Text, description, speaker and role; lone surrogates are no JSON for some, and refused by
    all.
    """
    taken = {}
    for value in INPUTS:
        text = await way(standing_service, tmp_path, {"speaker": "Ann", "text": value})
        scene = {"speaker": "Ann", "text": "Hi.", "description": value}
        speaker = await way(standing_service, tmp_path, {"speaker": value, "text": "Hi."})
        role = {"speaker": "Ann", "text": "Hi.", "role": value}
        assert await way(standing_service, tmp_path, scene) == text
        assert await way(standing_service, tmp_path, role) == speaker
        taken[value] = (text, speaker)

    assert taken == INPUTS


@pytest.mark.parametrize("way", [*REQUESTS, *FILES])
async def test_every_way_in_takes_the_same_times(
    standing_service: "Service", tmp_path: Path, way: Way
) -> None:
    """Finite ones, none of them negative."""
    for name in ("start", "end"):
        for value, taken in TIMES.items():
            turn = {"speaker": "Ann", "text": "Hi.", name: value}
            assert await way(standing_service, tmp_path, turn) == taken, (name, value)


@pytest.mark.parametrize("way", [*REQUESTS, *FILES])
async def test_lengths_are_bounded_in_requests_alone(
    standing_service: "Service", tmp_path: Path, way: Way
) -> None:
    turn = {"speaker": "Ann", "text": TOO_LONG}

    assert await way(standing_service, tmp_path, turn) == (way in FILES)


async def test_demonstrations_are_taken_by_the_same_rule(
    standing_service: "Service", tmp_path: Path, label_spaces: Mapping[str, LabelSpace]
) -> None:
    """Posted, and in a file."""
    path = tmp_path / "demonstrations.jsonl"
    posted, in_file = {}, {}
    for value, (as_text, _) in INPUTS.items():
        one = {"label_space": "meld", "label": "joy", "text": value, "id": "d"}
        answer = await sent(standing_service, "/demonstrations", {"demonstrations": [one]})
        posted[value] = answer.status_code == 201
        path.write_text(json.dumps(one))
        try:
            in_file[value] = len(read_demonstrations(path, label_spaces)) == 1
        except DemonstrationFormatError:
            in_file[value] = False
        assert posted[value] == in_file[value] == as_text
