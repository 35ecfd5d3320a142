"""Derived label spaces, wherever a label space is named."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Service

SHARES: dict[str, dict[str, float]] = {
    "positive": {"joy": 1, "surprise": 0.49},
    "neutral": {"neutral": 1},
    "negative": {"fear": 1, "sadness": 1, "disgust": 1, "anger": 1, "surprise": 0.51},
}
SAID = [{"speaker": "Ann", "text": "We won!"}, {"speaker": "Bo", "text": "Who did?"}]


def sums(probabilities: dict[str, float]) -> Any:
    summed = {
        name: sum(share * probabilities[each] for each, share in of.items())
        for name, of in SHARES.items()
    }
    return pytest.approx(summed, abs=1e-12)


async def test_a_turn_is_answered_with_sums_of_the_sources_probabilities(
    service: "Service",
) -> None:
    """The prompt is the source's, read once; of the answer, only the labels are others."""
    meld = (await service.say("a", "Ann", "We won!", label_space="meld")).json()
    before = len(service.engine.prompts)
    answer = await service.say("b", "Ann", "We won!", label_space="MELD-Sentiment")

    emotion = answer.json()["emotion"]
    assert answer.status_code == 201
    assert service.engine.prompts[before:] == [service.engine.prompts[0]]
    assert emotion["label_space"] == "meld-sentiment"
    assert emotion["probabilities"] == sums(meld["emotion"]["probabilities"])
    assert emotion["label"] == max(emotion["probabilities"], key=emotion["probabilities"].get)
    assert emotion["label_mass"] == meld["emotion"]["label_mass"]
    assert answer.json()["demonstrations"] == meld["demonstrations"]
    assert (await service.timeline("b"))["utterances"][0]["emotion"] == emotion


async def test_batches_lines_and_jobs_are_answered_so(service: "Service") -> None:
    dialogue = {"id": "a", "utterances": SAID}
    batch = {"label_space": "meld-sentiment", "dialogues": [dialogue]}
    meld = await service.client.post("/batch", json={**batch, "label_space": "meld"})
    wanted = [
        sums(each["emotion"]["probabilities"]) for each in meld.json()["results"][0]["utterances"]
    ]

    at_once = await service.client.post("/batch", json=batch)
    lines = await service.client.post(
        "/batch",
        params={"label_space": "meld-sentiment"},
        json=dialogue,
        headers={"content-type": "application/x-ndjson"},
    )
    job = await service.client.post("/batch", json=batch, headers={"prefer": "respond-async"})
    await service.work()
    later = await service.client.get(f"{job.headers['location']}/results")

    assert job.json()["label_space"] == "meld-sentiment"
    for scored in (at_once.json()["results"][0], lines.json(), later.json()):
        emotions = [each["emotion"] for each in scored["utterances"]]
        assert [each["probabilities"] for each in emotions] == wanted


async def test_forecasts_are_answered_so(service: "Service") -> None:
    await service.say("a", "Ann", "We won!")
    meld = await service.forecast("a", speaker="Ann", label_space="meld")
    forecast = await service.forecast("a", speaker="Ann", label_space="meld-sentiment")

    assert forecast.json()["emotion"]["probabilities"] == sums(
        meld.json()["emotion"]["probabilities"]
    )


async def test_demonstrations_shown_are_the_sources(service: "Service") -> None:
    """They carry its labels, and are listed under either name."""
    await service.add_demonstration(label_space="meld", label="joy", text="We won!", id="d")

    answer = await service.say("a", "Ann", "We won!", label_space="meld-sentiment")
    listed = await service.client.get("/demonstrations?label_space=meld-sentiment")

    assert [(each["id"], each["label"]) for each in answer.json()["demonstrations"]] == [
        ("d", "joy")
    ]
    assert [each["id"] for each in listed.json()["demonstrations"]] == ["d"]


async def test_demonstrations_in_one_are_refused(service: "Service") -> None:
    """A prompt shows labels of the source: which one is meant, a sum does not say."""
    given = {"label_space": "meld-sentiment", "label": "positive", "text": "We won!"}
    answer = await service.client.post("/demonstrations", json={"demonstrations": [given]})

    assert answer.status_code == 422
    assert "'meld-sentiment' is derived: name 'meld'" in answer.json()["detail"]


async def test_a_correction_in_one_is_kept_and_becomes_no_demonstration(
    service: "Service",
) -> None:
    """It takes the place of one in the source, whose demonstration goes."""
    await service.say("a", "Ann", "We won!", label_space="meld")
    url = "/dialogues/a/utterances/0/label"
    await service.client.put(url, json={"label": "joy", "label_space": "meld"})
    assert await service.store.count() == 1

    answer = await service.client.put(
        url, json={"label": "Positive", "label_space": "meld-sentiment"}
    )

    body = answer.json()
    assert (answer.status_code, body["label"], body["unified"]) == (200, "positive", None)
    assert (await service.timeline("a"))["utterances"][0]["correction"]["label"] == "positive"
    assert await service.store.count() == 0
    unknown = await service.client.put(url, json={"label": "joy", "label_space": "sentiment"})
    assert unknown.status_code == 422


async def test_agreement_is_not_counted_where_labels_cannot_be_compared(
    service: "Service",
) -> None:
    """A sum of several unified labels neither is joy nor is not."""
    await service.say("a", "Ann", "We won!", label_space="meld")
    url = "/dialogues/a/utterances/0/label"

    await service.client.put(url, json={"label": "positive", "label_space": "meld-sentiment"})
    across = (await service.client.get("/metrics")).text
    await service.say("b", "Ann", "We won!", label_space="meld-sentiment")
    await service.client.put(
        url.replace("/a/", "/b/"), json={"label": "neutral", "label_space": "meld-sentiment"}
    )
    within = (await service.client.get("/metrics")).text

    def counted(text: str) -> float:
        lines = [each for each in text.splitlines() if each.startswith("erc_corrections_total{")]
        return sum(float(line.split()[-1]) for line in lines)

    assert (counted(across), counted(within)) == (0, 1)


async def test_they_are_listed_with_what_they_sum(service: "Service") -> None:
    """One whose source the bundle was not trained on is not available, and asking says why."""
    body = (await service.client.get("/label-spaces")).json()
    spaces = {each["name"]: each for each in body["label_spaces"]}

    assert spaces["meld"]["derived_from"] is None
    assert spaces["meld-sentiment"]["derived_from"] == "meld"
    assert {each["name"]: each["of"] for each in spaces["meld-sentiment"]["labels"]} == SHARES
    assert (spaces["meld-sentiment"]["available"], spaces["iemocap-sentiment"]["available"]) == (
        True,
        False,
    )
    answer = await service.say("a", "Ann", "We won!", label_space="iemocap-sentiment")
    assert answer.status_code == 422
    assert "derived from 'iemocap', which bundle erc-test was not" in answer.json()["detail"]
