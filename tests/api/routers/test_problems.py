"""What the types of problems lead to."""

from typing import TYPE_CHECKING, Any

import pytest

from service.api.problems.kinds import FOREIGN, KINDS, PROBLEMS

if TYPE_CHECKING:
    from tests.api.conftest import Service


async def test_every_kind_is_listed_with_its_cause_and_its_remedy(service: "Service") -> None:
    """Each has words of its own, in sentences."""
    answer = await service.client.get("/problems")

    listed = answer.json()["problems"]
    assert [each["type"] for each in listed] == [f"/problems/{name}" for name in KINDS]
    assert set(KINDS.values()) >= {*PROBLEMS.values(), *FOREIGN.values()}
    for member in ("title", "cause", "remedy"):
        assert len({each[member] for each in listed}) == len(listed)
    for each in listed:
        for member in ("cause", "remedy"):
            assert len(each[member].split()) > 3
            assert each[member].endswith(".")


async def test_the_type_of_a_problem_leads_to_its_documentation(
    service: "Service", problem: Any
) -> None:
    """As a client meets it, without a second look at the documentation."""
    refused = await service.client.get("/dialogues/nobody")
    assert problem(refused) == (404, "dialogue-not-found")

    meant = (await service.client.get(refused.json()["type"])).json()

    assert meant["type"] == refused.json()["type"]
    assert (meant["status"], meant["title"]) == (404, refused.json()["title"])


@pytest.mark.parametrize(
    ("name", "refused"), [("nothing", (404, "no-such-path")), ("No-Such", (422, "invalid-request"))]
)
async def test_a_name_that_is_no_problem_s_is_refused(
    service: "Service", problem: Any, name: str, refused: tuple[int, str]
) -> None:
    """With a problem, which is listed."""
    assert problem(await service.client.get(f"/problems/{name}")) == refused
