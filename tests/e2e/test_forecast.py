"""Forecasts over HTTP, answered by the real model."""

import json
import shutil
import uuid
from collections.abc import Iterator

import pytest

from service.decoding.bundle import FILE
from tests.e2e.conftest import BUNDLE, Service, environment


@pytest.fixture(scope="module")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose bundle was trained on the main task alone, as it says."""
    folder = tmp_path_factory.mktemp("untaught")
    bundle = shutil.copytree(BUNDLE, folder / "bundle")
    described = json.loads((bundle / FILE).read_text()) | {"tasks": ["main"]}
    (bundle / FILE).write_text(json.dumps(described))
    running = Service(folder, environment(folder) | {"ERC_BUNDLE": str(bundle)})
    running.start()
    yield running
    running.stop()


@pytest.fixture
def dialogue() -> str:
    return f"call-{uuid.uuid4()}"


def test_a_forecast_is_a_distribution_and_leaves_the_dialogue_as_it_was(
    service: Service, dialogue: str
) -> None:
    """For somebody who spoke and for somebody new; asked twice, the same."""
    posted = service.say(dialogue, "Ann", "We won! We actually won, I am so happy!")
    path = f"/dialogues/{dialogue}/forecast"

    for speaker in ("Ann", "Bob"):
        query = {"speaker": speaker, "label_space": "meld"}
        answer, again = (service.client.get(path, params=query) for _ in range(2))
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["dialogue_id"], body["index"], body["speaker"]) == (dialogue, 1, speaker)
        assert body["emotion"].keys() == posted["emotion"].keys()
        probabilities = body["emotion"]["probabilities"]
        assert list(probabilities) == list(posted["emotion"]["probabilities"])
        assert sum(probabilities.values()) == pytest.approx(1)
        assert 0 < body["emotion"]["label_mass"] <= 1
        # A prompt that comes from the cache is computed in other steps, which round differently.
        assert again.json()["emotion"]["probabilities"] == pytest.approx(probabilities, abs=0.02)
        assert (body["model"], body["degraded"]) == (posted["model"], [])

    timeline = service.client.get(f"/dialogues/{dialogue}").json()
    assert [utterance["text"] for utterance in timeline["utterances"]] == [posted["text"]]


def test_a_forecast_finds_the_turns_before_it_in_the_prefix_cache(
    service: Service, dialogue: str
) -> None:
    """Most of a prompt is what the last turn's prompt began with."""

    def counter(name: str) -> float:
        page = service.client.get("/metrics").text
        return float(
            next(line.split()[1] for line in page.splitlines() if line.startswith(f"{name} "))
        )

    for n in range(12):
        service.say(dialogue, f"S{n % 2}", f"This is my remark number {n} on this matter.")
    prompt, cached = counter("erc_prompt_tokens_total"), counter("erc_cached_tokens_total")

    answer = service.client.get(
        f"/dialogues/{dialogue}/forecast", params={"speaker": "S0", "label_space": "meld"}
    )

    assert answer.status_code == 200, answer.text
    gained = counter("erc_cached_tokens_total") - cached
    assert gained > 0.5 * (counter("erc_prompt_tokens_total") - prompt)


def test_model_that_never_forecast_refuses_to(untaught: Service, dialogue: str) -> None:
    """It was trained on utterances that were spoken; the answer names it."""
    untaught.say(dialogue, "Ann", "We won!")

    answer = untaught.client.get(f"/dialogues/{dialogue}/forecast", params={"speaker": "Ann"})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/forecast-not-supported"
    assert "bundle erc-mini was not trained to forecast" in answer.json()["detail"]
