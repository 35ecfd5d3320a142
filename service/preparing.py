"""Preparation before processes start: tables and index.

A process that starts does both itself where nobody has; with many processes, or with rights that
they are not to have, it is done before them.
"""

from service.conversation.labels import load_label_spaces
from service.demonstrations.encoder import load_encoder
from service.parts import Report, open_index
from service.sessions.database import open_database
from service.sessions.migrate import migrate
from service.settings import Settings


async def prepare_database(settings: Settings) -> None:
    """Bring the database's tables to the newest version.

    Raises:
        ValueError: the settings name no database that can be used.
        DatabaseUnavailable: it does not answer or refuses.
    """
    database = open_database(settings.database.url.get_secret_value())
    try:
        await migrate(database)
    finally:
        await database.close()


async def prepare_index(settings: Settings, report: Report) -> None:
    """Have the store of demonstrations hold the ones that ship.

    Args:
        report: told what is being done, for people who wait.

    Raises:
        WrongWeights, IndexMismatch, DemonstrationFormatError: something on disk or in the store
            cannot be used; the message says what.
        DemonstrationsUnavailable: the encoder or the store fails.
    """
    label_spaces = load_label_spaces(settings.data / "label_spaces")
    encoder = load_encoder()
    try:
        async with open_index(settings, label_spaces, encoder, report):
            pass
    finally:
        await encoder.close()
