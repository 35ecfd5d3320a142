"""Lines of the log, as machines read them."""

import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from service.access.callers import ANYBODY, Caller
from service.observability.correlation import Correlation, about
from service.observability.logging import log_to
from service.tracing import Trace, traced

log = logging.getLogger("service.test")


@contextmanager
def logging_json(
    level: str = "info", correlation: Correlation | None = None
) -> Iterator[list[dict[str, Any]]]:
    """The objects that are logged in the block; there once it is left."""
    stream, root, lines = io.StringIO(), logging.getLogger(), list[dict[str, Any]]()
    before = root.level
    handler = log_to(stream, level, correlation or Correlation(None))
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    lines += [json.loads(line) for line in stream.getvalue().splitlines()]


def request(dialogue_id: str | None = None, caller: Caller = ANYBODY) -> Mapping[str, Any]:
    """A request that a router has looked at."""
    parameters = {} if dialogue_id is None else {"dialogue_id": dialogue_id}
    return {"state": {"request_id": "r-1", "caller": caller}, "path_params": parameters}


def dialogue_of(correlation: Correlation, dialogue_id: str, caller: Caller = ANYBODY) -> str:
    with about(request(dialogue_id, caller)):
        return correlation.request_ids()["dialogue"]


def test_a_line_is_an_object() -> None:
    """Whatever the message holds; the time is in UTC."""
    with logging_json() as lines:
        log.warning('so many "quotes"\nand %d lines', 2)

    (line,) = lines
    since = datetime.now(UTC) - datetime.fromisoformat(line.pop("time"))
    assert timedelta(0) <= since < timedelta(minutes=1)
    assert line == {
        "level": "warning",
        "logger": "service.test",
        "message": 'so many "quotes"\nand 2 lines',
    }


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize(
    "given", ["a\nb", "a\r\nb", "\x1b[2Ka", "a\x9b1mb", "a\u2028b", "a\u202eb", "a\x00", "\udcff"]
)
def test_a_message_is_on_one_line(level: str, given: str) -> None:
    """Of text too: nothing in it looks like another line, or tells a terminal what to do."""
    stream, root = io.StringIO(), logging.getLogger()
    before = root.level
    handler = log_to(stream, level)
    root.removeHandler(handler)
    root.setLevel(before)

    # Not through the root: what captures logs there passes them on, and no lone surrogates.
    handler.handle(log.makeRecord(log.name, logging.WARNING, "", 0, "refused: %s", (given,), None))

    (line,) = stream.getvalue().rstrip("\n").split("\n")
    assert line.isprintable()
    assert line.endswith(f"refused: {given.encode('unicode_escape').decode()}")


def test_a_line_names_the_request_it_is_about() -> None:
    """And its dialogue, by a hash, and its trace; lines about no request name none."""
    correlation = Correlation(SecretStr("a key"))
    trace = Trace("1" * 32, "2" * 16, dict, None)
    with logging_json(correlation=correlation) as lines:
        with about(request("call-42")), traced(trace):
            log.info("one")
        with about(request()):
            log.info("two")
        log.info("three")

    one, two, three = lines
    assert one["request_id"] == two["request_id"] == "r-1"
    assert one["dialogue"] == dialogue_of(correlation, "call-42")
    assert (one["trace_id"], one["span_id"]) == ("1" * 32, "2" * 16)
    assert not {"dialogue", "trace_id", "span_id"} & two.keys()
    assert not {"request_id", "dialogue"} & three.keys()


def test_a_dialogue_has_the_same_hash_wherever_the_key_is_the_same() -> None:
    """Without a key each process has its own: nobody can find a name by trying them all."""
    one, same, other = (Correlation(SecretStr(key)) for key in ("a key", "a key", "another"))
    nobody, nobody_s = Correlation(None), Correlation(None)

    hashes = [dialogue_of(each, "call-42") for each in (one, same, other, nobody, nobody_s)]

    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in hashes)


def test_two_tenants_dialogues_of_one_name_are_two() -> None:
    """As they are everywhere else."""
    correlation = Correlation(SecretStr("a key"))
    acme, emca = (Caller(name, frozenset()) for name in ("acme", "emca"))

    hashes = {dialogue_of(correlation, "call-42", caller) for caller in (ANYBODY, acme, emca)}

    assert len(hashes) == 3


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_an_error_says_what_it_says_elsewhere(level: str, told: bool) -> None:
    """Its type and where it was raised; what it says only at `debug`."""
    with logging_json(level) as lines:
        try:
            raise RuntimeError("my words")
        except RuntimeError:
            log.exception("it failed")

    (line,) = [line for line in lines if line["logger"] == "service.test"]
    assert line["message"] == "it failed"
    assert "RuntimeError" in line["error"]
    assert "test_an_error_says" in line["error"]
    assert ("my words" in line["error"].splitlines()[-1]) is told
