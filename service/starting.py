"""Why a command cannot start, in one line."""

from sqlalchemy import make_url

from service.errors import DatabaseUnavailable, Unavailable
from service.failures import cause_of_ours
from service.files import in_words
from service.sessions.database_failures import cause_of
from service.settings import Settings


def why(error: Exception, settings: Settings) -> str:
    """What stands in the way and, where a part does not answer, what the outside says of it."""
    match error:
        case DatabaseUnavailable() if error.__cause__ is not None:
            return cause_of(error, make_url(settings.database.url.get_secret_value()))
        case Unavailable() if cause := cause_of_ours(error):
            told = f"{error}: {cause}"
        case _:
            told = in_words(error)
    return " ".join(told.split())
