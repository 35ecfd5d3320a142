"""A process of its own that does jobs.

`python -m tests.dialogues.jobs.worker URL NAME LEASE_S MOST` works as the process NAME.
A dialogue takes 20 ms, and its result names the process. It prints each that it has scored,
and goes no further than MOST of them.
"""

import asyncio
import sys
from typing import Any

from service.dialogues.jobs import JobRunner
from service.sessions.database import open_database
from service.sessions.jobs import Jobs


async def main(url: str, name: str, lease_s: float, most: int) -> None:
    left = most

    async def score(tenant: str, label_space: str, dialogue: dict[str, Any]) -> dict[str, Any]:
        nonlocal left
        if not left:
            await asyncio.Event().wait()
        left -= 1
        await asyncio.sleep(0.02)
        print(dialogue["line"], flush=True)
        return {"line": dialogue["line"], "by": name}

    await JobRunner(Jobs(open_database(url)), score, lease_s, pause_s=0.05).run()


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
