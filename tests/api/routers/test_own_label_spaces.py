"""Label spaces of a tenant's own, from a few examples, and sums that a tenant makes."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.conversation.few_shot import OwnLabelSpace
from service.dialogues.own_label_spaces import OwnLabelSpaces
from service.priority import Priority
from service.sessions.label_spaces import StoredLabelSpaces
from tests.api.middleware.test_admission import Held
from tests.clock import until

if TYPE_CHECKING:
    from tests.api.conftest import Service

THANKS = ["Thank you so much!", "Thanks, that helped a lot.", "I'm very grateful for your help."]
LOST = ["I don't understand this.", "What do you mean by that?", "I'm confused, which form is it?"]
LABELS = [
    {"name": "thanks", "sentence": "The caller says thank you.", "examples": THANKS},
    {"name": "lost", "sentence": "The caller does not understand.", "examples": LOST},
]
BODY = {"title": "Callers", "labels": LABELS}
SUMS = {
    "derived_from": "meld",
    "labels": [
        {"name": "fine", "of": ["neutral", "joy"]},
        {"name": "upset", "of": {"anger": 1, "disgust": 1, "sadness": 1, "fear": 1, "surprise": 1}},
    ],
}


async def put(service: "Service", body: Any = BODY, name: str = "callers") -> Any:
    return await service.client.put(f"/label-spaces/{name}", json=body)


def another_process(service: "Service") -> OwnLabelSpaces:
    """What another replica on the same database has of them."""
    own = service.services.own_label_spaces
    return OwnLabelSpaces(
        own.recognizer, own.encoder, StoredLabelSpaces(service.database), own.shipped, own.places
    )


async def test_answers_come_from_examples_at_once(service: "Service") -> None:
    """They say that no model was trained on the labels; probabilities sum to 1."""
    made = await put(service)
    thanks = (await service.say("a", "Ann", "Thank you, really!", label_space="Callers")).json()
    lost = (await service.say("a", "Bo", "I do not understand.", label_space="callers")).json()

    assert made.status_code == 200
    assert made.json() | {"left_out": None} == {
        "name": "callers",
        "title": "Callers",
        "derived_from": None,
        "trained": False,
        "left_out": None,
    }
    assert sum(each["recognized"] for each in made.json()["left_out"]["labels"]) >= 5
    emotion = thanks["emotion"]
    assert (emotion["label_space"], emotion["trained"], emotion["label"], emotion["unified"]) == (
        "callers",
        False,
        "thanks",
        None,
    )
    assert lost["emotion"]["label"] == "lost"
    assert sum(emotion["probabilities"].values()) == pytest.approx(1)
    assert [each["emotion"] for each in (await service.timeline("a"))["utterances"]] == [
        emotion,
        lost["emotion"],
    ]


async def test_an_answer_costs_one_reading(service: "Service") -> None:
    await put(service)
    before = len(service.engine.prompts)

    await service.say("a", "Ann", "Thank you!", label_space="callers")

    assert len(service.engine.prompts) == before + 1


async def test_batches_and_jobs_are_answered_in_them(service: "Service") -> None:
    await put(service)
    batch = {
        "label_space": "callers",
        "dialogues": [{"id": "a", "utterances": [{"speaker": "Ann", "text": "Thank you!"}]}],
    }

    at_once = (await service.client.post("/batch", json=batch)).json()["results"][0]
    job = await service.client.post("/batch", json=batch, headers={"prefer": "respond-async"})
    await service.work()
    later = (await service.client.get(f"{job.headers['location']}/results")).json()

    for emotion in (at_once, later):
        assert emotion["utterances"][0]["emotion"]["label"] == "thanks"


async def test_a_job_in_one_that_is_gone_gets_errors(service: "Service") -> None:
    await put(service)
    batch = {
        "label_space": "callers",
        "dialogues": [{"id": "a", "utterances": [{"speaker": "Ann", "text": "Thank you!"}]}],
    }
    job = await service.client.post("/batch", json=batch, headers={"prefer": "respond-async"})

    await service.client.delete("/label-spaces/callers")
    await service.work()

    row = (await service.client.get(f"{job.headers['location']}/results")).json()
    assert row["error"]["type"] == "/problems/unsupported-label-space"


async def test_every_process_answers_alike_and_at_once(service: "Service") -> None:
    """What is put is there, what is put anew is anew, what is deleted is gone."""
    other = another_process(service)
    assert await other.find("default", "callers") is None
    await put(service)
    [name] = {key[0] for key in service.services.own_label_spaces._cache}

    mine = await service.services.own_label_spaces.find(name, "callers")
    theirs = await other.find(name, "callers")
    assert isinstance(mine, OwnLabelSpace)
    assert isinstance(theirs, OwnLabelSpace)
    assert (mine.classifier.weights == theirs.classifier.weights).all()
    assert (mine.labels, mine.classifier.scale) == (theirs.labels, theirs.classifier.scale)

    await put(service, BODY | {"title": "Others"})
    changed = await other.find(name, "callers")
    assert changed is not None
    assert changed.title == "Others"
    await service.client.delete("/label-spaces/callers")
    assert await other.find(name, "callers") is None


async def test_another_model_learns_from_the_same_examples(service: "Service") -> None:
    """What was made with another bundle is made again when it is first asked for."""
    await put(service)
    [(tenant, _)] = service.services.own_label_spaces._cache
    before = len(service.engine.prompts)
    other = another_process(service)
    newer = service.services.answerer.bundle.model_copy(update={"version": "2"})
    other.recognizer.bundle, kept = newer, other.recognizer.bundle

    try:
        space = await other.find(tenant, "callers")
        stored = await StoredLabelSpaces(service.database).find(tenant, "callers")
    finally:
        other.recognizer.bundle = kept

    assert space is not None
    assert len(service.engine.prompts) == before + 6
    assert stored is not None
    assert stored.fitted_for is not None
    assert stored.fitted_for.startswith("erc-test 2 ")


async def test_what_was_put_is_known_while_no_model_answers(service: "Service") -> None:
    """To be listed, read and corrected in, it need not be learnt by another model first."""
    await put(service)
    await service.say("a", "Ann", "Hi.")
    own = service.services.own_label_spaces
    own._cache.clear()
    newer = own.recognizer.bundle.model_copy(update={"version": "2"})
    own.recognizer.bundle, kept = newer, own.recognizer.bundle
    service.engine.goes_away()

    try:
        listed = await service.client.get("/label-spaces")
        read = await service.client.get("/label-spaces/callers")
        response = await service.client.put(
            "/dialogues/a/utterances/0/label", json={"label": "lost", "label_space": "callers"}
        )
    finally:
        own.recognizer.bundle = kept

    assert [each.status_code for each in (listed, read, response)] == [200, 200, 200]
    assert read.json()["labels"][0]["examples"] == THANKS


async def test_a_process_keeps_no_text_of_it(service: "Service") -> None:
    """Another process may erase it, of which this one is not told."""
    await put(service)
    other = another_process(service)
    [(tenant, _)] = service.services.own_label_spaces._cache
    await other.find(tenant, "callers")

    for own in (other, service.services.own_label_spaces):
        [kept] = own._cache.values()
        assert "grateful" not in repr(kept)
        assert "thank you" not in repr(kept)


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "a b", ""])
async def test_a_name_that_nobody_can_have_put_is_not_looked_up(
    name: str, service: "Service"
) -> None:
    """A database may take it for a fault of its own."""
    other = another_process(service)
    await service.database.close()

    assert await other.find("default", name) is None
    assert await other.described("default", name) is None


async def test_it_is_listed_and_read_with_its_examples(service: "Service") -> None:
    """The list has no examples: it is read by whoever chooses."""
    await put(service)

    read = (await service.client.get("/label-spaces/Callers")).json()
    listed = (await service.client.get("/label-spaces")).json()["label_spaces"][-1]

    assert [each["examples"] for each in read["labels"]] == [THANKS, LOST]
    assert [each["sentence"] for each in listed["labels"]] == [each["sentence"] for each in LABELS]
    assert listed["labels"][0]["examples"] is None
    assert (listed["name"], listed["trained"], listed["available"]) == ("callers", False, True)
    assert (await service.client.get("/label-spaces/meld")).json()["trained"] is True


async def test_other_tenants_learn_nothing_of_it(service: "Service") -> None:
    """They may have one of the same name, with other labels."""
    service.speak_for("acme")
    await put(service)
    service.speak_for("other")

    assert (await service.client.get("/label-spaces/callers")).status_code == 404
    assert (await service.client.delete("/label-spaces/callers")).status_code == 404
    assert (await service.say("a", "Ann", "Hi.", label_space="callers")).status_code == 422
    names = [
        each["name"] for each in (await service.client.get("/label-spaces")).json()["label_spaces"]
    ]
    assert "callers" not in names

    assert (await put(service, SUMS)).status_code == 200
    service.speak_for("acme")
    assert (await service.client.get("/label-spaces/callers")).json()["trained"] is False


async def test_examples_that_do_not_tell_labels_apart_are_refused(service: "Service") -> None:
    """The detail names the labels and what is missing; nothing is kept."""
    mixed = [
        {**LABELS[0], "examples": [THANKS[0], LOST[0], THANKS[1], LOST[1]]},
        {**LABELS[1], "examples": [LOST[2], THANKS[2], "Thanks a lot!", "I do not get it."]},
    ]

    answer = await put(service, {"labels": mixed})

    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/labels-not-apart"
    assert "'thanks' and 'lost'" in answer.json()["detail"]
    assert "give more" in answer.json()["detail"]
    assert (await service.client.get("/label-spaces/callers")).status_code == 404


def changed(**label: Any) -> Any:
    return {"labels": [{**LABELS[0], **label}, LABELS[1]]}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (changed(examples=THANKS[:2]), "labels.0.examples"),
        (changed(examples=None), "is required, unless there is `derived_from`"),
        (changed(sentence=None), "is required, unless there is `derived_from`"),
        (changed(of=["joy"]), "is only for label spaces with `derived_from`"),
        (changed(name="lost"), "another label has this name"),
        (changed(name="Thanks"), "must be in lower case"),
        (changed(name=" "), "labels.0.name"),
        (changed(name="thanks "), "labels.0.name.*without surrounding spaces"),
        (changed(name="cafe\u0301"), "labels.0.name.*NFC"),
        (changed(examples=[*THANKS[:2], "  thank you SO much! "]), "is the same as one of"),
        (changed(examples=[*THANKS, LOST[0].upper()]), "is the same as one of 'thanks'"),
        (changed(examples=[*THANKS, "a" * 2001]), "2000"),
        (changed(examples=[f"Thanks {n}" for n in range(51)]), "50"),
        ({"labels": LABELS[:1]}, "2"),
        ({"labels": [{**LABELS[0], "name": f"l{n}"} for n in range(21)]}, "20"),
        (
            {"labels": LABELS, "derived_from": "meld"},
            "labels.0.of.*is required with `derived_from`",
        ),
        (SUMS | {"derived_from": "iemocap"}, "not trained on 'iemocap'"),
        (SUMS | {"derived_from": "sentiment"}, "sentiment"),
        (
            SUMS | {"labels": [SUMS["labels"][0], {"name": "b", "of": ["anger"]}]},
            "must add up to 1",
        ),
        (SUMS | {"labels": [SUMS["labels"][0], {"name": "b", "of": ["a" * 101]}]}, "100"),
        (SUMS | {"labels": [SUMS["labels"][0], {"name": "b", "of": {"anger": "1"}}]}, "number"),
        ({"labels": LABELS, "colour": "blue"}, "colour"),
    ],
)
async def test_what_contradicts_itself_is_refused(
    body: Any, detail: str, service: "Service"
) -> None:
    """The answer says where and why; nothing is kept, and no utterance is read."""
    import re

    answer = await put(service, body)

    assert answer.status_code == 422, answer.text
    assert re.search(detail, answer.text), answer.text
    assert service.engine.prompts == []


@pytest.mark.parametrize("name", ["Callers", "a b", "-a", "a" * 65, "ä", "a.b"])
async def test_names_are_small_letters_digits_and_dashes(name: str, service: "Service") -> None:
    assert (await put(service, name=name)).status_code == 422


@pytest.mark.parametrize("name", ["meld", "sentiment", "iemocap"])
async def test_shipped_ones_may_not_be_changed(name: str, service: "Service") -> None:
    for answer in (
        await put(service, name=name),
        await put(service, SUMS, name=name),
        await service.client.delete(f"/label-spaces/{name}"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (
            409,
            "/problems/label-space-shipped",
        )


async def test_sums_of_ones_own_are_exact(service: "Service") -> None:
    """As those that ship: trained, read once, with the source's demonstrations."""
    made = await put(service, SUMS)
    meld = (await service.say("a", "Ann", "We won!", label_space="meld")).json()["emotion"]
    emotion = (await service.say("b", "Ann", "We won!", label_space="callers")).json()["emotion"]

    assert made.json()["trained"] is True
    assert made.json()["left_out"] is None
    shares = meld["probabilities"]
    assert emotion["probabilities"]["fine"] == pytest.approx(shares["neutral"] + shares["joy"])
    assert "trained" not in emotion
    listed = (await service.client.get("/label-spaces")).json()["label_spaces"][-1]
    assert listed["derived_from"] == "meld"


