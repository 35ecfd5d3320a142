"""The console before a service with keys: what each may see and do."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from service.access.keys import Key, Scope, digest, entry, new_key
from tests.console.conftest import CHROMIUM
from tests.e2e.conftest import Service, environment

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

HOLDERS = {
    "writer": ("acme", frozenset({Scope.READ, Scope.WRITE})),
    "reader": ("acme", frozenset({Scope.READ})),
    "other": ("umbrella", frozenset({Scope.READ, Scope.WRITE})),
}
KEYS = {holder: new_key() for holder in HOLDERS}


def write_keys(file: Path, **scopes: frozenset[Scope]) -> None:
    """Write the file of all keys; `scopes` replaces those of some."""
    held = [
        Key(id=each, tenant=tenant, scopes=scopes.get(each, own), sha256=digest(KEYS[each]).hex())
        for each, (tenant, own) in HOLDERS.items()
    ]
    new = file.with_suffix(".new")
    new.write_text("\n".join(map(entry, held)), "utf-8")
    new.chmod(0o600)
    new.rename(file)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("keys")
    write_keys(folder / "keys.toml")
    running = Service(folder, environment(folder) | {"ERC_KEYS_FILE": str(folder / "keys.toml")})
    running.start()
    running.client.headers["authorization"] = f"Bearer {KEYS['writer']}"
    yield running
    running.stop()


def enter(page: Page, key: str) -> None:
    expect(page.locator("#key-dialog")).to_be_visible()
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def test_a_key_is_asked_for_once_and_kept_in_the_tab_alone(service: Service, page: Page) -> None:
    dialogue = f"call {uuid4()}"
    service.say(dialogue, "Ann", "Hello.")
    page.goto(f"{service.url}/console")

    enter(page, "erc_this-is-no-key-of-this-service")
    expect(page.locator("#key-fault")).to_contain_text("does not accept this key")
    enter(page, KEYS["writer"])

    page.get_by_role("link", name=dialogue).click()
    expect(page.locator("#lines .line")).to_have_count(1)
    expect(page.locator("#key-dialog")).to_be_hidden()
    expect(page.locator("#caller")).to_contain_text("acme, may read and write")
    assert KEYS["writer"] not in page.url
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("document.cookie") == ""
    another_tab = page.context.new_page()
    another_tab.goto(f"{service.url}/console")
    expect(another_tab.locator("#key-dialog")).to_be_visible()
    page.get_by_role("button", name="Forget key").click()
    expect(page.locator("#key-dialog")).to_be_visible()


def test_nothing_of_another_tenant_is_shown(service: Service, page: Page) -> None:
    dialogue = f"call {uuid4()}"
    service.say(dialogue, "Ann", "This is a secret.")
    page.goto(f"{service.url}/console")
    enter(page, KEYS["other"])
    expect(page.get_by_role("heading", name="No conversations yet")).to_be_visible()
    expect(page.locator("#how")).to_contain_text("$KEY")
    expect(page.locator("#how")).not_to_contain_text(KEYS["other"])

    page.goto(f"{service.url}/console/conversation#{dialogue}")

    expect(page.get_by_role("alert").first).to_contain_text("There is no such conversation")
    expect(page.locator("main")).not_to_contain_text("secret")


def test_a_key_that_may_only_read_is_offered_no_correction(service: Service, page: Page) -> None:
    dialogue = f"call {uuid4()}"
    service.say(dialogue, "Ann", "Hello.")
    page.goto(f"{service.url}/console/conversation#{dialogue}")
    enter(page, KEYS["reader"])
    page.locator("#lines .line").first.click()

    expect(page.locator("#bar")).to_have_text("Your key may read, but not correct labels.")
    expect(page.locator("#bar button")).to_have_count(0)
    page.keyboard.press("2")
    expect(page.locator("#lines")).not_to_contain_text("corrected")


def test_a_correction_is_rolled_back_where_the_key_may_no_longer_write(
    service: Service, page: Page
) -> None:
    """A key loses its scope while the page is open; the line shows its answer again."""
    dialogue = f"call {uuid4()}"
    label = service.say(dialogue, "Ann", "Hello.")["emotion"]["label"]
    page.goto(f"{service.url}/console/conversation#{dialogue}")
    enter(page, KEYS["writer"])
    line = page.locator("#lines .line").first
    line.click()
    file = service.folder / "keys.toml"
    write_keys(file, writer=frozenset({Scope.READ}))
    try:
        while service.client.get("/console/access").json()["scopes"] != ["read"]:
            page.wait_for_timeout(100)
        page.keyboard.press("2" if label != "surprise" else "3")
        expect(page.get_by_role("alert").first).to_contain_text("Line 1 is not corrected")
        expect(line).not_to_contain_text("✓ corrected")
        expect(line).to_contain_text(label)
    finally:
        write_keys(file)
