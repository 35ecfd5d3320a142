"""Says why the database cannot be reached or used: one sentence, with what to do about it.

The sentences are for those who run the service: they name the host, the port, the database, the
role or the file. Never a password, a parameter of a statement, or what people say, so they may be
logged.
"""

import os
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from alembic.util.exc import CommandError
from sqlalchemy import URL
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.failures import first_line
from service.sessions import postgresql_failures, sqlite_failures

_NEWER = "Can't locate revision"  # Alembic's CommandError has no kind of its own


def cause_of(error: BaseException, url: URL) -> str:
    """Why the database was not reached or not used, in one sentence; after its last `: `, what to
    do about it.

    Args:
        error: as SQLAlchemy, its drivers, Alembic or the operating system raise it, or one of
            ours with such a cause.
        url: the database's.
    """
    chain = list(_chain(error))
    failures = sqlite_failures if url.get_backend_name() == "sqlite" else postgresql_failures
    names = failures.names_of(url)
    # The innermost error is the outside's own.
    causes = (
        _cause_of_either(each, names) or failures.cause_of(each, url, names)
        for each in reversed(chain)
    )
    sentence = next(filter(None, causes), None) or _unknown(chain[-1], names)
    return _without_passwords(" ".join(sentence.replace(" ()", "").split()), url)


def is_ours(error: BaseException) -> bool:
    """Whether a failure is a fault of this program, such as a statement that cannot be parsed.

    Whoever runs the database cannot mend those. What cannot be put down to the database, its
    machine or the way to it counts as ours.
    """
    for each in reversed(list(_chain(error))):
        if isinstance(each, CommandError):
            return _NEWER not in str(each)
        for verdict in (sqlite_failures.is_ours(each), postgresql_failures.is_ours(each)):
            if verdict is not None:
                return verdict
        if isinstance(each, OSError | TimeoutError | PoolTimeout | EOFError):
            return False
    return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, the outermost first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        if isinstance(cause, postgresql_failures.CONFIGURATION):
            return  # it says more than the KeyError or OSError it comes from
        cause = cause.__cause__ or getattr(cause, "orig", None)


def _cause_of_either(error: BaseException, names: Mapping[str, str]) -> str | None:
    if isinstance(error, CommandError) and _NEWER in str(error):
        return (
            f"the tables in {names['where']} are of a newer version of this program: start that "
            "version, or restore a backup made before it first ran"
        )
    if isinstance(error, PoolTimeout):
        return (
            f"all connections of this process to {names['where']} are in use: the database is "
            "overloaded, or it hangs"
        )
    return None


def _unknown(error: BaseException, names: Mapping[str, str]) -> str:
    kind = type(error)
    named = kind.__qualname__
    if kind.__module__ != "builtins":
        named = f"{kind.__module__}.{named}"
    if sqlstate := postgresql_failures.sqlstate_of(error):
        named += f", SQLSTATE {sqlstate}"
    is_alembic = isinstance(error, CommandError)
    message = first_line(error) if is_alembic else postgresql_failures.message_of(error)
    return (
        f"{names['where']} fails with {named} ({message}): set ERC_LOG_LEVEL=debug and see the "
        "whole error in the log"
    )


def _without_passwords(sentence: str, url: URL) -> str:
    for password in (url.password, os.environ.get("PGPASSWORD")):
        for shown in {password, password and quote(str(password), safe="")}:
            if shown:
                sentence = sentence.replace(str(shown), "***")
    return sentence
