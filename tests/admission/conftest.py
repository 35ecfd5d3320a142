"""What tests of admission need."""

import asyncio


async def step() -> None:
    """Let everything go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)
