"""Both clients of the real service, call by call and over broken connections."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from instructerc import (
    AsyncClient,
    Client,
    Conflict,
    Invalid,
    NotFound,
    Retries,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    models,
)
from instructerc.errors import Refused, refusal
from service.api.problems.kinds import KINDS
from tests.api.conftest import Service
from tests.client.conftest import Breaking, Open
from tests.client.generation import DOCUMENT

# Of people and probes, not of clients.
_LEFT_OUT = {"livez", "readyz", "metrics", "list_problems", "read_problem"}
OPERATIONS = {
    operation["operationId"]
    for path in json.loads(DOCUMENT.read_text("utf-8"))["paths"].values()
    for operation in path.values()
} - _LEFT_OUT


def dialogue(number: int, *texts: str) -> models.DialogueIn:
    utterances = [models.UtteranceOfDialogue(speaker="Ann", text=text) for text in texts]
    return models.DialogueIn(id=f"d{number}", utterances=utterances)


async def taken(items: AsyncIterator[Any], count: int) -> list[Any]:
    """The first of an endless stream."""
    first: list[Any] = []
    async for item in items:
        first.append(item)
        if len(first) == count:
            break
    return first


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_every_operation_has_a_call(client: type) -> None:
    assert {name for name in vars(client) if name in OPERATIONS} == OPERATIONS


def test_both_clients_have_the_same_calls() -> None:
    """With the same parameters; what they return differs only as it must."""

    def calls(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in vars(client).items()
            if not name.startswith("_") and callable(member)
        }

    assert calls(Client) == calls(AsyncClient)


async def test_a_dialogue_from_its_beginning_to_its_end(client: Any, service: Service) -> None:
    """Each answer is what the service stored."""
    first = await client.add_utterance(
        "call ü 42", speaker="Ann", text="We won!", label_space="meld"
    )
    second = await client.add_utterance(
        "call ü 42", speaker="Bo", text="Who did?", label_space="meld", start=1.5, role="agent"
    )

    assert (first.index, second.index) == (0, 1)
    assert (second.start, second.role) == (1.5, "agent")
    assert set(first.emotion.probabilities) == set(service.services.label_spaces["meld"].names)
    corrected = await client.correct_label("call ü 42", 0, "surprise", label_space="meld")
    assert (corrected.label, corrected.degraded) == ("surprise", [])
    timeline = await client.read_dialogue("call ü 42")
    assert [each.text for each in timeline.utterances] == ["We won!", "Who did?"]
    assert timeline.utterances[0].correction.label == "surprise"
    page = await client.read_dialogue("call ü 42", limit=1)
    assert page.next is not None
    explained = await client.read_utterance("call ü 42", 1, explain=True)
    assert {each.word for each in explained.explanation.words} == {"Who", "did?"}
    assert (await client.read_utterance("call ü 42", 1)).explanation is None
    assert (await client.summarize_dialogue("call ü 42")).utterances == 2
    forecast = await client.forecast_turn("call ü 42", speaker="Ann", label_space="meld")
    assert forecast.index == 2
    await client.take_label_back("call ü 42", 0)
    assert (await client.read_utterance("call ü 42", 0)).correction is None
    await client.erase_dialogue("call ü 42")
    with pytest.raises(NotFound) as gone:
        await client.read_dialogue("call ü 42")
    assert gone.value.kind == "dialogue-not-found"


async def test_lists_have_pages(client: Any) -> None:
    for n in range(3):
        await client.add_utterance(f"call-{n}", speaker="Ann", text="We won!", label_space="meld")

    names, page = [], await client.list_dialogues(limit=2, speaker="Ann")
    while page is not None:
        names += [each.id for each in page.dialogues]
        page = await client.next_dialogues(page)

    assert sorted(names) == ["call-0", "call-1", "call-2"]


async def test_people_check_what_is_least_certain_and_export_it(
    client: Any, open_client: Open
) -> None:
    """Over a broken connection, each corrected dialogue comes once."""
    for n in range(20):
        await client.add_utterance(f"call-{n}", speaker="Ann", text="We won!", label_space="meld")
    first = await client.list_utterances(label_space="meld", limit=19)
    rest = await client.list_utterances(label_space="meld", limit=19, cursor=first.next)
    for each in first.utterances:
        await client.correct_label(each.dialogue_id, 0, "surprise", label_space="meld")

    left = await client.list_utterances(label_space="meld", sort="newest")
    exported = [each async for each in client.export_corrections(label_space="meld")]
    broken = open_client(transport=Breaking(700, 0, 900))
    again = [each async for each in broken.export_corrections(label_space="meld")]

    assert (len(rest.utterances), rest.next) == (1, None)
    assert [each.dialogue_id for each in left.utterances] == [rest.utterances[0].dialogue_id]
    assert (left.progress.utterances, left.progress.corrected) == (20, 19)
    assert {each.utterances[0].label for each in exported} == {"surprise"}
    assert sorted(each.id for each in exported) == sorted(e.dialogue_id for e in first.utterances)
    assert again == exported


async def test_a_transcript_is_scored(client: Any) -> None:
    """A cue that cannot be read is named with its line."""
    content = b"WEBVTT\n\n00:01.000 --> 00:02.500\n<v Ann>We won!\n\n00:0x --> 00:03.000\nWhat?\n"

    scored = await client.score_transcript(
        content, media_type="text/vtt", label_space="meld", name="call-42"
    )

    (dialogue,) = scored.results
    assert dialogue.id == "call-42"
    assert [(each.speaker, each.start) for each in dialogue.utterances] == [("Ann", 1.0)]
    assert [each.line for each in scored.unread] == [6]


async def test_demonstrations_and_label_spaces(client: Any) -> None:
    shown = models.DemonstrationIn(label_space="meld", label="joy", text="The flat!", id="flat-1")
    sums = models.LabelSpaceIn(
        title="Two",
        derived_from="meld",
        labels=[
            models.OwnLabelIn(name="fine", of=["neutral", "joy"]),
            models.OwnLabelIn(name="upset", of=["anger", "disgust", "sadness", "fear", "surprise"]),
        ],
    )

    added = await client.add_demonstrations([shown])
    await client.put_label_space("two", sums)

    assert [each.id for each in added.demonstrations] == ["flat-1"]
    assert (await client.read_demonstration("flat-1")).text == "The flat!"
    listed = await client.list_demonstrations(label_space="meld", limit=10)
    assert [each.id for each in listed.demonstrations] == ["flat-1"]
    assert (await client.read_label_space("two")).name == "two"
    assert "two" in {each.name for each in (await client.list_label_spaces()).label_spaces}
    await client.delete_demonstration("flat-1")
    await client.delete_label_space("two")
    with pytest.raises(NotFound):
        await client.read_demonstration("flat-1")


async def test_a_refusal_is_an_error_of_its_kind(client: Any) -> None:
    """With the problem document, which says where the fault is."""
    with pytest.raises(Invalid) as invalid:
        await client.add_utterance("call-42", speaker="Ann", text="  ")
    assert invalid.value.kind == "invalid-request"
    assert [fault.pointer for fault in invalid.value.problem.errors or ()] == ["/text"]
    await client.add_utterance("call-42", speaker="Ann", text="Hi.", idempotency_key="one")
    with pytest.raises(Conflict):
        await client.add_utterance("call-42", speaker="Ann", text="Ho.", idempotency_key="one")
    with pytest.raises(Conflict) as changed:
        await client.erase_dialogue("call-42", if_match='"1.1"')
    assert changed.value.kind == "dialogue-changed"


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_problem_has_a_class(kind: Any) -> None:
    """Those of statuses that only the fault of a client or a proxy brings have the general one."""
    body = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": "..."}

    error = refusal(kind.status, "", {}, json.dumps(body).encode())

    assert (error.kind, error.status) == (kind.name, kind.status)
    general = {405, 421, 431, 499, 500}
    assert (type(error) is Refused) == (kind.status in general)


async def test_an_answer_that_is_lost_is_asked_for_again(
    open_client: Open, service: Service
) -> None:
    """With the same key: the utterance is stored once, and the answer is the first one."""
    transport = Breaking(0, 5)
    client = open_client(transport=transport)

    answer = await client.add_utterance("call-42", speaker="Ann", text="We won!")

    assert answer.index == 0
    assert len((await service.timeline("call-42"))["utterances"]) == 1
    keys = [request.headers["idempotency-key"] for request in transport.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    await client.add_utterance("call-42", speaker="Ann", text="We won!")
    assert transport.requests[-1].headers["idempotency-key"] != keys[0]


async def test_attempts_are_bounded(open_client: Open) -> None:
    transport = Breaking(*[0] * 10)
    client = open_client(transport=transport)

    with pytest.raises(Unreachable):
        await client.list_label_spaces()

    assert len(transport.requests) == 4


async def test_retry_after_is_obeyed(open_client: Open, service: Service) -> None:
    """Not before the second that the service asks for, and not for longer than is allowed."""
    service.engine.goes_away()
    transport = Breaking()
    client = open_client(transport=transport)
    impatient = open_client(retries=Retries(first_wait_s=0.01, longest_wait_s=0.5))
    loop = asyncio.get_running_loop()

    with pytest.raises(Unavailable) as refused:
        await impatient.add_utterance("call-42", speaker="Ann", text="We won!")
    assert (refused.value.kind, refused.value.retry_after_s) == ("engine-unavailable", 1)
    began = loop.time()
    loop.call_later(0.5, service.engine.comes_back)
    answer = await client.add_utterance("call-42", speaker="Ann", text="We won!")

    assert answer.index == 0
    assert loop.time() - began >= 1
    assert len(transport.requests) == 2


async def test_nobody_at_the_address_is_an_error_of_its_own() -> None:
    retries = Retries(attempts=2, first_wait_s=0.01)
    async with AsyncClient("http://127.0.0.1:9", retries=retries) as client:
        with pytest.raises(Unreachable):
            await client.list_label_spaces()


async def test_another_server_is_told_from_the_service() -> None:
    """Its success is no answer, and its failure has no problem document."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404 if "jobs" in request.url.path else 200, text="<html>")

    with Client("http://other", transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(UnexpectedAnswer, match="GET /label-spaces"):
            client.list_label_spaces()
        with pytest.raises(NotFound, match="no problem document"):
            client.read_job("one")


async def test_a_key_and_a_prefix_are_sent() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"label_spaces": [], "languages": ["en"]})

    transport = httpx.MockTransport(answer)
    with Client("https://erc.example/v1", key="secret", transport=transport) as client:
        client.list_label_spaces()

    assert str(sent[0].url) == "https://erc.example/v1/label-spaces"
    assert sent[0].headers["authorization"] == "Bearer secret"


