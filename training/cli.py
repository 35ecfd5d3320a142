"""The `instructerc-train` command, from data to a report."""

import typer

from service.version import VersionOption
from training.commands import corpora, models, scores

app = typer.Typer(
    help="Train models for emotion recognition in conversation.",
    no_args_is_help=True,
    add_completion=False,
)
data_app = typer.Typer(help="Download, check and convert corpora.", no_args_is_help=True)
data_app.command()(corpora.fetch)
data_app.command()(corpora.convert)
data_app.command()(corpora.check)
data_app.command()(corpora.describe)
data_app.command()(corpora.demonstrations)
app.add_typer(data_app, name="data")
for command in (
    models.base,
    models.train,
    models.run,
    models.merge,
    scores.evaluate,
    scores.baselines,
    scores.trust,
    scores.compare,
    scores.report,
    corpora.prompts,
):
    app.command()(command)


@app.callback()
def program(version: VersionOption = False) -> None:
    """Options of the whole program."""


def main() -> None:
    """Entry point of the `instructerc-train` script."""
    app()


if __name__ == "__main__":
    main()
