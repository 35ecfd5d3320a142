"""Has vLLM's processes end with the service, also when it is killed and cannot end them itself.

vLLM calls `end_with_parent` in each of its processes: it is an entry point of the group
`vllm.general_plugins` (pyproject.toml). Without it the engine would live on, with its memory.
"""

import ctypes
import multiprocessing
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have the kernel kill this process, if it is a child, when its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent.pid:  # it ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)
