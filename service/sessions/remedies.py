"""The setting and the user that messages about failures of either database name."""

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
    """The user at the beginning of a sentence."""
    return f"user {user()}"
