"""Takes the pictures of the documentation: `make screenshots`; needs Chromium.

The conversations are invented. They are scored by the default model as it is.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.console.conftest import ARGUMENTS, CHROMIUM
from tests.e2e.conftest import Service, environment

DOCS = Path(__file__).parents[2] / "docs"
WIDTH, HEIGHT = 1200, 720
COLOURS = 256

CALL: Sequence[tuple[str, str, str]] = (
    ("Dana", "agent", "Good morning, this is Dana. How can I help you?"),
    ("Mr Ortega", "customer", "Hi. I have been waiting for my refund for six weeks."),
    ("Dana", "agent", "I am so sorry to hear that. What is the order number?"),
    ("Mr Ortega", "customer", "I gave it to three of your colleagues! This is ridiculous!"),
    ("Mr Ortega", "customer", "It is 4471. I am really fed up with this."),
    ("Dana", "agent", "Oh. I can see that the refund was never sent."),
    ("Mr Ortega", "customer", "What? Are you kidding me?"),
    ("Dana", "agent", "I have sent it now, with twenty euros on top."),
    ("Mr Ortega", "customer", "Oh! Really? Just like that?"),
    ("Dana", "agent", "Just like that. You will have it tomorrow."),
    ("Mr Ortega", "customer", "Wow, thank you so much! That is wonderful!"),
    ("Dana", "agent", "You are very welcome. Have a lovely day!"),
)
OTHERS: dict[str, Sequence[tuple[str, str]]] = {
    "standup-17": (
        ("Ann", "Did you hear? The release went out!"),
        ("Bo", "Finally. I was scared that it would break again."),
        ("Cy", "It did break. I fixed it at three in the morning."),
        ("Ann", "Oh no, I am so sorry, Cy."),
        ("Bo", "You are a hero!"),
    ),
    "chat-0815": (
        ("Kim", "The app crashed again and ate my work!"),
        ("Bot", "Please restart the app."),
        ("Kim", "I did. Twice. I hate this."),
        ("Bot", "I am sorry for the trouble."),
    ),
    "family-3": (
        ("Lee", "I miss her so much."),
        ("Sam", "I know. Come here."),
        ("Lee", "It is just not fair."),
        ("Sam", "She would be so proud of you today."),
    ),
}
CORRECTED = 4, "anger"


def take(browser: Browser, service: Service, folder: Path) -> None:
    """Take all pictures."""
    for dialogue, lines in OTHERS.items():
        for speaker, text in lines:
            service.say(dialogue, speaker, text)
    for number, (speaker, role, text) in enumerate(CALL):
        body = {"speaker": speaker, "text": text, "role": role, "label_space": "meld"}
        times = {"start": 6.5 * number, "end": 6.5 * number + 4}
        service.client.post("/dialogues/call-42/utterances", json=body | times).raise_for_status()
    index, label = CORRECTED
    service.client.put(
        f"/dialogues/call-42/utterances/{index}/label",
        json={"label": label, "label_space": "meld"},
    ).raise_for_status()

    page = new_page(browser, "light")
    page.goto(f"{service.url}/console/conversation#call-42")
    expect(page.locator("#lines .line")).to_have_count(len(CALL))
    expect(page.locator("#summary .figures")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("j")
    save(page.screenshot(), folder / "console-conversation.png")

    page = new_page(browser, "dark")
    page.goto(f"{service.url}/console")
    expect(page.locator("#rows svg")).to_have_count(1 + len(OTHERS))
    page.wait_for_timeout(2500)  # until no row is marked as new
    top = page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": 500})
    save(top, folder / "console-list.png")

    page = new_page(browser, "light")
    page.goto(f"{service.url}/console/review#meld")
    expect(page.locator("#lines .line[aria-current]")).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("#lines .line[aria-current] .context")).to_be_visible()
    save(page.screenshot(), folder / "console-review.png")


def save(screenshot: bytes, file: Path) -> None:
    """Write a PNG with few colours, which takes half the bytes."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


def new_page(browser: Browser, scheme: str) -> Page:
    return browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme="dark" if scheme == "dark" else "light",
    ).new_page()


def main() -> None:
    if CHROMIUM is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        service = Service(Path(folder), environment(Path(folder)))
        service.start()
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            take(browser, service, DOCS)
        finally:
            service.stop()


if __name__ == "__main__":
    main()
