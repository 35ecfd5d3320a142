"""The page at /docs, where keys are pasted."""

import asyncio
import hashlib
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.api.serving import serving
from tests.console.conftest import ARGUMENTS

if TYPE_CHECKING:
    from tests.api.conftest import Service

VENDORED = Path(__file__).parents[3] / "service" / "api" / "swagger_ui"
BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)


class Page(HTMLParser):
    """What a page loads, and what of it is within the page.

    Attributes:
        addresses: of scripts, styles and icons.
        scripts: texts of scripts within the page.
        handlers: names of attributes that hold scripts or styles.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses = list[str]()
        self.scripts = list[str]()
        self.handlers = list[str]()
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.scripts.append(data)


async def test_everything_on_the_page_is_from_this_process(service: "Service") -> None:
    """Whatever another host sent could read the keys."""
    answer = await service.client.get("/docs")
    page = Page(answer.text)

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not page.scripts + page.handlers
    assert "://" not in answer.text
    loaded = [each for each in page.addresses if each != "data:,"]
    assert len(loaded) == 3
    for address in loaded:
        response = await service.client.get(urljoin("/docs", address))
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] in ("text/css", "text/javascript")
        assert response.headers["cache-control"] == "private, max-age=31536000, immutable"
        for other in (address.partition("?")[0], address + "0"):
            response = await service.client.get(urljoin("/docs", other))
            assert response.headers["cache-control"] == "private, no-cache"


async def test_the_page_runs_nothing_else_and_is_shown_nowhere_else(service: "Service") -> None:
    """No script within it, none of another host, no frame around it; nothing is told of it."""
    headers = (await service.client.get("/docs")).headers

    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
    assert policy.pop("img-src") == "'self' data:"
    assert {name: policy.pop(f"{name}-src") for name in ("script", "style", "connect")} == (
        dict.fromkeys(("script", "style", "connect"), "'self'")
    )
    assert set(policy.values()) == {"'none'"}
    assert policy.keys() == {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/docs/", "/docs/oauth2-redirect", "/docs/README.md", "/docs/..%2fopenapi.json"]
)
async def test_nothing_else_is_served_with_the_page(
    service: "Service", problem: Any, path: str
) -> None:
    """No file that lies beside it, and no route that nothing needs."""
    assert problem(await service.client.get(path)) == (404, "no-such-path")


def test_swagger_ui_is_as_it_was_published() -> None:
    """`make swagger-ui` writes the hashes, from the package that it checks."""
    hashes = (VENDORED / "SHA256SUMS").read_text("ascii").splitlines()

    listed = dict(line.split("  ")[::-1] for line in hashes)
    sha256s = {
        name: hashlib.sha256((VENDORED / name).read_bytes()).hexdigest()
        for name in {path.name for path in VENDORED.iterdir()} - {"SHA256SUMS", "README.md"}
    }
    assert sha256s == listed


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
async def test_a_browser_shows_every_call(service: "Service", tmp_path: Path) -> None:
    """It reports nothing that the policy forbade, and looks for no other host."""
    assert BROWSER is not None
    log = tmp_path / "net.json"
    async with serving(service) as served:
        process = await asyncio.create_subprocess_exec(
            BROWSER,
            *ARGUMENTS,
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={log}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"http://127.0.0.1:{served.port}/docs",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        shown, stderr_text = await process.communicate()

    for path in service.app.openapi()["paths"]:
        assert f'data-path="{path}"' in shown.decode()
    assert "Content Security Policy" not in stderr_text.decode()
    requests = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # The browser asks its maker's hosts by itself; an initiator is the page that asks.
    hosts = {
        urlsplit(request["url"]).hostname
        for request in requests
        if "url" in request and request.get("initiator") == f"http://127.0.0.1:{served.port}"
    }
    assert hosts == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["/label-spaces", "/nothing", "/metrics", "/docs/start.js"])
async def test_no_answer_is_taken_for_another_kind(service: "Service", path: str) -> None:
    """Nor a refusal, which repeats what was asked for, for a page."""
    answer = await service.client.get(path, headers={"Accept": "text/html"})

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "html" not in answer.headers["content-type"]