async def test_a_dialogue_is_followed_over_breaks_without_a_gap(
    open_client: Open, service: Service
) -> None:
    """The first two streams break within their second event; no event comes twice."""
    for n in range(3):
        await service.say("call-42", "Ann", f"Line {n}.")
    transport = Breaking(1500, 1500)
    client = open_client(transport=transport)
    following = client.follow_dialogue("call-42")

    past = await taken(following, 3)
    later = open_client().follow_dialogue("call-42", after=past[-1].id)
    await service.client.put("/dialogues/call-42/utterances/1/label", json={"label": "joyful"})
    await service.client.delete("/dialogues/call-42")
    rest = [event async for event in later]

    assert [event.data.text for event in past] == ["Line 0.", "Line 1.", "Line 2."]
    assert len(transport.requests) >= 2
    assert transport.requests[-1].headers["last-event-id"] in {event.id for event in past}
    assert isinstance(rest[-1].data, models.ErasedEvent)
    assert all(isinstance(event.data, models.CorrectionEvent) for event in rest[:-1])
    assert [
        event async for event in open_client().follow_dialogue("call-42", after=rest[-1].id)
    ] == []
    with pytest.raises(NotFound):
        await taken(open_client().follow_dialogue("nobody"), 1)


async def test_lines_go_out_and_results_come_back_a_portion_at_a_time(client: Any) -> None:
    """Of a dialogue that cannot be read there is an error, and the others go on."""
    given: list[int] = []
    given_at_first: list[int] = []

    def dialogues() -> Iterator[models.DialogueIn]:
        for n in range(30):
            given.append(n)
            yield dialogue(n, " ") if n == 7 else dialogue(n, "We won!", "We did!")

    results = []
    async for result in client.score_lines(dialogues(), label_space="meld", utterances=8):
        given_at_first = given_at_first or list(given)
        results.append(result)

    assert given_at_first == [0, 1, 2, 3, 4]
    assert [result.line for result in results] == list(range(1, 31))
    refused = [result for result in results if isinstance(result, models.RefusedLine)]
    assert [(each.line, each.error.type) for each in refused] == [(8, "/problems/invalid-request")]
    scored = [result for result in results if isinstance(result, models.ScoredLine)]
    assert [each.id for each in scored] == [f"d{n}" for n in range(30) if n != 7]
    assert {len(each.utterances) for each in scored} == {2}


