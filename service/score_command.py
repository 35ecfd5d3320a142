"""The command `instructerc score`: files on this machine, or archives on a Ray cluster."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from service.failures import plain_line
from service.scored_files import Output, output_of
from service.settings import Settings
from service.terminal import End, fail, given_settings, speaking
from service.transcripts.formats import Format
from service.transcripts.segments import Joining, UnknownSpeaker
from service.transcripts.tables import Columns

if TYPE_CHECKING:
    from service.dialogue_files import Reading
    from service.offline import Scored
    from service.recognition_parts import Report

_CLUSTER = "--cluster"
_OF_ENVIRONMENT = "environment"  # what stands for an address that is not given


class ScoreCommand(TyperCommand):
    """A command whose option `--cluster` may go without its address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for index, argument in enumerate(args):
            following = args[index + 1 : index + 2]
            if argument == _CLUSTER and (not following or following[0].startswith("-")):
                args = [*args[:index], f"{_CLUSTER}={_OF_ENVIRONMENT}", *args[index + 1 :]]
        return super().parse_args(ctx, args)


def score(
    source: Annotated[
        str,
        typer.Argument(metavar="IN", help="Dialogues, or transcripts in other programs' formats."),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="The same with emotions: .jsonl, .csv, or .vtt for players."
        ),
    ],
    label_space: Annotated[
        str, typer.Option(help="The labels to predict: unified, meld, ...")
    ] = "unified",
    demonstrations: Annotated[
        bool, typer.Option(help="Include the shipped demonstrations in prompts.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    source_format: Annotated[
        Format | None, typer.Option("--from", help="The format of IN; its content tells.")
    ] = None,
    target_format: Annotated[
        Output | None, typer.Option("--to", help="The format of OUT; its name tells.")
    ] = None,
    speaker: Annotated[str | None, typer.Option(help="The CSV column of speakers.")] = None,
    text: Annotated[str | None, typer.Option(help="The CSV column of texts.")] = None,
    dialogue: Annotated[
        str | None, typer.Option(help="The CSV column that tells dialogues apart.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="The CSV column of the times when utterances begin.")
    ] = None,
    unknown_speaker: Annotated[
        UnknownSpeaker,
        typer.Option(
            help='A segment without a speaker is said by one called "unknown" (own), or belongs to '
            "the utterance before it (previous)."
        ),
    ] = UnknownSpeaker.OWN,
    join_within: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=60,
            metavar="SECONDS",
            help="Join segments of one speaker with at most this pause between them.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Score an archive on a Ray cluster: IN may be a folder, a glob or an address such "
            "as s3://bucket/calls, of JSON lines or Parquet, and OUT .parquet. Without ADDRESS: "
            "RAY_ADDRESS, or a Ray on this machine. Write it last.",
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1, help="Engines of the cluster; by default as many as it has GPUs or nodes for."
        ),
    ] = None,
) -> None:
    """Score whole dialogues offline; each utterance sees those before it."""
    if actors is not None and cluster is None:
        fail("--actors: is for --cluster")
    settings = given_settings()
    say, end = speaking(settings)
    from service.demonstrations.encoder import WrongWeights
    from service.dialogue_files import Reading
    from service.errors import ServiceError
    from service.start_failures import start_failure_line

    reading = Reading(
        source_format,
        Columns(speaker, text, dialogue, time),
        Joining(unknown_speaker, join_within),
    )
    try:
        if cluster is None:
            scored = _scored_here(
                settings,
                Path(source),
                Path(target),
                label_space,
                say,
                demonstrations,
                force,
                reading,
                target_format,
            )
        else:
            _check_cluster(end)
            from service.cluster.actors import Task
            from service.cluster.scoring import ArchiveJob, score_archive

            address = None if cluster == _OF_ENVIRONMENT else cluster
            job = ArchiveJob(source, target, reading, target_format, force, address, actors)
            scored = score_archive(Task(settings, label_space, demonstrations), job, say)
    except (ValueError, WrongWeights, ServiceError, OSError) as error:
        end(start_failure_line(error, settings))
    _report(scored, target, say)


def _scored_here(
    settings: Settings,
    source: Path,
    target: Path,
    label_space: str,
    report: "Report",
    demonstrations: bool,
    force: bool,
    reading: "Reading",
    output: Output | None,
) -> "Scored":
    from service.offline import score_alone
    from service.outputs import check_file

    reads = (source, settings.bundle, settings.data / "label_spaces", settings.demonstrations_file)
    check_file(target, reads, force=force)
    return score_alone(
        settings,
        source,
        target,
        label_space,
        report,
        demonstrations,
        reading,
        output or output_of(target),
    )


def _check_cluster(end: End) -> None:
    missing = [package for package in ("ray", "pyarrow") if find_spec(package) is None]
    if missing:
        end(
            f"{_CLUSTER}: {' and '.join(missing)} not installed: pip install 'instructerc[cluster]'"
        )


def _report(scored: "Scored", target: str, say: "Report") -> None:
    noun = "utterance" if scored.utterances == 1 else "utterances"
    # An address may have keys.
    shown = plain_line(target.partition("?")[0]) if "://" in target else target
    say(f"{scored.utterances} {noun} scored into {shown}")
    if scored.truncated:
        say(f"too long for the model, which read only their ends: {scored.truncated}")
    for problem in scored.refused:
        print(f"not scored: {problem}", file=sys.stderr)
    if scored.refusals > len(scored.refused):
        print(f"not scored: {scored.refusals - len(scored.refused):,} more", file=sys.stderr)
    if scored.refusals:
        raise typer.Exit(1)
