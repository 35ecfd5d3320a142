"""How many connections there is room for."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("soft", "hard", "expected"), [(1024, 8192, 2048), (1024, 1500, 988), (200, 200, 100)]
)
def test_there_are_no_more_connections_than_the_process_may_open_files(
    soft: int, hard: int, expected: int
) -> None:
    """The limit is raised where it may be: else the database could not be opened any more."""
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from service.api.connections.room import most_connections
print(most_connections(2048), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stdout == f"{expected} {min(hard, 2048 + 512)}\n"
    assert ("ulimit" in done.stderr) == (expected < 2048)
