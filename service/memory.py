"""The memory of the machine, or of the container that it is shared out to."""

import os
from pathlib import Path


def memory_bytes() -> int:
    """The memory that this process may use: the machine's, or its control group's limit."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int((Path("/sys/fs/cgroup") / limit).read_text("ascii")))
        except (OSError, ValueError):  # the other version of control groups, or "max"
            continue
    return memory
