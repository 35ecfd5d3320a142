"""The installed version, as in `pyproject.toml`."""

from importlib.metadata import version
from typing import Annotated

import typer

VERSION = version("instructerc")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"instructerc {VERSION}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
]
