"""Clients that leave before they are answered."""

import httpx
import pytest

from tests.e2e.conftest import Service
from tests.faults.conftest import eventually, number, whole_batch


def busy(service: Service) -> float:
    """Prompts that vLLM has, and utterances that wait for it."""
    return (
        number(service, "vllm:num_requests_running")
        + number(service, "vllm:num_requests_waiting")
        + number(service, "erc_queue_length")
        + number(service, "erc_requests_in_flight")
    )


def test_a_batch_whose_client_leaves_frees_the_engine(service: Service) -> None:
    """Soon nothing of it runs or waits any more; the next one is answered."""
    before = number(service, "erc_rejections_total", reason="client_left")

    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{service.url}/batch", json=whole_batch(1000), timeout=httpx.Timeout(60, read=1)
        )

    free_s = eventually(lambda: busy(service) == 0, 15)
    assert number(service, "erc_rejections_total", reason="client_left") == before + 1
    assert httpx.post(f"{service.url}/batch", json=whole_batch(10), timeout=60).is_success
    print(f"free after {free_s:.1f} s")
