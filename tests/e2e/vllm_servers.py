"""vLLM's own servers on the shipped bundle, as docs/engines.md starts them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import BUNDLE, REPOSITORY, START_S

# `vllm serve` of the CPU build looks for metadata under another name; the module takes its flags.
VLLM_SERVE = (sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model")
FLAGS = (
    *("--served-model-name", "erc-mini"),
    *("--load-format", "safetensors"),
    "--skip-tokenizer-init",
    *("--max-model-len", "512"),
    *("--max-num-seqs", "32"),
    *("--max-logprobs", "128"),
    "--enable-prefix-caching",
    *("--scheduling-policy", "priority"),
    "--enable-prompt-tokens-details",
    "--enable-per-request-metrics",
    *("--shutdown-timeout", "20"),
    "--disable-uvicorn-access-log",
)
CPU_FLAGS = ("--block-size", "32", "--distributed-executor-backend", "uni", "--enforce-eager")
KEY = "between-service-and-servers"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Process:
    """A server as a process, which may be started again on its port."""

    command: Sequence[str]
    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.port}.log"

    def launch(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=os.environ | self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it is healthy."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.3)
        pytest.fail("it did not start:\n" + self.log.read_text(errors="replace")[-5000:])

    def start(self) -> None:
        self.launch()
        self.wait()

    def kill(self) -> None:
        """End it and its children at once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Ask it to end, as Kubernetes does."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(90)


def vllm_server(folder: Path, *more: str, bundle: Path = BUNDLE) -> Process:
    port = free_port()
    address = ("--host", "127.0.0.1", "--port", str(port))
    return Process(
        (*VLLM_SERVE, str(bundle), *FLAGS, *CPU_FLAGS, *address, *more),
        folder,
        port,
        {
            "PYTHONPATH": str(REPOSITORY),
            "VLLM_API_KEY": KEY,
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "TORCH_COMPILE_DISABLE": "1",
            "OMP_NUM_THREADS": "1",
        },
    )


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    """Start several side by side; kill what is left of them in the end."""
    try:
        for process in processes:
            process.launch()
        for process in processes:
            process.wait()
        yield
    finally:
        for process in processes:
            process.kill()


def vllm_router(folder: Path, urls: Sequence[str]) -> Process:
    """A router that keeps each session with a server; skips where it is not installed."""
    program = os.environ.get("ERC_TEST_VLLM_ROUTER") or shutil.which("vllm-router")
    if program is None:
        pytest.skip("vllm-router is not installed; ERC_TEST_VLLM_ROUTER may name its program")
    port, numbers = free_port(), free_port()
    flags = (
        *("--worker-urls", *urls),
        *("--policy", "consistent_hash"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--prometheus-port", str(numbers)),
    )
    return Process((program, *flags), folder, port)
