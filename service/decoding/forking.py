"""Starting vLLM's process as a fork of this one, which halves the start on a CPU.

vLLM itself starts a new process there, because a fork has only the thread that makes it: a lock
that another thread holds stays locked in it for ever, and it waits in vain for OpenMP's threads, if
there were any.
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
    """Whether a fork of this process can compute; call it before anything is loaded.

    No other thread runs, and torch has not been imported, so it has not computed anything. Modules
    loaded from then on may import torch, but not compute with it.
    """
    return threading.active_count() == 1 and "torch" not in sys.modules


@contextmanager
def forking(once_begun: Callable[[], None]) -> Iterator[None]:
    """Make the process that vLLM starts inside the block a fork of this one.

    Args:
        once_begun: called once, in this process, after the fork; it may start a thread with
            `beside`, but must not wait for a lock that is held around a fork.
    """
    import torch

    torch._dynamo.config.disable = True  # TORCH_COMPILE_DISABLE has been read already
    # vLLM calls its plugins once a process, and in the fork it has done so already.
    register_after_fork(end_with_parent, lambda end: end())
    _once_forked.append(once_begun)
    try:
        with environment(VLLM_WORKER_MULTIPROC_METHOD="fork"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's, about vLLM, in the fork
            # Python's, from 3.12 on, about the threads of ZeroMQ, which the fork does not use.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
        _call_once_forked()  # if vLLM has started a new process after all, as under WSL
    finally:
        _once_forked.clear()


def beside(work: Callable[[], T]) -> Future[T]:
    """Run `work` on a new thread, even while a fork is being made.

    An executor would wait there for its own lock, which `concurrent.futures` holds around forks.
    """
    future: Future[T] = Future()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="beside-vllm").start()
    return future


def _call_once_forked() -> None:
    while _once_forked:
        _once_forked.pop()()


os.register_at_fork(after_in_parent=_call_once_forked)
