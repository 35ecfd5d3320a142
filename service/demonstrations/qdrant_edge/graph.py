"""Building the HNSW graphs of an embedded index in a separate process.

`python -m service.demonstrations.qdrant_edge.graph SHARD PARENT` is that process.

The library holds Python's interpreter lock while it builds, for seconds to minutes, so this must
not happen in the serving process.
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
    """The process that builds the graphs failed, or was killed."""


async def build_graphs(shard: Path) -> None:
    """Put every row of a closed shard into a graph, where the shard's configuration requires one.

    Existing graphs are extended, so the cost depends on the rows added. The process has the lowest
    priority and ends with this one, or when the caller is cancelled.

    Raises:
        GraphNotBuilt: the process failed; the shard is unchanged.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # so that files in the working directory do not shadow modules
        "-m",
        __name__,
        str(shard),
        str(os.getpid()),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
    )
    try:
        _, stderr = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        reason = stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise GraphNotBuilt(reason or f"exit status {process.returncode}")


def _main(shard: str, parent: int) -> None:
    # No Python code runs while the library works, not even signal handlers.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with(parent)
    os.nice(_LOWEST_PRIORITY)
    edge_shard = qdrant.EdgeShard.load(shard)
    edge_shard.optimize()
    edge_shard.flush()
    edge_shard.close()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
