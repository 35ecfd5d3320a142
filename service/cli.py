"""The `instructerc` command."""

import asyncio
import json
import logging
import signal
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Annotated

import typer
from pydantic import ValidationError

from service.access.keys import Key, KeysError, Scope, entry, hash_given, new_key
from service.observability.correlation import Correlation
from service.observability.logging import log_to
from service.ports import why_not_free
from service.rule_commands import rules
from service.score_command import ScoreCommand, score
from service.settings import (
    Settings,
    load_settings,
    settings_table,
)
from service.terminal import fail, given_settings, say, speaking
from service.version import VersionOption

log = logging.getLogger(__name__)

app = typer.Typer(
    help="Emotion recognition in conversation.", no_args_is_help=True, add_completion=False
)
keys = typer.Typer(help="Make and hash the keys that callers need.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(rules, name="rules")
app.command(cls=ScoreCommand)(score)


@app.callback()
def program(version: VersionOption = False) -> None:
    """Options of the whole program."""


@app.command()
def serve() -> None:
    """Start the service; environment variables `ERC_...` configure it."""
    settings = given_settings()
    correlation = Correlation(settings.dialogue_key)
    say, end = speaking(settings, correlation)
    # Checked at once, not after the model is loaded.
    if (reason := why_not_free(settings.host, settings.port)) is not None:
        end(f"cannot listen on {settings.host}:{settings.port}: {reason}")
    import uvicorn

    from service.api.connections.protocol import bounded
    from service.api.connections.room import most_connections
    from service.app import create_app
    from service.conversation.labels import LabelSpaceError
    from service.draining import DrainingServer
    from service.rules.rule_files import RulesError

    failures: list[str] = []
    logging.getLogger("uvicorn.error").addFilter(lambda record: not failures)

    losses: list[str] = []

    def lose(why: str) -> None:
        losses.append(why)
        server.drain()

    try:
        service = create_app(settings, say, failures.append, lose, correlation)
    except (KeysError, RulesError, LabelSpaceError) as error:
        end(f"cannot start: {error}")
    server = DrainingServer(
        uvicorn.Config(
            service.api,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http=bounded(  # type: ignore[arg-type]  # uvicorn accepts any callable
                most_connections(settings.admission.connections),
                service.metrics.count_rejection,
                service.metrics.count_problem,
                prefix=settings.root_path or "",
                origins=settings.cors_origins or (),
            ),
            ws="none",
            log_config=None,
            log_level=settings.log_level,
            access_log=False,
            proxy_headers=False,  # the application's own middleware reads them
            timeout_graceful_shutdown=2,  # requests are finished by then
            server_header=False,
        ),
        service.door,
        settings.admission.grace_s,
        started=lambda port: say(_greeting(settings, port)),
    )
    # After its shutdown uvicorn raises the signals that it received again; they are handled by now.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        server.run()
    except SystemExit:  # uvicorn's, when the start failed
        if not failures:
            raise
    if failures:
        end(failures[0])
    if losses:
        end(losses[0], status=1)


@app.command()
def migrate() -> None:
    """Migrate the database's tables to the newest version, as a start does."""
    settings = given_settings()
    say, end = speaking(settings)
    from service.errors import ServiceError
    from service.preparing import prepare_database
    from service.start_failures import start_failure_line

    try:
        asyncio.run(prepare_database(settings))
    except ValueError as error:
        end(f"ERC_DATABASE__URL: {error}")
    except ServiceError as error:
        end(start_failure_line(error, settings))
    say("the tables have the newest version")


@app.command()
def index() -> None:
    """Index the shipped demonstrations that are not yet indexed, as a start does."""
    settings = given_settings()
    say, end = speaking(settings)
    from service.demonstrations.encoder import WrongWeights
    from service.demonstrations.store import IndexMismatch
    from service.errors import ServiceError
    from service.preparing import prepare_index
    from service.start_failures import start_failure_line

    try:
        asyncio.run(prepare_index(settings, say))
    except (ValueError, WrongWeights, IndexMismatch, ServiceError, OSError) as error:
        end(start_failure_line(error, settings))


@app.command()
def doctor(
    in_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, for machines.")
    ] = False,
    engine: Annotated[
        bool,
        typer.Option(
            help="Also start vLLM on the bundle, which takes as long as a start of the service."
        ),
    ] = False,
) -> None:
    """Check whether `serve` could use each part, and suggest remedies; changes nothing.

    Exits with status 1 if a check fails; warnings do not count.
    """
    log_to(sys.stderr, _level_of_the_doctor())
    from service.doctor.examination import examine
    from service.doctor.findings import as_json, as_text, is_well

    checks, out = [], sys.stdout
    with redirect_stdout(sys.stderr):  # libraries print to it
        for check in examine(with_engine=engine):
            checks.append(check)
            if not in_json:
                print(as_text(check), file=out, flush=True)
    if in_json:
        say(as_json(checks))
    if not is_well(checks):
        raise typer.Exit(1)


