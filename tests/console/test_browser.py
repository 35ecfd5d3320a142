"""The console as people use it: in a browser, before a running service with the real model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from service.console.pages import PAGES
from tests.console.conftest import CHROMIUM, PATIENCE_MS
from tests.e2e.conftest import Service, environment
from tests.faults.proxy import Proxy, to_port

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

HOSTILE = "\"><img src=x onerror=alert(1)><script>alert(2)</script>'); alert(3) //"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("console")
    running = Service(folder, environment(folder))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def dialogue() -> str:
    return f"call {uuid4()}"


def open_conversation(page: Page, service: Service, dialogue: str) -> None:
    page.goto(f"{service.url}/console/conversation#{quote(dialogue)}")
    expect(page.locator("#connection")).to_have_text("Live")


def line(page: Page, number: int) -> Locator:
    return page.locator(f"#lines .line[data-index='{number - 1}']")


def stored(service: Service, dialogue: str) -> list[dict[str, Any]]:
    utterances: list[dict[str, Any]] = service.client.get(f"/dialogues/{dialogue}").json()[
        "utterances"
    ]
    return utterances


def test_lines_that_another_client_posts_arrive_in_list_and_conversation(
    service: Service, page: Page, dialogue: str
) -> None:
    """Each with its label; without keys, none is asked for."""
    first = service.say(dialogue, "Ann", "We won! I am so happy!")
    page.goto(f"{service.url}/console")
    row = page.locator("#rows tr", has_text=dialogue)
    expect(row).to_contain_text("1 line, 1 speaker")
    expect(row.locator("svg")).to_be_visible()

    second = service.say(dialogue, "Bob", "Get out of my house! How dare you!")

    expect(row).to_contain_text("2 lines, 2 speakers")
    row.locator("a").click()
    expect(line(page, 1)).to_contain_text(first["emotion"]["label"])
    expect(line(page, 2)).to_contain_text("Get out of my house! How dare you!")
    expect(line(page, 2)).to_contain_text(second["emotion"]["label"])
    third = service.say(dialogue, "Ann", "Fine, I am leaving.")
    expect(line(page, 3)).to_contain_text(third["emotion"]["label"])
    expect(page.locator("#summary")).to_contain_text("3 by 2 speakers")
    expect(page.locator("#key-dialog")).to_be_hidden()


def test_a_line_and_its_place_on_the_curve_mark_each_other(
    service: Service, page: Page, dialogue: str
) -> None:
    """By pointer, by the keys of the lines and by those of the curve."""
    for speaker, text in (("Ann", "Hello."), ("Bob", "I hate you!"), ("Ann", "I love you.")):
        service.say(dialogue, speaker, text)
    open_conversation(page, service, dialogue)
    curve = page.get_by_role("slider", name="Valence of Ann")

    line(page, 3).hover()
    expect(page.locator(".curve-of", has_text="Ann").locator("output")).to_contain_text("line 3")
    curve.focus()
    page.keyboard.press("Home")
    expect(line(page, 1)).to_have_class("line is-marked")
    expect(curve).to_have_attribute("aria-valuenow", "0")
    page.keyboard.press("ArrowRight")
    expect(line(page, 3)).to_have_class("line is-marked")
    curve.click(position={"x": 5, "y": 20})
    expect(line(page, 1)).to_be_focused()


def test_a_correction_by_keyboard_changes_the_next_answer_and_is_undone(
    service: Service, page: Page, dialogue: str
) -> None:
    text = f"The kettle {dialogue} boiled over onto the stove."
    predicted = service.say(dialogue, "Ann", text)["emotion"]
    labels = list(predicted["probabilities"])
    wanted = "disgust" if predicted["label"] != "disgust" else "fear"
    open_conversation(page, service, dialogue)
    expect(line(page, 1)).to_contain_text(predicted["label"])

    page.keyboard.press("j")
    expect(line(page, 1)).to_be_focused()
    page.keyboard.press(str(labels.index(wanted) + 1))

    expect(line(page, 1)).to_contain_text("✓ corrected")
    expect(line(page, 1)).to_contain_text(wanted)
    expect(line(page, 1)).not_to_have_attribute("aria-busy", "true")
    assert stored(service, dialogue)[0]["correction"]["label"] == wanted
    other = f"{dialogue} again"
    answer = service.say(other, "Ann", text)
    assert answer["emotion"]["label"] == wanted
    page.keyboard.press("u")
    expect(line(page, 1)).not_to_contain_text("✓ corrected")
    expect(line(page, 1)).not_to_have_attribute("aria-busy", "true")
    assert stored(service, dialogue)[0]["correction"] is None
    # What the model alone says, and which correction decided instead.
    open_conversation(page, service, other)
    expect(line(page, 1)).to_contain_text(f"model alone: {answer['model_alone']['label']}")
    line(page, 1).get_by_role("button", name="Details").click()
    expect(line(page, 1).locator(".demonstrations")).to_contain_text("weight")


def test_a_refused_correction_is_rolled_back_with_its_reason(
    service: Service, page: Page, dialogue: str
) -> None:
    """The dialogue is erased while the page, cut off from its events, still shows it."""
    label = service.say(dialogue, "Ann", "Hello there.")["emotion"]["label"]
    proxy = Proxy(to_port(int(service.url.rpartition(":")[2])))
    try:
        page.goto(f"http://127.0.0.1:{proxy.port}/console/conversation#{quote(dialogue)}")
        expect(line(page, 1)).to_contain_text(label)
        proxy.cut()
        line(page, 1).click()
        page.keyboard.press("2" if label != "surprise" else "3")
        expect(page.get_by_role("alert").first).to_contain_text("Line 1 is not corrected")
        expect(line(page, 1)).not_to_contain_text("✓ corrected")
        expect(line(page, 1)).to_contain_text(label)
    finally:
        proxy.close()
    assert stored(service, dialogue)[0]["correction"] is None


def test_after_a_lost_connection_the_lines_go_on_without_gap_or_repetition(
    service: Service, page: Page, dialogue: str
) -> None:
    service.say(dialogue, "Ann", "One.")
    proxy = Proxy(to_port(int(service.url.rpartition(":")[2])))
    asked = list[str | None]()
    page.on(
        "request",
        lambda request: (
            asked.append(request.headers.get("last-event-id"))
            if request.url.endswith("/events")
            else None
        ),
    )
    try:
        page.goto(f"http://127.0.0.1:{proxy.port}/console/conversation#{quote(dialogue)}")
        expect(line(page, 1)).to_be_visible()
        proxy.cut()
        expect(page.locator("#connection")).to_contain_text("Connection lost")
        service.say(dialogue, "Bob", "Two, while nobody listens.")
        proxy.mend()
        expect(page.locator("#connection")).to_have_text("Live")
        service.say(dialogue, "Ann", "Three.")
        expect(page.locator("#lines .line")).to_have_count(3)
    finally:
        proxy.close()
    expect(line(page, 2)).to_contain_text("Two, while nobody listens.")
    assert asked[0] is None
    assert asked[-1] is not None


def test_what_is_erased_leaves_the_screen(service: Service, page: Page, dialogue: str) -> None:
    service.say(dialogue, "Ann", "Forget this, please.")
    open_conversation(page, service, dialogue)
    expect(line(page, 1)).to_be_visible()
    line(page, 1).hover()

    assert service.client.delete(f"/dialogues/{dialogue}").status_code == 204

    expect(page.locator("#connection")).to_have_text("Erased")
    expect(page.locator("body")).not_to_contain_text("Forget this")


def test_names_and_texts_of_users_are_shown_as_text(service: Service, page: Page) -> None:
    """Whatever they look like, in a list, a conversation, its summary and its curves."""
    dialogue = f"<b onclick=alert(4)> {uuid4()} \" ' &amp; ?#%41"
    answer = service.client.post(
        f"/dialogues/{quote(dialogue, safe='')}/utterances",
        json={"speaker": HOSTILE, "text": f"{HOSTILE} I am so happy!", "label_space": "meld"},
    )
    assert answer.status_code == 201, answer.text

    page.goto(f"{service.url}/console")
    link = page.get_by_role("link", name=dialogue)
    expect(link).to_be_visible()
    link.click()

    expect(page.get_by_role("heading", level=1)).to_have_text(dialogue)
    expect(line(page, 1)).to_contain_text(f"{HOSTILE} I am so happy!")
    expect(page.locator(".curve-name")).to_have_text(HOSTILE)
    assert page.locator("main img, main script, main b").count() == 0


def test_the_list_has_the_filters_and_sorts_of_the_api(service: Service, page: Page) -> None:
    name = f"Speaker {uuid4()}"
    happy, angry = f"happy {uuid4()}", f"angry {uuid4()}"
    service.say(angry, name, "Get out! I hate you, how dare you!")
    service.say(happy, name, "I am so happy! This is wonderful!")
    page.goto(f"{service.url}/console")
    page.get_by_label("Speaker").fill(name)
    page.get_by_label("Speaker").press("Enter")
    rows = page.locator("#rows tr")

    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text(happy)
    page.get_by_label("Sort").select_option("lowest valence first")
    expect(rows.first).to_contain_text(angry)
    page.get_by_label("Labels of").select_option("MELD")
    page.locator("[name=label]").select_option("joy")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text(happy)
    page.get_by_label("Speaker").fill("nobody at all")
    page.get_by_label("Speaker").press("Enter")
    expect(page.get_by_text("No conversation matches these filters.")).to_be_visible()


def test_a_typed_conversation_gets_labels_and_is_not_stored(service: Service, page: Page) -> None:
    before = service.client.get("/dialogues").json()["dialogues"]
    page.goto(f"{service.url}/console/try")
    page.get_by_label("One line for each utterance").fill(
        "Ann: I am so happy!\nThis is wonderful!\n\nBob: Get out of my house: now!"
    )
    page.locator("#typed button").click()

    expect(page.locator("#lines .line")).to_have_count(3)
    expect(line(page, 1)).to_contain_text("joy")
    expect(line(page, 2).locator(".line-speaker")).to_have_text("Ann")
    expect(line(page, 3).locator(".line-text")).to_have_text("Get out of my house: now!")
    expect(page.locator("#summary")).to_contain_text("3 by 2 speakers")
    assert service.client.get("/dialogues").json()["dialogues"] == before


def test_a_transcript_is_labelled_and_downloaded(
    service: Service, page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "call.vtt"
    file.write_text(
        "WEBVTT\n\n00:01.000 --> 00:03.000\n<v Ann>I am so happy!\n\n"
        "00:04.000 --> 00:06.000\n<v Bob>Get out of my house!\n"
    )
    page.goto(f"{service.url}/console/try")
    page.locator("#upload-space").select_option("MELD")
    page.locator("#file").set_input_files(file)
    page.locator("#look").click()
    expect(page.locator("#lines .line")).to_have_count(2)
    expect(line(page, 1)).to_contain_text("0:01")
    expect(line(page, 2)).to_contain_text("anger")

    page.locator("#form").select_option("WebVTT")
    with page.expect_download() as downloading:
        page.locator("#download").click()

    assert downloading.value.suggested_filename == "call-labelled.vtt"
    text = Path(downloading.value.path()).read_text("utf-8")
    assert text.startswith("WEBVTT")
    assert "joy" in text
    assert "anger" in text


def test_uncertain_lines_are_checked_by_keyboard_and_exported(
    service: Service, page: Page, dialogue: str
) -> None:
    for text in ("Hm.", "Well, well.", "So that is how it is."):
        service.say(dialogue, "Ann", text, "emorynlp")
    page.goto(f"{service.url}/console/review#emorynlp")
    lines = page.locator("#lines .line")
    expect(lines).to_have_count(3)
    expect(lines.first).to_be_focused()
    expect(page.locator("#progress-text")).to_have_text("0 of 3 lines checked")

    page.keyboard.press("1")

    expect(page.locator("#progress-text")).to_have_text("1 of 3 lines checked")
    expect(lines.first).to_contain_text("✓ corrected")
    expect(lines.nth(1)).to_be_focused()
    expect(lines.first).not_to_have_attribute("aria-busy", "true")
    with page.expect_download() as downloading:
        page.locator("#export").click()
    rows = Path(downloading.value.path()).read_text("utf-8").splitlines()
    exported = [json.loads(row) for row in rows]
    labels = [each.get("label") for each in exported[0]["utterances"]]
    assert len([label for label in labels if label]) == 1
    page.keyboard.press("Shift+Tab")
    lines.nth(1).focus()
    page.keyboard.press("u")
    expect(page.locator("#progress-text")).to_have_text("0 of 3 lines checked")
    expect(lines.first).to_be_focused()


def test_an_answer_is_explained_on_request(service: Service, page: Page, dialogue: str) -> None:
    service.say(dialogue, "Ann", "I am so happy about this!")
    open_conversation(page, service, dialogue)
    line(page, 1).get_by_role("button", name="Details").click()
    line(page, 1).get_by_role("button", name="Why?").click()

    expect(line(page, 1).locator(".why h3")).to_contain_text("Why")
    expect(line(page, 1).locator(".weighed")).to_have_text("I am so happy about this!")
    expect(line(page, 1).locator(".reasons")).to_contain_text("happy")


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_seriously_inaccessible(
    service: Service, browser: Browser, scheme: Any, width: int
) -> None:
    """Each page with content, in both colour schemes, wide and narrow; none scrolls sideways."""
    dialogue = f"accessible {scheme} {width}"
    for speaker, text in (("Ann", "Hello."), ("Bob", "I hate you!"), ("Ann", "I love you.")):
        service.say(dialogue, speaker, text)
    context = browser.new_context(
        color_scheme=scheme,
        reduced_motion="reduce",
        viewport={"width": width, "height": 800},
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    for name in PAGES:
        path = "" if name == "conversations" else f"/{name}"
        fragment = f"#{quote(dialogue)}" if name == "conversation" else ""
        page.goto(f"{service.url}/console{path}{fragment}")
        if name == "conversation":
            expect(line(page, 3)).to_be_visible()
            line(page, 2).click()
            line(page, 2).get_by_role("button", name="Details").click()
        elif name == "try":
            page.locator("#typed button").click()
            expect(line(page, 4)).to_be_visible()
        else:
            expect(page.locator("#main")).not_to_have_attribute("aria-busy", "true")
        expect(page.locator("#notice")).to_be_hidden()
        results = Axe().run(page)
        serious = [
            (violation["id"], [node["target"] for node in violation["nodes"]])
            for violation in results.response["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
        assert serious == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    context.close()
