"""What an error becomes on its way to a client."""

import logging
import re
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest

from service.api.problems.kinds import PROBLEMS
from service.decoding.server_check import WrongServer
from service.errors import (
    DatabaseUnavailable,
    DialogueBusy,
    EngineUnavailable,
    Overloaded,
    ServiceError,
)

if TYPE_CHECKING:
    from tests.api.conftest import Service

ID = "X-Request-Id"


def leaves(error: type[ServiceError]) -> list[type[ServiceError]]:
    """The errors of `service.errors`; a package may refine one of them for itself."""
    kinds = [kind for kind in error.__subclasses__() if kind.__module__ == ServiceError.__module__]
    return [leaf for kind in kinds for leaf in leaves(kind)] if kinds else [error]


async def raising(service: "Service", error: Exception) -> httpx.Response:
    """What the service answers when a route raises an error."""

    @service.app.get("/raise")
    async def fail() -> None:
        raise error

    return await service.client.get("/raise")


def test_every_error_has_a_problem_of_its_own() -> None:
    """An error without a row would be answered as a failure of the service."""
    assert set(PROBLEMS) == set(leaves(ServiceError))
    assert len({kind.type for kind in PROBLEMS.values()}) == len(PROBLEMS)
    assert PROBLEMS[DialogueBusy].type == "/problems/dialogue-busy"


@pytest.mark.parametrize("error", leaves(ServiceError))
async def test_an_error_is_answered_with_its_problem_and_its_words(
    service: "Service", problem: Any, error: type[ServiceError]
) -> None:
    """One that is worth a retry says when."""
    answer = await raising(service, error("this went wrong"))

    assert problem(answer) == (PROBLEMS[error].status, PROBLEMS[error].name)
    assert answer.json()["detail"] == "this went wrong"