async def test_a_portion_that_breaks_goes_on_where_it_broke(open_client: Open) -> None:
    """Each dialogue has one result; those that have one are not sent again."""
    transport = Breaking(3000, 0, 3000)
    client = open_client(transport=transport)

    results = [
        result
        async for result in client.score_lines(
            (dialogue(n, f"Line {n}.") for n in range(12)), label_space="meld", summary=True
        )
    ]

    assert [(each.line, each.id) for each in results] == [(n + 1, f"d{n}") for n in range(12)]
    assert all(each.summary is not None for each in results)
    sent = [request.content.count(b"\n") for request in transport.requests]
    assert sent[0] == 12
    assert sent[-1] < 12


async def test_dialogues_may_come_from_an_asynchronous_source(served: Any) -> None:
    async def dialogues() -> AsyncIterator[models.DialogueIn]:
        for n in range(3):
            await asyncio.sleep(0)
            yield dialogue(n, "We won!")

    async with AsyncClient(f"http://127.0.0.1:{served.port}") as client:
        results = [result async for result in client.score_lines(dialogues())]

    assert [result.line for result in results] == [1, 2, 3]


async def test_a_portion_larger_than_the_service_reads_ahead_of_results(client: Any) -> None:
    """One dialogue of more utterances than a portion has is sent alone."""
    long = dialogue(0, *(f"Line {n}." for n in range(40)))

    results = [r async for r in client.score_lines([long, dialogue(1, "Hi.")], utterances=8)]

    assert [len(result.utterances) for result in results] == [40, 1]


async def test_batches_and_jobs(open_client: Open, service: Service) -> None:
    client = open_client()
    dialogues = [dialogue(n, "We won!") for n in range(5)]

    batch = await client.score_dialogues(dialogues, label_space="meld", summary=True)
    job = await client.start_job(dialogues, label_space="meld")
    await service.work()
    done = await client.read_job(job.id)
    results = [each async for each in client.read_results(job.id)]
    broken = open_client(transport=Breaking(2500))
    again = [each async for each in broken.read_results(job.id)]

    assert [each.id for each in batch.results] == [each.id for each in results]
    assert batch.results[0].summary is not None
    assert (done.state, done.done) == ("done", 5)
    assert [each.line for each in again] == [1, 2, 3, 4, 5]
    await client.delete_job(job.id)
    with pytest.raises(NotFound):
        await client.read_job(job.id)
