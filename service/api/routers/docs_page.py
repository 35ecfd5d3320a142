"""Routes of the documentation page: Swagger UI, served from this process alone.

Users paste keys into it, so nothing from another host may run on it or receive them.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from service.access.keys import Scope
from service.api.policies import policy
from service.api.problems.kinds import NO_SUCH_PATH
from service.api.response_headers import CACHE_CONTROL, KEPT_BY_CLIENTS

router = APIRouter(include_in_schema=False)

# Swagger UI's icons are `data:` images in its style sheet.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    **KEPT_BY_CLIENTS,
}
# Private, as a key may be needed; immutable, as the URL contains a digest of the content.
_UNCHANGING: Mapping[str, str] = {CACHE_CONTROL: "private, max-age=31536000, immutable"}

# URLs are relative, so that a proxy may add a prefix. Keys are not stored, and no other host is
# asked to validate the document.
_START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>InstructERC</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/{style}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/{bundle}"></script>
<script src="docs/{start}"></script>
</body>
</html>
"""

_MEDIA_TYPES: Mapping[str, str] = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "start.js": "text/javascript",
}


@router.get("/docs", response_class=HTMLResponse)
@policy(Scope.ADMIN, is_operation=True)
async def docs() -> Response:
    """The documentation page."""
    page = _PAGE.format(
        style=_address("swagger-ui.css"),
        bundle=_address("swagger-ui-bundle.js"),
        start=_address("start.js"),
    )
    return HTMLResponse(page, headers=dict(_PAGE_HEADERS))


@router.get("/docs/{name}")
@policy(Scope.ADMIN, is_operation=True)
async def docs_asset(name: str, request: Request) -> Response:
    """A script or style sheet of the page."""
    if name not in _MEDIA_TYPES:
        raise HTTPException(NO_SUCH_PATH.status)
    headers = _UNCHANGING if request.url.query == _digest(name) else KEPT_BY_CLIENTS
    return Response(_content(name), headers=dict(headers), media_type=_MEDIA_TYPES[name])


@cache
def _content(name: str) -> bytes:
    if name == "start.js":
        return _START.encode()
    return files("service.api").joinpath("swagger_ui", name).read_bytes()


def _address(name: str) -> str:
    return f"{name}?{_digest(name)}"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(_content(name)).hexdigest()[:16]
