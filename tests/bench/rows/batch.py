"""Row d: whole dialogues to the running service, POST /batch."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import uvloop

from service.conversation.dialogue import Dialogue
from tests.bench.client import Client, request
from tests.bench.load import closed_loop
from tests.bench.measuring import Measurement
from tests.bench.passes import WARM_UP
from tests.bench.processes import HOST, service
from tests.bench.rows.observed import observed
from tests.bench.setup import Setup

_CALLERS = 4
LOAD = f"{_CALLERS} batches at once"
_DIALOGUES = 30  # a batch's; with MELD's shape it holds some 300 utterances of the 1,000 allowed


def measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    return [uvloop.run(measure_batches(setup, demonstrations))]


async def measure_batches(
    setup: Setup, demonstrations: bool, settings: Mapping[str, str] = MappingProxyType({})
) -> Measurement:
    """Measure batches.

    Args:
        settings: further variables ERC_... of the service.
    """
    _, space = setup.load_bundle()
    passes = setup.passes

    def batches(numbers: Sequence[int]) -> list[list[bytes]]:
        return [
            [_request(dialogues[first : first + _DIALOGUES], space.name)]
            for number in numbers
            for dialogues in (passes(number),)
            for first in range(0, len(dialogues), _DIALOGUES)
        ]

    measured = batches(setup.measured_passes)
    with service(setup, demonstrations, settings=settings) as server:
        async with Client(HOST, server.port) as client:
            await closed_loop(client.send, batches([WARM_UP])[:1], 1)
            return await observed(
                server,
                client,
                closed_loop(client.send, measured, _CALLERS),
                row="d",
                name=LOAD,
                what="POST /batch",
                demonstrations=demonstrations,
            )


def _request(dialogues: Sequence[Dialogue], label_space: str) -> bytes:
    body = {
        "label_space": label_space,
        "dialogues": [
            {
                "id": f"{number}",
                "utterances": [
                    {"speaker": u.speaker, "text": u.text} for u in utterances.utterances
                ],
            }
            for number, utterances in enumerate(dialogues)
        ],
    }
    return request("POST", "/batch", json.dumps(body).encode())
