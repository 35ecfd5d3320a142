"""A process of its own that does jobs: `python -m tests.jobs.worker URL NAME LEASE_S`.

A dialogue takes 20 ms, and its result names the process. It prints each that it has scored.
"""

import asyncio
import sys
from typing import Any

from service.jobs import JobRunner
from service.sessions.database import open_database
from service.sessions.jobs import Jobs


async def main(url: str, name: str, lease_s: float) -> None:
    async def score(tenant: str, label_space: str, dialogue: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.02)
        print(dialogue["line"], flush=True)
        return {"line": dialogue["line"], "by": name}

    await JobRunner(Jobs(open_database(url)), score, lease_s, pause_s=0.05).run()


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
