"""What an error of the outside may be told as, in a log or to whoever starts the service.

Its message may hold anything: a password, or what people say. So it is told for the kinds alone
whose messages are of machines and names; of every other kind, the kind.
"""

import re
from collections.abc import Iterator

# Classes of SQLSTATE whose messages may repeat values: data exceptions, broken constraints, errors
# of triggers.
_WITH_VALUES = ("22", "23", "P0")
_LOGIN = re.compile(r"//[^/@\s]+@")


def cause_of_ours(error: BaseException) -> str:
    """What one of our errors was raised from, outermost first; empty where it was not."""
    return ", from ".join(map(_told, _causes(error)))


def words_of(error: BaseException) -> str:
    """An outside error's own message, where it cannot hold what people say; else empty."""
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return "" if sqlstate.startswith(_WITH_VALUES) else first_line(error)
    if isinstance(error, OSError):
        return getattr(error, "verify_message", "") or error.strerror or _of_several(error)
    # SQLite's, whose messages have names of tables alone.
    return first_line(error) if getattr(error, "sqlite_errorname", None) else ""


def first_line(error: BaseException) -> str:
    """The first line of a message, without a login; PostgreSQL has values on the others."""
    line = str(error.args[0] if error.args else "").partition("\n")[0].strip()
    return _LOGIN.sub("//***@", line)


def _of_several(error: OSError) -> str:
    # Of a host with several addresses, asyncio raises one error; asyncpg has one for TLS.
    return first_line(error) if type(error) in (OSError, ConnectionError) else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}
    while (following := error.__cause__) is not None and id(following) not in seen:
        seen.add(id(following))
        yield (error := following)


def _told(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    words = words_of(error)
    return f"{name} ({words})" if words else name
