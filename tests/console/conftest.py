"""A browser, and pages of it that may talk to one host alone."""

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

from tests.e2e.conftest import START_S

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# A busy machine is slow, not wrong.
PATIENCE_MS = 1000 * min(START_S, 30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not of the whole session: an event loop runs in this thread for as long as it is open."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a context of its own: nothing in it fails, and nothing leaves this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(PATIENCE_MS)
    hosts, faults = set[str](), list[str]()

    def refuse(dialog: Dialog) -> None:
        faults.append(dialog.message)
        dialog.dismiss()

    context.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or ""))
    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.on(
        "console",
        lambda message: faults.extend(
            [message.text] if "Content Security Policy" in message.text else []
        ),
    )
    context.on("dialog", refuse)
    yield context.new_page()
    context.close()
    assert faults == []
    # A download comes from the page itself.
    assert hosts <= {"127.0.0.1", ""}
