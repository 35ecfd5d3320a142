"""The commands that the documents show are commands there are, with options they have."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from service.cli import app as service
from training.cli import app as training

REPOSITORY = Path(__file__).parents[1]
PROGRAMS = {"instructerc": service, "instructerc-train": training}
FOLDERS = (
    *("", "docs", "training", "helm/instructerc"),
    *("data", "data/results", "data/adapters/erc-mini", "data/adapters/erc-small"),
)
DOCUMENTS = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).glob("*.md"))]


def shown() -> Iterator[tuple[str, str, list[str]]]:
    """Each call of a program: where it stands, the program, and what it is given."""
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        # Whole lines of a terminal, and words between backquotes, which may leave arguments out.
        for call in re.findall(r"^\$ (.*)$|`([^`\n]+)`", text, re.MULTILINE):
            for command in re.split(r"[;|>]|&&", "".join(call)):
                if "instructerc" not in command:
                    continue
                words = shlex.split(command.replace("$(", "").replace(")", ""), comments=True)
                for place, word in enumerate(words):
                    program = word.removeprefix(".venv/bin/")
                    if program in PROGRAMS and words[place + 1 :]:
                        yield path.name, program, words[place + 1 :]


CALLS = list(shown())


@pytest.mark.parametrize(
    ("document", "program", "words"), CALLS, ids=[" ".join(call[2][:3]) for call in CALLS]
)
def test_command_has_the_options_that_it_is_shown_with(
    document: str, program: str, words: list[str]
) -> None:
    """In every document of the repository."""
    command: Any = typer.main.get_command(PROGRAMS[program])
    left = [*words]
    while commands := getattr(command, "commands", None):
        name = left.pop(0)
        assert name in commands, f"{document}: {program} has no {name}"
        command = commands[name]
    options = {name for parameter in command.params for name in parameter.opts}
    options |= {name for parameter in command.params for name in parameter.secondary_opts}
    given = {word.partition("=")[0] for word in left if word.startswith("--")}
    assert given <= options, document


def test_documents_show_most_commands() -> None:
    """So that the test above is not of nothing."""
    assert {words[0] for _, program, words in CALLS if program == "instructerc-train"} >= {
        *("data", "base", "train", "merge", "evaluate", "run", "report", "compare", "baselines")
    }
    assert {words[0] for _, program, words in CALLS if program == "instructerc"} >= {
        *("score", "keys", "migrate", "index", "settings", "openapi")
    }
