"""Checks of keys, rules and port."""

from datetime import UTC, datetime

from service.access.keyring import is_loopback, open_keyring, writers_of
from service.access.keys import KeysError, read_keys
from service.conversation.derived import load_every_label_space
from service.conversation.labels import LabelSpaceError
from service.doctor.findings import Fault
from service.ports import why_not_free
from service.rules.rule_files import RulesError, read_rules
from service.settings import Settings


def keys(settings: Settings) -> str:
    """Check that valid keys exist where they are needed."""
    file = settings.keys_file
    try:
        open_keyring(file, settings.host, allow_anonymous=settings.allow_anonymous)
        entries = () if file is None else read_keys(file)
    except KeysError as error:
        detail, colon, remedy = str(error).rpartition(": set ")
        if colon:
            raise Fault(detail, f"set {remedy}") from None
        raise Fault(
            str(error),
            "correct the file, or ERC_KEYS_FILE; `instructerc keys new` makes an entry",
        ) from None
    if file is None:
        if is_loopback(settings.host):
            return f"none, and none needed: only this machine can reach {settings.host}"
        raise Fault(
            f"none: anybody who can reach {settings.host} may do anything",
            "set ERC_KEYS_FILE instead of ERC_ALLOW_ANONYMOUS, unless this is intended",
            "warning",
        )
    now = datetime.now(UTC)
    valid = [key for key in entries if key.not_after is None or key.not_after > now]
    if not valid:
        raise Fault(
            f"all of the {len(entries)} keys in {file} have expired",
            "add a key with `instructerc keys new`",
            "warning",
        )
    if (warning := writers_of(file)) is not None:
        detail, _, remedy = warning.rpartition(": ")
        raise Fault(detail, remedy, "warning")
    return f"{len(valid)} of {len(entries)} in {file} are valid"


def rules(settings: Settings) -> str:
    """Check that the rules file is valid."""
    file = settings.rules.file
    if file is None:
        return "none: the service tells nobody of emotions"
    try:
        content = read_rules(file, load_every_label_space(settings.data / "label_spaces"))
    except (RulesError, LabelSpaceError) as error:
        raise Fault(str(error), "correct the file, or ERC_RULES__FILE") from None
    return f"{len(content.rules)} rules and {len(content.endpoints)} endpoints in {file} are valid"


def port(settings: Settings) -> str:
    """Check that the service can listen on the port."""
    at = f"{settings.host}:{settings.port}"
    if (why := why_not_free(settings.host, settings.port)) is not None:
        raise Fault(
            f"cannot listen on {at}: {why}",
            "stop what listens there, such as a running service, or set ERC_HOST or ERC_PORT",
        )
    return "any free one" if settings.port == 0 else f"{at} is free"
