"""The documents lead to files, headings and modules that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDERS = (
    "*",
    "docs/**/*",
    "data/**/*",
    "helm/**/*",
    "requirements/*",
    "training/*",
    "service/**/*",
)
DOCUMENTS = [path for pattern in FOLDERS for path in sorted(REPOSITORY.glob(f"{pattern}.md"))]
CODE_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def prose_of(document: Path) -> str:
    return CODE_BLOCK.sub("", document.read_text("utf-8"))


def anchors_of(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(document)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            yield link


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(REPOSITORY)) for path in DOCUMENTS]
)
def test_every_relative_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text("utf-8")

    pages = {f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")}

    assert {page for page in pages if f"]({page})" not in readme} == set()


def test_every_path_that_contributors_are_sent_to_exists() -> None:
    """Paths between backquotes, and the names at the beginning of the layout's lines."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"`((?:service|training|tests|data|helm)/[\w./-]+)`", text)
    layout = text.partition("## Layout")[2].split("```")[1]

    assert "service/conversation/dialogue.py" in named
    missing = {path for path in named if not (REPOSITORY / path).exists() and "NAME" not in path}
    assert missing | set(missing_from(layout)) == set()


def missing_from(layout: str) -> Iterator[str]:
    """Paths of a tree whose folders are indented by four spaces."""
    folders: list[str] = []
    for line in layout.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        names = re.split(r"\s{2,}", line.strip())[0].split(", ")
        for name in names:
            path = Path(*folders[:depth], name)
            if not list(REPOSITORY.glob(str(path))):
                yield str(path)
        folders = [*folders[:depth], names[0]]
