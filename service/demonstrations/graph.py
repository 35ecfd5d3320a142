"""Building the HNSW graphs of an embedded index in a separate process.

`python -m service.demonstrations.graph SHARD PARENT` is that process.

The library holds Python's interpreter lock for as long as it builds, seconds to minutes, so this
must not happen in the process that serves.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import qdrant_edge as qdrant

from service.parent_death import end_with

_LOWEST_PRIORITY = 19


class GraphNotBuilt(Exception):
    """The process that builds failed, or was killed."""


async def build_graphs(shard: Path) -> None:
    """Have every row of a closed shard in a graph, where the shard's configuration wants one.

    What is in a graph stays in it, so this costs little where little was added. The process has the
    lowest priority and ends with this one, or when the caller is cancelled.

    Raises:
        GraphNotBuilt: the process failed; the shard holds what it held.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # lest what lies where the service was started passes for packages' modules
        "-m",
        __name__,
        str(shard),
        str(os.getpid()),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
    )
    try:
        _, said = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        reason = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise GraphNotBuilt(reason or f"exit status {process.returncode}")


def _main(shard: str, parent: int) -> None:
    # No Python code runs while the library works, handlers of signals included.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with(parent)
    os.nice(_LOWEST_PRIORITY)
    opened = qdrant.EdgeShard.load(shard)
    opened.optimize()
    opened.flush()
    opened.close()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
