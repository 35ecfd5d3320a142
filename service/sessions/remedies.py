"""What the sentences about either database's failures name: the setting to check, and the user."""

import getpass
import os

URL_SETTING = "ERC_DATABASE__URL"
CHECK_URL = f"check {URL_SETTING}"


def user() -> str:
    """The name of the user that the process runs as, or its number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a number may have no name
        return str(os.geteuid())


def who() -> str:
    """The same, as a sentence begins with it."""
    return f"user {user()}"
