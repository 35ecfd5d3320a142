"""vLLM plugin that ends its processes with the service, even when the service is killed.

vLLM calls `end_with_parent` in each of its processes: it is an entry point of the group
`vllm.general_plugins` (pyproject.toml). Without it the engine would live on and hold its memory.
"""

import multiprocessing

from service.parent_death import end_with


def end_with_parent() -> None:
    """Make the kernel kill this process, if it is a child, when its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with(parent.pid)