async def test_a_deleted_one_leaves_no_text_but_stored_answers(
    service: "Service", tmp_path: Path
) -> None:
    """Examples go from the database's files; utterances answered in it stay as they are."""
    await put(service)
    await service.say("a", "Ann", "Thank you!", label_space="callers")
    before = await service.timeline("a")

    gone = await service.client.delete("/label-spaces/callers")

    assert gone.status_code == 204
    assert (await service.client.delete("/label-spaces/callers")).status_code == 404
    assert (await service.say("a", "Ann", "Hi.", label_space="callers")).status_code == 422
    assert await service.timeline("a") == before
    for file in sorted(tmp_path.glob("erc.sqlite3*")):  # noqa: ASYNC240
        assert b"grateful" not in file.read_bytes()


async def test_a_name_that_there_is_not_is_refused_with_those_there_are(
    service: "Service",
) -> None:
    """The tenant's own among them; nobody else's."""
    await put(service)

    refused = await service.say("a", "Ann", "Thank you!", label_space="caller")

    assert refused.status_code == 422
    assert refused.json()["detail"].endswith("sentiment, callers")


async def test_forecasts_are_refused(service: "Service") -> None:
    """Of what is not said there is nothing to compare with examples."""
    await put(service)
    await service.say("a", "Ann", "Hi.")

    answer = await service.forecast("a", speaker="Ann", label_space="callers")

    assert answer.status_code == 422
    assert "forecasts do not support it" in answer.json()["detail"]