async def test_a_refined_error_is_answered_as_the_one_that_it_refines(
    service: "Service", problem: Any
) -> None:
    answer = await raising(service, WrongServer("serves another model"))

    kind = PROBLEMS[EngineUnavailable]
    assert problem(answer) == (kind.status, kind.name)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("secret"),
        ValueError("secret"),
        KeyError("secret"),
        ExceptionGroup("secret", [OSError("secret")]),
        RecursionError("secret"),
    ],
)
async def test_what_nobody_foresaw_is_logged_and_not_told(
    service: "Service", problem: Any, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The answer has the id under which the log has the cause."""
    answer = await raising(service, error)

    assert problem(answer) == (500, "internal-error")
    assert "secret" not in answer.text
    (record,) = (r for r in caplog.records if r.levelno >= logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert answer.headers[ID] in record.getMessage()


async def test_a_part_that_breaks_a_promise_is_a_failure_of_the_service(
    service: "Service", problem: Any
) -> None:
    """In a batch too, where errors come in groups; the service goes on."""
    service.engine.failure = RuntimeError("secret")
    utterances = [{"speaker": "Ann", "text": "Hello?"}]

    turn = await service.say("call-42", "Ann", "Hello?")
    batch = await service.client.post(
        "/batch", json={"dialogues": [{"id": "a", "utterances": utterances}]}
    )

    assert problem(turn) == problem(batch) == (500, "internal-error")
    service.engine.comes_back()
    assert (await service.say("call-42", "Ann", "Hello?")).json()["index"] == 0


def errors_logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_why_a_part_does_not_answer_is_logged_and_not_told(
    service: "Service", problem: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The kinds of its causes, and what they say where that is of machines alone."""
    error = EngineUnavailable("the label engine failed")
    error.__cause__ = RuntimeError("xyzzy")
    error.__cause__.__cause__ = ConnectionResetError(104, "Connection reset by peer")

    answer = await raising(service, error)

    assert problem(answer) == (503, "engine-unavailable")
    assert "RuntimeError" not in answer.text
    assert errors_logged(caplog) == [
        f"request {answer.headers[ID]}: the label engine failed: RuntimeError, from "
        "ConnectionResetError: Connection reset by peer"
    ]


async def test_what_people_say_and_passwords_are_left_out_of_a_logged_cause(
    service: "Service", caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL repeats values in its messages of some kinds, and in the details of all."""
    error = DatabaseUnavailable("the database cannot carry out the statement")
    error.__cause__ = asyncpg.DataError("invalid input for query argument $1: 'xyzzy'")
    error.__cause__.__cause__ = asyncpg.UndefinedTableError(
        "no relation at postgresql://ann:xyzzy@db/erc\nDETAIL: Key (text)=(xyzzy)"
    )

    await raising(service, error)

    (logged,) = errors_logged(caplog)
    assert logged.endswith(": no relation at postgresql://***@db/erc")
    assert "xyzzy" not in logged


async def test_a_part_that_fails_for_each_dialogue_of_a_batch_is_logged_once(
    service: "Service", caplog: pytest.LogCaptureFixture
) -> None:
    """A batch may have a hundred."""
    service.engine.goes_away()
    lines = "".join(
        f'{{"id": "{number}", "utterances": [{{"speaker": "Ann", "text": "Hello?"}}]}}\n'
        for number in range(3)
    )

    answer = await service.client.post(
        "/batch", content=lines, headers={"content-type": "application/x-ndjson"}
    )

    assert answer.text.count("/problems/engine-unavailable") == 3
    assert errors_logged(caplog) == [
        f"request {answer.headers[ID]}: the label engine has died",
    ]


@pytest.mark.parametrize("error", [DialogueBusy("busy"), Overloaded("too much")])
async def test_what_is_refused_is_no_fault_of_a_part(
    service: "Service", caplog: pytest.LogCaptureFixture, error: ServiceError
) -> None:
    """Metrics count it; the log would only grow."""
    await raising(service, error)

    assert errors_logged(caplog) == []


@pytest.mark.parametrize(
    "path", ["/", "/dialogues/", "/batch/", "/Batch", "/nothing", "/%00", "/%FF"]
)
async def test_an_unknown_path_is_a_problem(service: "Service", problem: Any, path: str) -> None:
    """Nor is anything redirected."""
    assert problem(await service.client.get(path)) == (404, "no-such-path")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/dialogues/call-42", "DELETE, GET, HEAD"),
        ("POST", "/dialogues/call-42", "DELETE, GET, HEAD"),
        ("GET", "/dialogues/call-42/utterances", "POST"),
        ("POST", "/dialogues/call-42/forecast", "GET, HEAD"),
        ("GET", "/batch", "POST"),
        ("OPTIONS", "/batch", "POST"),
        ("DELETE", "/demonstrations", "GET, HEAD, POST"),
        ("PATCH", "/demonstrations/team", "DELETE, GET, HEAD"),
        ("POST", "/label-spaces", "GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
        ("BREW", "/metrics", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_a_problem(
    service: "Service", problem: Any, method: str, path: str, allowed: str
) -> None:
    """`Allow` names all that it takes."""
    answer = await service.client.request(method, path)

    assert problem(answer) == (405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


async def test_every_answer_carries_the_id_that_the_client_gave(service: "Service") -> None:
    """Good answers and problems alike."""
    for path in ("/livez", "/nothing", "/dialogues/nobody"):
        answer = await service.client.get(path, headers={ID: "4bf92f35-77b3.a:1"})

        assert answer.headers[ID] == "4bf92f35-77b3.a:1"


@pytest.mark.parametrize("given", [None, b"", b"a b", b"a\tb", b"x" * 129, "é".encode(), b'"'])
async def test_a_request_without_a_usable_id_is_given_one(
    service: "Service", given: bytes | None
) -> None:
    """One that could break a log line is not usable; each request gets its own."""
    headers = {} if given is None else {ID.encode(): given}

    ids = [(await service.client.get("/livez", headers=headers)).headers[ID] for _ in range(2)]

    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert ids[0] != ids[1]
