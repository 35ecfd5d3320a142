"""What outlives the process."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Service, environment


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_acknowledged_utterances_outlive_a_kill_and_a_stop_is_clean(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """After SIGKILL the dialogue goes on where it was; SIGTERM ends the process with status 0."""
    settings = environment(tmp_path)
    if database == "postgresql":
        settings["ERC_DATABASE__URL"] = request.getfixturevalue("postgres_url")
    service = Service(tmp_path, settings)
    service.start()
    before = [service.say("call", "Ann", f"Remark {n}, and I am so happy!") for n in range(3)]
    added = service.client.post(
        "/demonstrations",
        json={"demonstrations": [{"label_space": "meld", "label": "joy", "text": "Hip hip!"}]},
    )
    assert added.status_code == 201

    service.kill()
    service.start()

    timeline = service.client.get("/dialogues/call").json()
    assert [u["emotion"] for u in timeline["utterances"]] == [u["emotion"] for u in before]
    assert service.say("call", "Bob", "Me too.")["index"] == 3
    listed = service.client.get("/demonstrations", params={"label_space": "meld", "limit": 500})
    assert "Hip hip!" in [d["text"] for d in listed.json()["demonstrations"]]
    assert service.stop() == 0
