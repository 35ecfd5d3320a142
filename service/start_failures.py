"""Why a command cannot start, in one line."""

from sqlalchemy import make_url

from service.errors import DatabaseUnavailable, Unavailable
from service.failures import cause_of_ours
from service.files import error_in_words
from service.sessions.database_failures import cause_of
from service.settings import Settings


def start_failure_line(error: Exception, settings: Settings) -> str:
    """The error's message and, if a part is unavailable, the cause that it reports."""
    match error:
        case DatabaseUnavailable() if error.__cause__ is not None:
            return cause_of(error, make_url(settings.database.url.get_secret_value()))
        case Unavailable() if cause := cause_of_ours(error):
            message = f"{error}: {cause}"
        case _:
            message = error_in_words(error)
    return " ".join(message.split())