@app.command()
def settings() -> None:
    """Print every setting as a table."""
    say(settings_table())


@app.command()
def openapi() -> None:
    """Print the OpenAPI document that `/openapi.json` serves."""
    from service.app import create_app

    # With default settings; the document does not depend on them.
    document = create_app(Settings.model_construct()).api.openapi()
    say(json.dumps(document, indent=2, ensure_ascii=False))


@app.command()
def schema() -> None:
    """Print the JSON schema of a dialogue in files, batches and jobs."""
    from service.dialogue_format import dialogue_schema

    say(json.dumps(dialogue_schema(), indent=2, ensure_ascii=False))


@keys.command("new")
def new(
    tenant: Annotated[
        str,
        typer.Option(help="The tenant whose dialogues and demonstrations the key gives access to."),
    ],
    scope: Annotated[list[Scope], typer.Option(help="A scope of the key; repeatable.")],
    name: Annotated[
        str | None, typer.Option("--id", help="The key's public name; random by default.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Days until the key expires; never by default.")
    ] = None,
) -> None:
    """Make a key: print it, this once, on stderr, and its entry for the keys file on stdout."""
    key = new_key()
    not_after = None if days is None else datetime.now(UTC) + timedelta(days=days)
    try:
        entered = entry(
            Key(
                id=name or f"{tenant}-{token_hex(4)}",
                tenant=tenant,
                scopes=frozenset(scope),
                sha256=hash_given(key),
                not_after=not_after,
            )
        )
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        fail("; ".join(f"--{fault['loc'][0]}: {fault['msg']}" for fault in faults))
    say(f"{entered}\n")
    print(f"The key, which is shown only this once: {key}", file=sys.stderr)


@keys.command("hash")
def hash_key() -> None:
    """Read a key that was made elsewhere from stdin and print its hash."""
    try:
        say(hash_given(sys.stdin.readline().strip()))
    except KeysError as error:
        fail(str(error))


def _level_of_the_doctor() -> str:
    try:
        level = load_settings().log_level
    except ValueError:  # the doctor's check of the settings reports it
        return "error"
    return "debug" if level == "debug" else "error"


def _greeting(settings: Settings, port: int) -> str:
    host = settings.host
    key = "" if settings.keys_file is None else '-H "Authorization: Bearer $KEY" '
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    body = json.dumps({"speaker": "Ann", "text": "We won!", "label_space": "meld"})
    console = f"console at {address}/console, " if settings.console else ""
    return (
        f"ready at {address}, {console}documentation at {address}/docs. Try:\n"
        f"curl -s {address}/dialogues/call-42/utterances "
        f"{key}-H 'content-type: application/json' -d '{body}'"
    )


def main() -> None:
    """Entry point of the `instructerc` script."""
    app()


if __name__ == "__main__":
    main()
