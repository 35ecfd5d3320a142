"""Servers as processes of their own: started, awaited, asked to end."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from service.decoding.precision import engine_type
from service.settings import Settings
from tests.bench.machine import REPOSITORY, gpus
from tests.bench.measuring import MemoryWatch, process_and_below
from tests.bench.setup import Setup

HOST = "127.0.0.1"
_START_S = 1800.0  # cores that many others use too
_END_S = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    pid: int
    port: int

    def get(self, path: str) -> str:
        """The body of an answer.

        Raises:
            URLError: no such answer.
        """
        with urlopen(f"http://{HOST}:{self.port}{path}", timeout=60) as answer:
            body: bytes = answer.read()
        return body.decode()


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process leaves: its exit status, what it printed, and its peak memory in MiB."""

    status: int
    printed: str
    peak_mib: float


def run_watched(command: Sequence[str], *, whole: bool = True) -> Ended:
    """Run a command of this repository to its end.

    Args:
        whole: whether its own memory counts, not only that of the processes below it.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

        def watched() -> list[psutil.Process]:
            return process_and_below(process.pid)[0 if whole else 1 :]

        try:
            with MemoryWatch(watched) as memory:
                status = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        output.seek(0)
        return Ended(status, output.read(), memory.peak_mib)


class DidNotStart(Exception):
    """A server ended, or kept still, before it was ready; the message is what it printed."""


@contextmanager
def service(
    setup: Setup,
    demonstrations: bool,
    database: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """`instructerc serve`, with an index of its own.

    Other variables ERC_... that are set apply, so that settings can be compared.

    Args:
        database: an SQLite file; None: a new one.
        settings: further variables ERC_...
    """
    folder = Path(setup.folder) / f"service-{time.monotonic_ns()}"
    folder.mkdir()
    ours = {
        "ERC_HOST": HOST,
        "ERC_PORT": "0",
        "ERC_BUNDLE": setup.bundle,
        "ERC_DATABASE__URL": f"sqlite:///{database or folder / 'erc.sqlite3'}",
        "ERC_DEMONSTRATIONS__FOLDER": str(folder / "demonstrations"),
        "ERC_DEMONSTRATIONS__SHOWN": json.dumps(demonstrations),
        "PYTHONPATH": str(REPOSITORY),
        **settings,
    }
    command = [sys.executable, "-m", "service.cli", "serve"]
    with _process(command, ours, folder) as (process, log):

        def port() -> int | None:
            match = re.search(r"ready at http://\S+:(\d+),", log.read_text())
            return None if match is None else int(match[1])

        yield Server(process.pid, _awaited(process, log, port))


@contextmanager
def vllm_server(
    setup: Setup, settings: Settings, max_tokens: int, threads: int
) -> Iterator[Server]:
    """vLLM's OpenAI server with what the service's engine is started with, as far as flags go.

    As a module: the script `vllm` of the CPU build looks for metadata under another name. It needs
    no tokenizer for prompts of token ids whose answers name tokens by their ids.

    Args:
        max_tokens: the longest prompt with the token read after it.
        threads: cores that one step computes on, where vLLM runs on a CPU.
    """
    folder = Path(setup.folder) / f"vllm-{time.monotonic_ns()}"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    engine = settings.engine
    flags: dict[str, str | None] = {
        "--model": setup.bundle,
        "--served-model-name": "bundle",
        "--host": HOST,
        "--port": str(port),
        "--load-format": "safetensors",
        "--skip-tokenizer-init": None,
        "--dtype": engine_type(engine.dtype),
        "--hf-overrides": json.dumps({"head_dtype": "float32"}),
        "--max-model-len": str(max_tokens),
        "--max-num-seqs": str(engine.max_sequences),
        "--gpu-memory-utilization": str(engine.gpu_memory),
        "--enable-prefix-caching": None,
        "--enable-prompt-tokens-details": None,
        "--scheduling-policy": "priority",
        "--max-logprobs": "128",
        "--disable-uvicorn-access-log": None,
    }
    ours = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    if not gpus():
        flags |= {"--block-size": "32", "--distributed-executor-backend": "uni"}
        ours |= {
            "VLLM_CPU_KVCACHE_SPACE": str(engine.kv_cache_gib),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "OMP_NUM_THREADS": str(threads),
        }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    for flag, value in flags.items():
        command += [flag] if value is None else [flag, value]
    with _process(command, ours, folder) as (process, log):
        server = Server(process.pid, port)

        def healthy() -> int | None:
            try:
                server.get("/health")
            except (URLError, OSError):
                return None
            return port

        _awaited(process, log, healthy)
        yield server


@contextmanager
def _process(
    command: Sequence[str], variables: Mapping[str, str], folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that prints into a file and is ended on leaving."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _awaited(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], int | None]) -> int:
    """What `ready` answers, once it does.

    Raises:
        DidNotStart: it did not in time, or the process ended before.
    """
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        port = ready()
        if port is not None:
            return port
        time.sleep(0.2)
    raise DidNotStart(f"{process.args!r}:\n{log.read_text()}")
