"""The policy of each route: the key's scope, its share of capacity, its body.

A route declares its policy beside its path. The middleware that acts on it runs before routing, so
it looks the policy up by method and path.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from re import Pattern
from typing import Any, TypeVar

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.keys import Scope as KeyScope
from service.priority import Priority

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_DECLARED = "__policy__"
_FOUND = "policy"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What a route demands.

    Attributes:
        scope: of the caller's key; None: no key is needed.
        priority: which part of the room its requests take; None: they are sent all the time by
            those who run the service, so they are always admitted and leave no span.
        is_operation: it needs no key where operations are open (`ERC_OPEN_OPERATIONS`).
        takes_lines: its body may be lines of JSON, which have a limit of their own.
    """

    scope: KeyScope | None
    priority: Priority | None = Priority.INTERACTIVE
    is_operation: bool = False
    takes_lines: bool = False


def policy(
    scope: KeyScope | None,
    priority: Priority | None = Priority.INTERACTIVE,
    *,
    is_operation: bool = False,
    takes_lines: bool = False,
) -> Callable[[Endpoint], Endpoint]:
    """Declare the policy of a route, below the line that declares its path; see `Policy`."""
    declared = Policy(scope, priority, is_operation, takes_lines)

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _DECLARED, declared)
        return endpoint

    return declare


def declared_policy(route: Route) -> Policy | None:
    """The policy that a route declares."""
    return getattr(route.endpoint, _DECLARED, None)


class Policies:
    """The policies of an application's routes."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        """Read what routes declare.

        Raises:
            ValueError: a route declares nothing.
        """
        self._known: list[tuple[Pattern[str], set[str] | None, Policy]] = []
        for route in routes:
            if not isinstance(route, Route):
                raise ValueError(f"{route} is no route of a method and a path")
            policy = declared_policy(route)
            if policy is None:
                raise ValueError(f"{route.path} declares no policy")
            self._known.append((route.path_regex, route.methods, policy))

    def of(self, method: str, path: str) -> Policy:
        """The policy of the route that a request is for.

        Where there is none, a key is needed all the same: nobody learns without one which paths
        there are.
        """
        wanted = "GET" if method == "HEAD" else method
        for pattern, methods, policy in self._known:
            if (methods is None or wanted in methods) and pattern.match(path):
                return policy
        return _policy_of_no_route(method)


class RoutePolicies:
    """Middleware that leaves the policy of the route that a request is for to those inside."""

    def __init__(self, app: ASGIApp, policies: Policies) -> None:
        self.app = app
        self.policies = policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})[_FOUND] = self.policies.of(scope["method"], scope["path"])
        await self.app(scope, receive, send)


def policy_of(scope: Scope) -> Policy:
    """The policy that `RoutePolicies` found for a request."""
    found: Policy = scope["state"].get(_FOUND) or _policy_of_no_route(scope["method"])
    return found


def _policy_of_no_route(method: str) -> Policy:
    return Policy(KeyScope.READ if method in _READING else KeyScope.WRITE)