async def test_corrections_in_one_are_kept(service: "Service") -> None:
    """They become no demonstration."""
    await put(service)
    await service.say("a", "Ann", "Hi.", label_space="callers")

    response = await service.client.put(
        "/dialogues/a/utterances/0/label", json={"label": "lost", "label_space": "callers"}
    )

    assert (response.status_code, response.json()["unified"]) == (200, None)
    assert await service.store.count() == 0
    assert (await service.timeline("a"))["utterances"][0]["correction"]["label"] == "lost"


async def test_corrections_in_other_labels_have_no_part_in_it(service: "Service") -> None:
    """Neither in what is learnt from the examples, nor in an answer, nor in its prompt."""
    learnt = (await put(service)).json()["left_out"]
    answer = (await service.say("a", "Ann", THANKS[1], label_space="callers")).json()
    prompt = service.engine.prompts[-1]
    await service.say("b", "Ann", THANKS[1], label_space="unified")
    response = await service.client.put(
        "/dialogues/b/utterances/0/label", json={"label": "mad", "label_space": "unified"}
    )
    assert response.status_code == 200
    [(tenant, _)] = service.services.own_label_spaces._cache
    assert await service.store.count_corrections("unified", tenant) == 1

    again = (await service.say("c", "Ann", THANKS[1], label_space="callers")).json()

    assert service.engine.prompts[-1] == prompt
    for part in ("emotion", "demonstrations", "model_alone", "degraded"):
        assert again[part] == answer[part]
    assert (await put(service)).json()["left_out"] == learnt


