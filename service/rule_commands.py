"""`instructerc rules`: check a rules file, and try it on dialogues."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.settings import Settings
from service.terminal import End, given_settings, say, speaking

if TYPE_CHECKING:
    from service.rules.rule_files import RuleSet
    from service.rules.trial import Firing, Trial

rules = typer.Typer(help="Check and try the rules that tell of emotions.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="The rules file.")]


@rules.command()
def check(file: _File) -> None:
    """Check a rules file as a start does; it tells nobody."""
    settings = given_settings()
    _, end = speaking(settings)
    content = _read(file, settings, end)
    told = Counter(rule.endpoint for rule in content.rules)
    for rule in content.rules:
        whom = f"{rule.role or 'anybody'} called {rule.speaker}" if rule.speaker else rule.role
        say(
            f"{rule.name}: {' or '.join(rule.labels)} ({rule.label_space}) with at least "
            f"{rule.probability:g}, in {rule.turns} of the last {rule.of_last} turns of "
            f"{whom or 'anybody'}; tells {rule.endpoint}"
        )
    for name in content.endpoints:
        say(f"endpoint {name}: told by {told[name]} of {len(content.rules)} rules")


@rules.command("try")
def try_rules(
    file: _File,
    dialogues: Annotated[
        Path,
        typer.Argument(
            metavar="DIALOGUES", help="Dialogues; what `instructerc score` wrote is not read anew."
        ),
    ],
    label_space: Annotated[
        str | None,
        typer.Option(
            help="The label space in which unscored dialogues are read; by default one from "
            "which all rules can be read."
        ),
    ] = None,
) -> None:
    """Say on which utterances the rules would have fired, and how often that is wrong.

    Wrong and missed are counted in dialogues whose every utterance has a person's label.
    """
    settings = given_settings()
    report, end = speaking(settings)
    from service.dialogue_files import DialogueFormatError
    from service.rule_trial import NotScored, answered_in, scored_dialogues
    from service.rules.trial import try_rule

    content = _read(file, settings, end)
    if not content.rules:
        end(f"{file} has no rules")
    try:
        try:
            tried = list(scored_dialogues(dialogues))
        except (NotScored, DialogueFormatError):
            space = label_space or answered_in(content.rules)
            if space is None:
                end(
                    "no label space has answers that all rules read: name one with --label-space; "
                    "rules that do not read it will not fire"
                )
            with tempfile.TemporaryDirectory(prefix="rules-") as folder:
                scored = Path(folder) / "scored.jsonl"
                _score(settings, dialogues, scored, space, end)
                tried = list(scored_dialogues(scored))
    except (NotScored, DialogueFormatError) as error:
        end(str(error))
    trials = [try_rule(rule, tried) for rule in content.rules]
    for trial in trials:
        for firing in trial.firings:
            say(_line_of_firing(firing))
    for trial in trials:
        say(_line_of_trial(trial))
    spaces = {turn.label_space for dialogue in tried for turn in dialogue.turns}
    for rule in content.rules:
        if spaces and not spaces & rule.shares.keys():
            report(
                f"{rule.name} looked at nothing: it reads {' or '.join(rule.shares)}, and the "
                f"dialogues are answered in {', '.join(sorted(spaces))}"
            )


def _read(file: Path, settings: Settings, end: End) -> "RuleSet":
    from service.conversation.derived import load_every_label_space
    from service.conversation.labels import LabelSpaceError
    from service.rules.rule_files import RulesError, read_rules

    try:
        return read_rules(file, load_every_label_space(settings.data / "label_spaces"))
    except (RulesError, LabelSpaceError) as error:
        end(str(error))


def _score(settings: Settings, source: Path, target: Path, label_space: str, end: End) -> None:
    from service.demonstrations.encoder import WrongWeights
    from service.dialogue_files import Reading
    from service.errors import ServiceError
    from service.offline import score_alone
    from service.scored_files import Output
    from service.start_failures import start_failure_line

    try:
        scored = score_alone(
            settings,
            source,
            target,
            label_space,
            lambda _: None,
            settings.demonstrations.shown,
            Reading(),
            Output.JSONL,
        )
    except (ValueError, WrongWeights, ServiceError, OSError) as error:
        end(start_failure_line(error, settings))
    if scored.refused:
        end(f"not scored: {scored.refused[0]}")


def _line_of_firing(firing: "Firing") -> str:
    verdict = {None: "", True: ", a false alarm", False: ", confirmed by people's labels"}[
        firing.is_false
    ]
    match = firing.match
    return (
        f"{firing.rule} fires in {firing.dialogue_id} at {match.index}: {match.label} "
        f"{match.probability:.2f}{verdict}"
    )


def _line_of_trial(trial: "Trial") -> str:
    line = f"{trial.rule}: {len(trial.firings)} firings in {trial.dialogues} dialogues"
    if trial.false_of_100 is None:
        return f"{line}; no dialogue has people's labels throughout"
    return (
        f"{line}; in the {trial.labelled} with people's labels {trial.false} false alarms "
        f"({trial.false_of_100:.1f} per 100 dialogues), and {trial.missed} of {trial.wanted} missed"
    )
