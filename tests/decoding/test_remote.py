"""The remote engine against servers that fail on command; the real ones are in tests/e2e."""

import asyncio
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from service.decoding.bundle import Bundle
from service.decoding.engine import Reading, reading_dialogue
from service.decoding.fingerprint import fingerprint_of, question_of
from service.decoding.remote import RemoteEngine, RemoteOptions, open_remote
from service.decoding.server_check import ServerCheck, WrongServer
from service.decoding.tokenizer import Tokenizer
from service.decoding.watched import WatchOptions
from service.errors import EngineUnavailable
from service.priority import Priority
from service.tracing import Trace, traced
from tests.clock import PATIENT_S
from tests.decoding.scripted_server import ScriptedServer, scripted_server

OPTIONS = RemoteOptions(
    urls=(),
    model="erc-test",
    hash_key="key",
    watch=WatchOptions(probe_after_s=0.5, stalled_after_s=2, exit_after_s=math.inf),
)


@dataclass(frozen=True)
class Known:
    """What servers are asked at the start, and what the bundle's model answers."""

    check: ServerCheck
    log_probabilities: Mapping[int, float]


@pytest.fixture(scope="session")
def known(description: Bundle, tokenizer: Tokenizer) -> Known:
    question = question_of(description, tokenizer)
    values = {token: -1.234567 - 0.377 * n for n, token in enumerate(question.candidates)}
    fingerprint = fingerprint_of(question, list(values.values()))
    bundle = description.model_copy(update={"fingerprint": fingerprint})
    return Known(ServerCheck(bundle, "erc-test", question), values)


@asynccontextmanager
async def opened(
    known: Known, count: int = 1, options: RemoteOptions = OPTIONS, **script: Any
) -> AsyncIterator[tuple[RemoteEngine, list[ScriptedServer]]]:
    """An engine under watch, and its servers."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                scripted_server(**{"log_probabilities": known.log_probabilities} | script)
            )
            for _ in range(count)
        ]
        urls = tuple(server.url for server in servers)
        engine = await open_remote(replace(options, urls=urls), known.check)
        stack.push_async_callback(engine.close)
        for server in servers:
            server.asked.clear()
            server.headers.clear()
        yield engine, servers


async def read(engine: RemoteEngine, dialogue: str = "call", **more: Any) -> Reading:
    with reading_dialogue("acme", dialogue):
        return await engine.read([5, 6, 7], [2, 3], Priority.BATCH, **more)


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not condition():  # noqa: ASYNC110, what is awaited happens elsewhere
            await asyncio.sleep(0.05)


def reads_of(servers: list[ScriptedServer]) -> list[int]:
    """How many reads each server had, without the check's."""
    return [sum(each["prompt"] == [5, 6, 7] for each in server.asked) for server in servers]


async def test_a_read_is_one_completion_of_token_ids(known: Known) -> None:
    """Of one token, for the candidates alone; nobody's name is in it."""
    async with opened(known, cached_tokens=2, queue_time_ms=1.5) as (engine, (server,)):
        server.log_probabilities = {2: -0.5, 3: -math.inf}
        reading = await read(engine, salt="a@me")

    assert reading == Reading((-0.5, -math.inf), 2, 0.0015)
    (question,) = server.asked
    salt = question.pop("cache_salt")
    assert question == {
        "model": "erc-test",
        "prompt": [5, 6, 7],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 1,
        "logprob_token_ids": [2, 3],
        "return_tokens_as_token_ids": True,
        "add_special_tokens": False,
        "priority": 1,
    }
    session = server.headers[0]["X-Session-ID"]
    assert "a@me" not in salt
    assert not {"acme", "call"} & {session, salt}


async def test_what_a_server_does_not_count_is_unknown(known: Known) -> None:
    """It is no zero."""
    async with opened(known, cached_tokens=None) as (engine, _):
        reading = await read(engine)

    assert (reading.cached_tokens, reading.queue_s) == (None, None)


async def test_each_server_has_the_tokens_that_it_read(known: Known) -> None:
    """With those from its cache; a read that fails is not among them."""
    async with opened(known, 2, cached_tokens=2) as (engine, servers):
        servers[0].breaks_off = 1
        for n in range(20):
            await read(engine, f"call-{n}")

        reads = [state.work.reads for state in engine.servers]
        assert reads == [state.outcomes["answered"] for state in engine.servers]
        assert sum(reads) == 20
        assert min(reads) > 0
        for state in engine.servers:
            assert state.work.prompt_tokens == 3 * state.work.reads
            assert state.work.cached_tokens == 2 * state.work.reads
            assert state.work.seconds > 0
            assert state.open_reads == 0


async def test_a_server_gets_its_key_and_the_trace(known: Known) -> None:
    options = replace(OPTIONS, api_key="secret")
    trace = Trace("1" * 32, "2" * 16, lambda: {"traceparent": "from-here"}, None)
    async with opened(known, options=options) as (engine, (server,)):
        with traced(trace):
            await read(engine)

    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert server.headers[0]["traceparent"] == "from-here"


