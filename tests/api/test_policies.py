"""What routes demand of requests, declared beside their paths."""

import pytest
from starlette.routing import Route

from service.access.keys import Scope
from service.api.policies import Policies, declared_policy, policy
from service.app import create_app
from service.priority import Priority
from service.settings import Settings


async def _endpoint() -> None:
    """Answers nothing."""


@pytest.fixture(scope="module")
def routes() -> list[Route]:
    return [route for route in create_app(Settings()).api.routes if isinstance(route, Route)]


def test_every_route_declares_its_policy(routes: list[Route]) -> None:
    assert [route.path for route in routes if declared_policy(route) is None] == []
    assert len(routes) >= 20


def test_a_route_without_a_policy_stops_the_start() -> None:
    """Or what nobody thought of would be open to whoever asks."""
    with pytest.raises(ValueError, match="/new declares no policy"):
        Policies([Route("/new", _endpoint)])


def test_a_policy_is_found_by_method_and_path() -> None:
    @policy(Scope.READ)
    async def read() -> None: ...

    @policy(Scope.ADMIN, Priority.BATCH)
    async def write() -> None: ...

    policies = Policies(
        [Route("/things/{id}", read), Route("/things/{id}", write, methods=["PUT"])]
    )

    assert policies.of("GET", "/things/1").scope is Scope.READ
    assert policies.of("HEAD", "/things/1") == policies.of("GET", "/things/1")
    assert policies.of("PUT", "/things/1").priority is Priority.BATCH


def test_a_method_that_a_path_lacks_is_refused_as_such_where_the_path_is_open() -> None:
    """Elsewhere the caller shows a key first."""

    @policy(None)
    async def open_to_all() -> None: ...

    @policy(Scope.ADMIN, is_operation=True)
    async def operation() -> None: ...

    @policy(Scope.WRITE)
    async def write() -> None: ...

    policies = Policies(
        [Route("/open", open_to_all), Route("/numbers", operation), Route("/write", write)]
    )

    assert policies.of("TRACE", "/open").scope is None
    assert policies.of("POST", "/numbers").is_operation
    assert policies.of("OPTIONS", "/write").scope is Scope.READ


@pytest.mark.parametrize(("method", "scope"), [("GET", Scope.READ), ("POST", Scope.WRITE)])
def test_a_path_that_there_is_not_needs_a_key(method: str, scope: Scope) -> None:
    """Nobody learns without one which paths there are."""
    assert Policies([]).of(method, "/nothing").scope is scope


def test_no_key_is_needed_by_those_who_look_after_it_and_those_who_were_refused(
    routes: list[Route],
) -> None:
    without = {
        route.path for route in routes if getattr(declared_policy(route), "scope", 0) is None
    }

    pages = {"/console", "/console/{name}", "/console/{digest}/{name}"}
    assert without == {"/livez", "/readyz", "/problems", "/problems/{name}", *pages}
