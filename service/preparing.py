"""Preparation before processes start: tables and index.

A starting process does both itself if needed. With many processes, or where they lack the rights,
they are prepared in advance.
"""

from service.conversation.labels import load_label_spaces
from service.demonstrations.encoder import load_encoder
from service.recognition_parts import Report, open_index
from service.sessions.database import open_database
from service.sessions.migrate import migrate
from service.settings import Settings


async def prepare_database(settings: Settings) -> None:
    """Bring the database's tables to the newest version.

    Raises:
        ValueError: the configured database URL is unusable.
        DatabaseUnavailable: the database does not respond or refuses.
    """
    database = open_database(settings.database.url.get_secret_value())
    try:
        await migrate(database)
    finally:
        await database.close()


async def prepare_index(settings: Settings, report: Report) -> None:
    """Index the shipped demonstrations if they are not yet.

    Args:
        report: called with the progress.

    Raises:
        WrongWeights, IndexMismatch, DemonstrationFormatError: a file or the store is unusable; the
            message says which and why.
        DemonstrationsUnavailable: the encoder or the store fails.
    """
    label_spaces = load_label_spaces(settings.data / "label_spaces")
    encoder = load_encoder()
    try:
        async with open_index(settings, label_spaces, encoder, report):
            pass
    finally:
        await encoder.close()