async def test_a_dialogue_stays_with_one_server_and_dialogues_use_all(known: Known) -> None:
    async with opened(known, 3) as (engine, servers):
        for n in range(30):
            for _ in range(2):
                await read(engine, f"call-{n}")

    sessions = [{each["X-Session-ID"] for each in server.headers} for server in servers]
    assert sum(map(len, sessions)) == len(set.union(*sessions)) == 30
    assert all(sessions)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_what_a_server_cannot_read_now_another_reads(known: Known, status: int) -> None:
    async with opened(known, 2) as (engine, servers):
        servers[0].status = status
        for n in range(20):
            await read(engine, f"call-{n}")

        assert reads_of(servers)[1] == 20
        # After three in a row it is left alone.
        assert reads_of(servers)[0] <= 3


async def test_a_connection_that_breaks_is_made_anew_elsewhere(known: Known) -> None:
    """Or to the same server, where it is the only one."""
    async with opened(known, 2) as (engine, servers):
        servers[0].breaks_off = 1
        for n in range(10):
            await read(engine, f"call-{n}")
    async with opened(known, 1) as (engine, servers):
        servers[0].breaks_off = 1
        await read(engine)

        assert reads_of(servers) == [2]
        assert engine.servers[0].outcomes["broken"] == 1


async def test_a_read_is_tried_twice_at_most(known: Known) -> None:
    async with opened(known, 3) as (engine, servers):
        for server in servers:
            server.breaks_off = 2
        with pytest.raises(EngineUnavailable) as failure:
            await read(engine)

        assert sum(reads_of(servers)) == 2
        # Its client learns nothing of servers.
        assert str(failure.value) == "the label engine does not answer"


async def test_a_process_that_stood_still_does_not_blame_its_only_server(known: Known) -> None:
    """Its connections time out all together, as if the server were not there."""
    async with opened(known, options=replace(OPTIONS, connect_s=0.2)) as (engine, (server,)):
        await server.stop()  # so that nothing is connected
        await server.start()
        await eventually(lambda: engine.servers[0].is_available)
        reads = [asyncio.create_task(read(engine, f"call-{n}")) for n in range(20)]
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251, it is to stand still
        await asyncio.gather(*reads)

        assert engine.servers[0].outcomes["unreachable"] > 3
        assert engine.servers[0].is_available


async def test_an_answer_without_end_is_not_read_to_its_end(known: Known) -> None:
    """Also where the server does not say how long it is."""
    async with opened(known) as (engine, (server,)):
        server.padding = 2**20 - 2**12
        await read(engine)
        server.padding = 2**20
        with pytest.raises(EngineUnavailable):
            await read(engine)

        assert engine.servers[0].outcomes["failed"] == 1


async def test_what_a_server_refuses_no_other_is_asked(
    known: Known, caplog: pytest.LogCaptureFixture
) -> None:
    """The next would refuse it too; the server is not at fault and stays."""
    async with opened(known, 2) as (engine, servers):
        for server in servers:
            server.status, server.message = 400, "too long"
        for n in range(10):
            with pytest.raises(EngineUnavailable):
                await read(engine, f"call-{n}")

        assert sum(reads_of(servers)) == 10
        assert all(state.is_available for state in engine.servers)
    assert "answers 400: too long" in caplog.text


async def test_a_server_that_is_gone_is_set_aside_at_once_and_comes_back(known: Known) -> None:
    """Nobody sees it; a single server that is gone is unavailability."""
    async with opened(known, 2) as (engine, servers):
        await servers[0].stop()
        for n in range(20):
            await read(engine, f"call-{n}")
        gone, there = engine.servers
        assert (gone.is_available, there.is_available) == (False, True)
        assert gone.outcomes["unreachable"] == 1
        await engine.check()

        await servers[1].stop()
        with pytest.raises(EngineUnavailable):
            await read(engine)
        with pytest.raises(EngineUnavailable):
            await engine.check()

        await servers[0].start()
        await eventually(lambda: engine.servers[0].is_available)
        await engine.check()
        await read(engine)


