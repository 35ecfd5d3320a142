"""Routes of the console: its pages, their files, and what the caller's key may do.

The pages hold no data, so they need no key; their scripts call the API with the one that a person
enters. Users' texts and keys are in these pages, so nothing from another host may run in them or
receive anything.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from service.access.callers import ANYBODY
from service.access.keys import Scope
from service.api.bodies.json_bodies import json_response
from service.api.policies import policy
from service.api.problems.kinds import NO_SUCH_PATH
from service.api.response_headers import CACHE_CONTROL, KEPT_BY_CLIENTS
from service.api.services import CallerDep

router = APIRouter(prefix="/console", include_in_schema=False)

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        # No script of the pages writes HTML.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    **KEPT_BY_CLIENTS,
}
# The URL contains a digest of all files.
_UNCHANGING: Mapping[str, str] = {CACHE_CONTROL: "public, max-age=31536000, immutable"}

_MEDIA_TYPES: Mapping[str, str] = {".css": "text/css", ".mjs": "text/javascript"}

# Each has a template and a script of its name; the first is at /console itself.
_START = "conversations"
PAGES = (_START, "conversation", "review", "try")


@router.get("", response_class=HTMLResponse)
@policy(None)
async def start_page() -> Response:
    """The list of conversations."""
    return HTMLResponse(_page(_START, "."), headers=dict(_PAGE_HEADERS))


@router.get("/access")
@policy(Scope.READ)
async def read_access(caller: CallerDep) -> Response:
    """What the caller's key may do; the pages offer nothing else."""
    return json_response(
        {
            "keys": caller is not ANYBODY,
            "tenant": caller.tenant,
            "scopes": [
                scope for scope in Scope if scope in caller.scopes or Scope.ADMIN in caller.scopes
            ],
        }
    )


@router.get("/{name}", response_class=HTMLResponse)
@policy(None)
async def page(name: str) -> Response:
    """A page of the console."""
    if name not in PAGES or name == _START:
        raise HTTPException(NO_SUCH_PATH.status)
    return HTMLResponse(_page(name, ".."), headers=dict(_PAGE_HEADERS))


@router.get("/{digest}/{name}")
@policy(None)
async def asset(digest: str, name: str) -> Response:
    """A script or style sheet of the pages."""
    content = assets().get(name)
    if content is None:
        raise HTTPException(NO_SUCH_PATH.status)
    headers = _UNCHANGING if digest == _digest() else KEPT_BY_CLIENTS
    media_type = _MEDIA_TYPES[PurePath(name).suffix]
    return Response(content, headers=dict(headers), media_type=media_type)


@cache
def assets() -> Mapping[str, bytes]:
    """The scripts and style sheets, by name."""
    return {
        file.name: file.read_bytes()
        for file in files("service.console").joinpath("static").iterdir()
        if PurePath(file.name).suffix in _MEDIA_TYPES
    }


@cache
def _digest() -> str:
    whole = hashlib.sha256()
    for name, content in sorted(assets().items()):
        whole.update(f"{name} {len(content)} ".encode() + content)
    return whole.hexdigest()[:16]


@cache
def _page(name: str, root: str) -> str:
    """A page as HTML.

    Args:
        root: where the service is, seen from the page; relative, so that a proxy may add a prefix.
    """
    environment = Environment(
        loader=PackageLoader("service.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{name}.html").render(
        name=name, root=root, static=f"{root}/console/{_digest()}"
    )