async def test_a_timeline_is_read_after_its_name_has_been_taken_by_another(
    service: "Service",
) -> None:
    """A correction in a label that the shipped one of this name does not have maps to nothing."""
    await service.say("a", "Ann", "Hi.")
    await service.sessions.corrections.put("default", "a", 0, "meld", "bliss")

    [utterance] = (await service.timeline("a"))["utterances"]

    assert (utterance["correction"]["label"], utterance["correction"]["unified"]) == ("bliss", None)


async def test_putting_one_has_the_time_of_a_batch(service: "Service") -> None:
    """Up to 300 examples are read before it is answered."""
    held = Held(service)

    async with asyncio.TaskGroup() as group:
        answer = group.create_task(put(service))
        await until(lambda: held.reading > 0)
        assert service.door.under_way(Priority.BATCH) == 1
        assert service.door.under_way(Priority.INTERACTIVE) == 0
        held.let_go.set()

    assert answer.result().status_code == 200


async def test_metrics_do_not_name_it(service: "Service") -> None:
    """Names that clients choose would be series without end."""
    await put(service)
    await service.say("a", "Ann", "Hi.", label_space="callers")

    text = (await service.client.get("/metrics")).text

    assert 'erc_predictions_total{label="own",label_space="own"} 1.0' in text
    assert "callers" not in text


async def test_so_many_are_kept_of_one_tenant(
    service: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dialogues.own_label_spaces.MOST_LABEL_SPACES", 2)
    assert (await put(service, SUMS, "a")).status_code == 200
    assert (await put(service, SUMS, "b")).status_code == 200
    assert (await put(service, SUMS, "c")).status_code == 429
    service.engine.goes_away()  # of an example it would not answer
    assert (await put(service, BODY, "c")).status_code == 429
    service.engine.comes_back()
    assert (await put(service, SUMS, "a")).status_code == 200


async def test_a_failure_leaves_what_was_there(service: "Service") -> None:
    await put(service)
    service.engine.goes_away()

    assert (await put(service, BODY | {"title": "New"})).status_code == 503
    service.engine.comes_back()
    assert (await service.client.get("/label-spaces/callers")).json()["title"] == "Callers"
