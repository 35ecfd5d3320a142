"""How vLLM's process is started on a machine whose platform would fork, as a GPU's does."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLE = REPOSITORY / "build" / "bundles" / "erc-mini"
# vLLM's CPU platform chooses to spawn by itself; its platform for CUDA leaves the choice.
AS_ON_A_GPU = """
import os
from vllm.platforms.cpu import CpuPlatform
METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
check = CpuPlatform.check_and_update_config
def check_and_leave_the_method(config):
    method = os.environ.pop(METHOD, None)
    check(config)
    os.environ.pop(METHOD)
    if method is not None:
        os.environ[METHOD] = method
CpuPlatform.check_and_update_config = staticmethod(check_and_leave_the_method)
"""


def program(rest: str) -> str:
    return f"from service.environment import set_up_vllm\nset_up_vllm(1)\n{AS_ON_A_GPU}\n{rest}"


@pytest.mark.parametrize("asked", [None, "fork"], ids=["by default", "asked to fork"])
def test_it_is_spawned_after_this_process_has_computed(asked: str | None) -> None:
    """A fork of a process with OpenMP's threads waits for them for ever: it must not be one.

    It also ends with this process when that is killed, for vLLM's plugins are called in it: a fork
    believes that it has called them.
    """
    rest = f"""
import asyncio, multiprocessing, os, signal
from pathlib import Path
import torch
torch.set_num_threads(2)
torch.ones(10_000_000).sum()  # starts OpenMP's threads
from service.decoding.engine import Priority
from service.decoding.in_process import EngineOptions, start_engine
async def main():
    engine = await start_engine(Path({str(BUNDLE)!r}), max_tokens=64, options=EngineOptions())
    await engine.read([101, 2001, 2002], [2001], Priority.INTERACTIVE)
    (child,) = multiprocessing.active_children()
    print(type(child).__name__, child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    environment = os.environ | ({} if asked is None else {"VLLM_WORKER_MULTIPROC_METHOD": asked})

    done = subprocess.run(
        [sys.executable, "-c", program(rest)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )

    assert done.stdout, done.stderr
    kind, pid = done.stdout.split()
    assert kind == "SpawnProcess"
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
