"""The pages as they are served: open to all, without data, from this process alone."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from service.access.keys import Key, Scope, digest, entry, new_key
from service.app import create_app
from service.console.pages import PAGES, assets
from service.settings import Settings

PATHS = ["/console", *(f"/console/{name}" for name in PAGES[1:])]
MOST_BYTES = 200 * 1024
TEMPLATES = Path(__file__).parents[2] / "service" / "console" / "templates"
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
}


class Page(HTMLParser):
    """What a page leads to, and what of it is within the page.

    Attributes:
        addresses: of scripts, styles, icons and links, but for those within the page.
        inline: scripts and styles in the page, and attributes that hold such.
        ids: of its elements.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses = list[str]()
        self.inline = list[str]()
        self.ids = set[str]()
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        for name, value in attrs:
            if name in ("src", "href") and not (value or "").startswith(("#", "data:")):
                self.addresses.append(value or "")
            if name.startswith("on") or name == "style":
                self.inline.append(name)
            if name == "id":
                self.ids.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.inline.append(data)


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, whose parts are not open: the pages need none of them."""
    transport = httpx.ASGITransport(create_app(settings).api)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_takes_nothing_from_elsewhere_and_runs_nothing_within(path: str) -> None:
    async with client_of(Settings()) as client:
        answer = await client.get(path)
        page = Page(answer.text)

        assert answer.status_code == 200
        assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert page.inline == []
        assert page.addresses
        for address in page.addresses:
            there = urljoin(f"http://127.0.0.1{path}", address)
            assert urlsplit(there).netloc == "127.0.0.1"
            assert (await client.get(there)).status_code == 200, address


async def test_all_pages_and_files_together_are_small() -> None:
    async with client_of(Settings()) as client:
        pages = [len((await client.get(path)).content) for path in PATHS]

    assert len(assets()) > 10
    assert sum(pages) + sum(map(len, assets().values())) <= MOST_BYTES


async def test_a_file_is_cached_for_good_only_where_its_address_changes_with_it() -> None:
    async with client_of(Settings()) as client:
        page = Page((await client.get("/console")).text)
        style = next(address for address in page.addresses if address.endswith(".css"))
        current = await client.get(urljoin("http://127.0.0.1/console", style))
        former = await client.get("/console/0123456789abcdef/console.css")

    assert current.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in current.headers["cache-control"]
    assert former.content == current.content
    assert former.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("name", ["base.html", "conversations", "%2e%2e%2fpages.py", "access/x"])
async def test_nothing_but_pages_and_their_files_is_served(name: str) -> None:
    async with client_of(Settings()) as client:
        assert (await client.get(f"/console/{name}")).status_code == 404
        assert (await client.get(f"/console/0123456789abcdef/{name}")).status_code == 404


@pytest.mark.parametrize("path", [*PATHS, "/console/access", "/console/x/console.css"])
async def test_where_it_is_off_there_is_none_of_it(path: str) -> None:
    async with client_of(Settings(console=False)) as client:
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("sent", ["", "/emotions"])
async def test_below_a_path_everything_is_below_it(sent: str) -> None:
    """Whether or not the proxy strips the path, the browser asks below it."""
    async with client_of(Settings(root_path="/emotions")) as client:
        for path in PATHS:
            page = Page((await client.get(sent + path)).text)
            for address in page.addresses:
                there = urlsplit(urljoin(f"http://127.0.0.1/emotions{path}", address)).path
                assert there.startswith("/emotions/"), address
                assert (await client.get(there)).status_code == 200


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file of keys, and the keys by what they may do."""
    scopes = {
        "read": frozenset({Scope.READ}),
        "write": frozenset({Scope.READ, Scope.WRITE}),
        "admin": frozenset({Scope.ADMIN}),
    }
    keys = {name: new_key() for name in scopes}
    held = [
        Key(id=name, tenant="acme", scopes=scopes[name], sha256=digest(key).hex())
        for name, key in keys.items()
    ]
    file = tmp_path / "keys.toml"
    file.write_text("\n".join(map(entry, held)), "utf-8")
    file.chmod(0o600)
    return file, keys


async def test_the_pages_need_no_key_and_what_a_key_may_do_needs_it(
    keys: tuple[Path, dict[str, str]],
) -> None:
    file, values = keys
    async with client_of(Settings(keys_file=file)) as client:
        for path in PATHS:
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/console/access")).status_code == 401
        answers = {
            name: (
                await client.get("/console/access", headers={"authorization": f"Bearer {key}"})
            ).json()
            for name, key in values.items()
        }

    assert answers["read"] == {"keys": True, "tenant": "acme", "scopes": ["read"]}
    assert answers["write"]["scopes"] == ["read", "write"]
    assert answers["admin"]["scopes"] == ["read", "write", "admin"]


async def test_without_keys_anybody_may_do_anything() -> None:
    async with client_of(Settings()) as client:
        access = (await client.get("/console/access")).json()

    assert access == {"keys": False, "tenant": "default", "scopes": ["read", "write", "admin"]}


@pytest.mark.parametrize("name", PAGES)
def test_what_a_script_looks_for_is_in_its_page(name: str) -> None:
    """An id is looked for where a template has it; frame and messages are in every page."""
    html = (TEMPLATES / "base.html").read_text() + (TEMPLATES / f"{name}.html").read_text()
    ids = Page(html).ids

    def wanted(module: str, seen: set[str]) -> set[str]:
        seen.add(module)
        text = assets()[module].decode()
        imports = set(re.findall(r'from "\./([\w.]+)"', text)) - seen
        found = set(re.findall(r'byId\("([\w-]+)"\)', text))
        return found.union(*(wanted(each, seen) for each in imports))

    missing = wanted(f"{name}.mjs", set()) - ids
    assert missing == set()
