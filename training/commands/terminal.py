"""Output of commands: results on stdout, all else on stderr, an error as one line."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from service.files import error_in_words
from training.finetuning.processes import is_first_process

DATA = Path(__file__).resolve().parents[2] / "data"
LabelData = Annotated[
    Path, typer.Option(help="Folder of label spaces, demonstrations and the sources of corpora.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Replace an existing target, whoever wrote it; prints what it replaces."
    ),
]


@contextmanager
def errors() -> Iterator[None]:
    """Turn errors that a user can correct into one line and exit status 2."""
    from safetensors import SafetensorError

    from service.errors import ServiceError

    # Of several processes that train together, only the first logs progress.
    level = logging.INFO if is_first_process() else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", stream=sys.stderr)
    for name in ("httpx", "sentence_transformers", "vllm"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    except (ValueError, OSError, ServiceError, SafetensorError) as error:
        fail(error_in_words(error))


def say(message: str) -> None:
    print(message, flush=True)


def say_aside(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def fail(message: str) -> NoReturn:
    print(f"instructerc-train: {message}", file=sys.stderr)
    raise typer.Exit(2)
