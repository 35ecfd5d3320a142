"""A process that starts services in half the time: it has imported what they import, and forks.

`python -m tests.faults.starter` reads one start after the other from stdin, as a line of JSON with
`environment`, `folder`, `output` and `status`, and prints the process that it has started. What it
starts is `instructerc serve`, with an engine process of its own; it is killed when this one ends.
Once it has ended, its exit status is in the file `status`.
"""

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

# As the service sets it before it imports them.
LIBRARIES = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
IMPORTED = (
    "uvicorn",
    "sentence_transformers",
    "qdrant_client",
    "vllm.engine.arg_utils",
    "vllm.v1.engine.async_llm",
    "service.app",
    "service.cli",
)
PR_SET_PDEATHSIG = 1  # linux/prctl.h

files: dict[int, Path] = {}  # for the statuses


def main() -> None:
    os.environ.update(LIBRARIES)
    for name in IMPORTED:
        import_module(name)
    signal.signal(signal.SIGCHLD, tell_statuses)
    for line in sys.stdin:
        start = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        process = os.fork()
        if not process:
            serve(start)
        files[process] = Path(start["status"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(process, flush=True)


def tell_statuses(*_: object) -> None:
    """Write the status of each that has ended, as `subprocess` gives it."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            process, status = ended
            told = files.pop(process)
            unfinished = told.with_suffix(".unfinished")
            unfinished.write_text(str(os.waitstatus_to_exitcode(status)))
            unfinished.rename(told)


def serve(start: Any) -> None:
    """Be the service; never returns."""
    from service import cli

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    output = os.open(start["output"], os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, wanted in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(ours, wanted)
    os.chdir(start["folder"])
    os.environ.clear()
    os.environ.update(start["environment"] | LIBRARIES)
    sys.argv = ["instructerc", "serve"]
    status = 1
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