async def test_a_server_that_comes_back_with_another_model_stays_aside(
    known: Known, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers, but not what it should."""
    async with opened(known, 2) as (engine, servers):
        servers[0].log_probabilities = {
            token: 1.1 * value for token, value in known.log_probabilities.items()
        }
        await servers[0].stop()
        for n in range(10):
            await read(engine, f"call-{n}")
        await servers[0].start()
        await eventually(lambda: "has other weights" in caplog.text)

        assert [state.is_available for state in engine.servers] == [False, True]
        assert reads_of(servers)[0] == 0


async def test_a_server_that_hangs_loses_what_it_was_asked_to_another(known: Known) -> None:
    """Its reads are taken back, and it is left alone until it answers."""
    async with opened(known, 2) as (engine, servers):
        servers[0].goes_on.clear()
        await asyncio.gather(*(read(engine, f"call-{n}") for n in range(20)))

        assert [state.is_available for state in engine.servers] == [False, True]
        assert engine.silent_s < 2
        await eventually(lambda: servers[0].abandoned)
        servers[0].goes_on.set()
        await eventually(lambda: engine.servers[0].is_available)


async def test_a_read_that_nobody_waits_for_any_more_ends_in_the_server(known: Known) -> None:
    """Its connection is closed, by which vLLM knows."""
    async with opened(known) as (engine, (server,)):
        server.goes_on.clear()
        waiting = asyncio.create_task(read(engine))
        await eventually(lambda: server.asked)
        waiting.cancel()
        await eventually(lambda: server.abandoned == 1)


async def test_a_server_that_takes_too_long_for_a_prompt_is_given_up(known: Known) -> None:
    """Where no deadline is sooner; it is not asked again, as another may take as long."""
    async with opened(known, 2, replace(OPTIONS, answer_s=0.5)) as (engine, servers):
        for server in servers:
            server.goes_on.clear()
        with pytest.raises(EngineUnavailable):
            await read(engine)

        assert sum(reads_of(servers)) == 1


async def test_its_watch_ends_when_it_is_closed(known: Known) -> None:
    """Whoever awaits it, as the service does, waits for as long as it is open."""
    async with opened(known) as (engine, _):
        watch = asyncio.create_task(engine.watch(lambda why: pytest.fail(why)))
        await asyncio.sleep(0)
        assert not watch.done()
    await asyncio.wait([watch], timeout=PATIENT_S)

    assert watch.cancelled()


async def test_it_starts_while_one_server_is_there(known: Known) -> None:
    """And not without any."""
    async with scripted_server(log_probabilities=known.log_probabilities) as server:
        gone = "http://127.0.0.1:9"
        engine = await open_remote(replace(OPTIONS, urls=(gone, server.url)), known.check)
        await read(engine)
        assert [state.is_available for state in engine.servers] == [False, True]
        await engine.close()

        with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:9 cannot be reached"):
            await open_remote(replace(OPTIONS, urls=(gone,)), known.check)
    unknown = "http://nowhere.invalid:8000"
    with pytest.raises(EngineUnavailable, match="no host has an address"):
        await open_remote(replace(OPTIONS, urls=(unknown,)), known.check)


@pytest.mark.parametrize(
    ("script", "remedy"),
    [
        ({"models": {"other": 512}}, "--served-model-name erc-test"),
        ({"models": {"erc-test": 256}}, "--max-model-len 512"),
        ({"refuses_priorities": True}, "--scheduling-policy priority"),
        ({"status": 401, "message": "Unauthorized"}, "ERC_ENGINE__API_KEY"),
        ({"status": 400, "message": "unknown field"}, r"docs/engines\.md"),
        ({"log_probabilities": {}}, "--hf-overrides"),  # all the same: on any grid
    ],
)
async def test_a_server_with_other_options_is_refused_with_the_remedy(
    known: Known, script: dict[str, Any], remedy: str
) -> None:
    """Even where another server is as it should be."""
    async with (
        scripted_server(log_probabilities=known.log_probabilities) as right,
        scripted_server(**{"log_probabilities": known.log_probabilities} | script) as wrong,
    ):
        with pytest.raises(WrongServer, match=remedy):
            await open_remote(replace(OPTIONS, urls=(right.url, wrong.url)), known.check)


def test_a_service_on_servers_imports_no_vllm() -> None:
    """It is not installed in its image; tests/e2e has such a service answer."""
    forbidding = "import sys; sys.modules['vllm'] = None\n"  # an import of it is an error
    modules = ("app", "cli", "recognition_parts", "offline", "doctor.examination")
    script = forbidding + "\n".join(f"import service.{name}" for name in modules)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


async def test_a_name_of_several_addresses_stands_for_a_server_at_each(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come and go with what the name is looked up as."""
    addresses = ["127.0.0.1", "127.0.0.2"]
    monkeypatch.setattr("service.decoding.remote._LOOKED_UP_EVERY_S", 0.1)

    async def looked_up(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up, raising=False)
    async with scripted_server(log_probabilities=known.log_probabilities) as server:
        options = replace(OPTIONS, urls=(f"http://servers:{server.port}",))
        engine = await open_remote(options, known.check)
        assert [state.name for state in engine.servers] == [
            f"127.0.0.1:{server.port}",
            f"127.0.0.2:{server.port}",
        ]
        # Nothing listens at the second.
        assert [state.is_available for state in engine.servers] == [True, False]
        addresses[:] = ["127.0.0.1"]
        await eventually(lambda: len(engine.servers) == 1)
        await read(engine)
        assert server.headers[-1]["Host"] == f"servers:{server.port}"
        await engine.close()
