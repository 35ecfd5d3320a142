"""Starting vLLM's process as a fork of this one, which halves the start on a CPU.

vLLM itself starts a new one there, for a copy has the thread alone that makes it: a lock that
another thread holds stays locked in it for ever, and threads of OpenMP, once there were any, are
waited for in vain.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing.util import register_after_fork
from typing import TypeVar

from service.decoding.parent_death import end_with_parent
from service.environment import environment

T = TypeVar("T")

_once_forked: list[Callable[[], None]] = []


def may_fork() -> bool:
    """Whether a copy of this process can compute: to be asked before anything is loaded.

    No other thread runs, and torch, which nobody has imported, has not computed anything. What is
    loaded from then on may import torch, and not compute with it.
    """
    return threading.active_count() == 1 and "torch" not in sys.modules


@contextmanager
def forking(once_begun: Callable[[], None]) -> Iterator[None]:
    """Have the process that vLLM starts inside the block be a copy of this one.

    Args:
        once_begun: called by this process, once, when the copy has been made; it may start a thread
            with `beside`, but not wait for a lock that somebody holds around a fork.
    """
    import torch

    torch._dynamo.config.disable = True  # as TORCH_COMPILE_DISABLE, which has been read already
    # vLLM calls its plugins once, and a copy has that behind it.
    register_after_fork(end_with_parent, lambda end: end())
    _once_forked.append(once_begun)
    try:
        with environment(VLLM_WORKER_MULTIPROC_METHOD="fork"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's, at vLLM, in the copy
            # Python's from 3.12 on, at the threads of ZeroMQ, which the copy makes no use of.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
        _call_once_forked()  # where vLLM has started a new process all the same, as under WSL
    finally:
        _once_forked.clear()


def beside(work: Callable[[], T]) -> Future[T]:
    """Do something on a thread of its own, also where a fork is being made.

    An executor would wait there for its own lock, which `concurrent.futures` holds around forks.
    """
    found: Future[T] = Future()

    def run() -> None:
        found.set_running_or_notify_cancel()
        try:
            found.set_result(work())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, name="beside-vllm").start()
    return found


def _call_once_forked() -> None:
    while _once_forked:
        _once_forked.pop()()


os.register_at_fork(after_in_parent=_call_once_forked)
