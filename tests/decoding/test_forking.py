"""What a copy of a process is made of, tried in processes of their own."""

import subprocess
import sys

import pytest

_MAY_FORK = "from service.decoding.forking import may_fork\n"
# It takes seconds to import, and nothing here computes.
_TORCH = "import sys, unittest.mock; sys.modules['torch'] = unittest.mock.MagicMock()"


def printed_by(program: str) -> str:
    """What a new Python prints that runs a program."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=180, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "True"),
        (_TORCH, "False"),
        ("import threading as t; t.Timer(2, print).start()", "False"),
    ],
    ids=["fresh", "torch is there", "another thread runs"],
)
def test_only_a_process_that_has_done_nothing_else_is_copied(before: str, expected: str) -> None:
    """Threads are not in a copy: what they hold or compute would be waited for in vain."""
    assert printed_by(f"{_MAY_FORK}{before}\nprint(may_fork(), flush=True)") == expected


@pytest.mark.parametrize(
    "imports",
    [
        "import service.decoding.forking, concurrent.futures.thread",
        "import concurrent.futures.thread, service.decoding.forking",
    ],
)
def test_work_is_begun_beside_a_copy_whatever_was_imported_first(imports: str) -> None:
    """Libraries hold locks of theirs around a fork, in the order in which they were imported."""
    program = f"""
{_TORCH}
import os
{imports}
from service.decoding.forking import beside, forking
begun = []
with forking(lambda: begun.append(beside(lambda: "done"))):
    for _ in range(2):
        if not os.fork():
            os._exit(0)
        os.wait()
print([each.result(10) for each in begun])
"""
    assert printed_by(program) == "['done']"


def test_work_is_begun_where_no_copy_is_made_after_all() -> None:
    """Where vLLM knows better, as in Ray's actors, it starts a new process."""
    program = f"""
{_TORCH}
from service.decoding.forking import forking
with forking(lambda: print("begun")):
    pass
"""
    assert printed_by(program) == "begun"


def test_nothing_that_is_loaded_before_vllm_keeps_it_from_being_a_copy() -> None:
    """A start would take twice as long, and nobody would notice.

    What libraries read when they are imported is set before they are.
    """
    program = """
import asyncio, os, sys, tempfile, threading
from pathlib import Path
from service import recognition_parts
from service.settings import Settings

class Seen(Exception): ...

def look(folder, load=recognition_parts.load_tokenizer):
    print("torch" in sys.modules, os.environ["TORCH_CPP_LOG_LEVEL"])
    return load(folder)

async def start_engine(*_, options, **__):
    print(options.forked, threading.active_count())
    raise Seen

async def opened(folder):
    async with recognition_parts.open_parts(Settings(), lambda _: None, index=folder, alone=True):
        pass

recognition_parts.load_tokenizer, recognition_parts.start_engine = look, start_engine
with tempfile.TemporaryDirectory() as folder:
    try:
        asyncio.run(opened(Path(folder)))
    except Seen:
        pass
"""
    assert printed_by(program).split("\n") == ["False ERROR", "True 1"]
