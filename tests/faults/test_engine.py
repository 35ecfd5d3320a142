"""The engine's process hangs, or is killed."""

import concurrent.futures
import time

import httpx

from service.decoding.watched import WatchOptions
from tests.e2e.conftest import Service
from tests.faults.conftest import NOTICED_S, engine_of, eventually, has_ended, is_refused

STALLED_S = WatchOptions().stalled_after_s  # what those wait for who find out


def post(service: Service, dialogue: str) -> httpx.Response:
    return httpx.post(
        f"{service.url}/dialogues/{dialogue}/utterances",
        json={"speaker": "Ann", "text": "Is anybody there?"},
        timeout=60,
    )


def test_an_engine_that_hangs_is_noticed_and_one_that_goes_on_is_used_again(
    service: Service,
) -> None:
    """Within 15 s what waits is refused and the service is not ready; it stays alive."""
    engine = engine_of(service)
    engine.suspend()
    try:
        start = time.monotonic()
        waited = post(service, "hung")
        noticed_s = time.monotonic() - start
        refused = post(service, "hung")
        at_once_s = time.monotonic() - start - noticed_s
        ready, alive = (httpx.get(f"{service.url}/{path}") for path in ("readyz", "livez"))
    finally:
        engine.resume()

    assert (waited.status_code, refused.status_code) == (503, 503)
    assert waited.json()["type"] == "/problems/engine-unavailable"
    assert waited.headers["retry-after"]
    assert noticed_s < NOTICED_S
    assert at_once_s < STALLED_S
    assert (ready.status_code, alive.status_code) == (503, 200)
    assert ready.json()["checks"]["engine"] != "ok"
    back_s = eventually(lambda: not is_refused(service), NOTICED_S)
    assert post(service, "hung").json()["index"] == 0
    print(f"noticed after {noticed_s:.1f} s, ready {back_s:.1f} s after it went on")


def test_an_idle_engine_that_hangs_is_noticed_too(service: Service) -> None:
    """By a probe: nobody has to wait in vain first."""
    engine = engine_of(service)
    engine.suspend()
    try:
        noticed_s = eventually(lambda: is_refused(service), NOTICED_S)
    finally:
        engine.resume()
    eventually(lambda: not is_refused(service), NOTICED_S)
    print(f"noticed after {noticed_s:.1f} s")


def test_an_engine_that_hangs_for_good_ends_the_service(mortal: Service) -> None:
    """With status 1, so that whoever runs it starts it anew; the engine ends with it."""
    mortal.environment |= {"ERC_ENGINE__EXIT_AFTER_S": "12"}
    mortal.start()
    engine = engine_of(mortal)
    engine.suspend()

    assert mortal.process.wait(60) == 1
    eventually(lambda: has_ended(engine), 30)
    assert "instructerc: the label engine has not answered for 12 s" in "".join(mortal.output)


def test_a_killed_engine_fails_what_waits_and_ends_the_service(mortal: Service) -> None:
    """With 503 and status 1, within 15 s; what was acknowledged before is there afterwards."""
    mortal.start()
    mortal.say("kept", "Ann", "Remember this.")
    engine = engine_of(mortal)
    engine.suspend()  # so that the request is under way when it is killed
    with concurrent.futures.ThreadPoolExecutor() as threads:
        waiting = threads.submit(post, mortal, "lost")
        time.sleep(1)
        engine.kill()
        start = time.monotonic()
        answer = waiting.result(60)

    assert answer.status_code == 503
    assert mortal.process.wait(60) == 1
    assert time.monotonic() - start < NOTICED_S
    mortal.start()
    timeline = mortal.client.get("/dialogues/kept").json()
    assert [each["text"] for each in timeline["utterances"]] == ["Remember this."]
    assert mortal.client.get("/dialogues/lost").status_code == 404
