"""Row d': whole dialogues to the service, POST /batch, that reads them on vLLM's own server."""

from dataclasses import replace

import uvloop

from service.settings import load_settings
from tests.bench.measuring import Measurement
from tests.bench.processes import HOST, vllm_server
from tests.bench.rows.batch import measure_batches
from tests.bench.rows.engine import engine_threads
from tests.bench.setup import Setup


def measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    bundle, _ = setup.load_bundle()
    with vllm_server(setup, load_settings(), bundle.max_tokens, engine_threads()) as server:
        settings = {
            "ERC_ENGINE__URLS": f"http://{HOST}:{server.port}",
            "ERC_ENGINE__MODEL": "bundle",
        }
        measured = uvloop.run(measure_batches(setup, demonstrations, settings))
    return [
        replace(
            measured,
            row="d'",
            what="POST /batch, vLLM on a server",
            note="processor time of the service alone",
        )
    ]
