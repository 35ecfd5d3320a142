"""The policy of each route: the key's scope, its share of capacity, its body.

A route declares its policy beside its path. The middleware that acts on it runs before routing, so
it looks the policy up by method and path. Whose data a caller sees is its tenant's to say
(`service/access/callers.py`).
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
_STATE = "policy"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Policy:
    """What a route requires.

    Attributes:
        scope: the scope that the caller's key must have; None: no key is needed.
        priority: the share of capacity that its requests use; None: probes and scrapes, which are
            always admitted and have no span.
        is_operation: whether it needs no key where operations are open (`ERC_OPEN_OPERATIONS`).
        takes_lines: whether its body may be NDJSON, which has its own limit.
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
    """Decorate an endpoint with its policy, below the decorator with its path; see `Policy`."""
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
        """Read the declared policies.

        Raises:
            ValueError: a route declares no policy.
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
        """The policy of the route that matches a request.

        A key is required where none matches, too: without one nobody learns which paths exist. Of
        a path that everybody may know, everybody may also learn that it lacks a method.
        """
        routed = "GET" if method == "HEAD" else method
        policy_of_path = None
        for pattern, methods, policy in self._known:
            if pattern.match(path):
                if methods is None or routed in methods:
                    return policy
                policy_of_path = policy
        if policy_of_path is not None and (
            policy_of_path.scope is None or policy_of_path.is_operation
        ):
            return policy_of_path
        return _policy_of_no_route(method)


class RoutePolicies:
    """Middleware that stores a request's policy in its state, for the inner layers."""

    def __init__(self, app: ASGIApp, policies: Policies) -> None:
        self.app = app
        self.policies = policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})[_STATE] = self.policies.of(scope["method"], scope["path"])
        await self.app(scope, receive, send)


def policy_of(scope: Scope) -> Policy:
    """The policy that `RoutePolicies` stored for a request."""
    policy: Policy = scope["state"].get(_STATE) or _policy_of_no_route(scope["method"])
    return policy


def _policy_of_no_route(method: str) -> Policy:
    return Policy(KeyScope.READ if method in _READING else KeyScope.WRITE)
