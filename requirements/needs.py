"""Says what stands in the way of installing the locks, before gigabytes are fetched in vain.

`python requirements/needs.py [cpu|gpu]` with the Python that is to be used, which `make` has found
to be of a version that the locks are for; ends with 1 where something is missing. Without the
wheels that these are for, pip would try to build packages, for an hour, to fail.
"""

import ctypes
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Iterator

# llguidance's wheels are of manylinux_2_31, all others' are of that or an older one.
LEAST_GLIBC = (2, 31)
PROCESSORS = ("x86_64", "aarch64")


def missing(flavour: str = "cpu") -> Iterator[str]:
    """What the locks need and this machine or Python lacks, with what to do about each.

    Args:
        flavour: "cpu" or "gpu", by the vLLM that is to be installed.
    """
    if platform.system() != "Linux":
        yield f"Linux is needed, this is {platform.system()}; a container will do"
        return
    if platform.machine() not in PROCESSORS:
        yield f"a processor of {' or '.join(PROCESSORS)} is needed, this is {platform.machine()}"
    if struct.calcsize("P") != 8:
        yield f"a 64-bit Python is needed, {sys.executable} has 32"
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        yield f"CPython, not free-threaded, is needed, {sys.executable} is another"
    library, version = _c_library()
    if version < LEAST_GLIBC:
        yield (
            f"glibc {_dotted(LEAST_GLIBC)} or newer is needed, this is {library}; "
            "Debian 11, Ubuntu 20.04 and RHEL 9 have it, Alpine has another C library"
        )
    # A GPU's driver is not asked for: the packages can be installed where there is none.
    if flavour == "cpu" and not _loads("libnuma.so.1"):
        yield "libnuma.so.1 is needed, by vLLM: apt install libnuma1, or dnf install numactl-libs"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _c_library() -> tuple[str, tuple[int, ...]]:
    """Its name and version as it says them; no version where it is not glibc."""
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION") or ""
        return said, tuple(int(part) for part in said.removeprefix("glibc ").split("."))
    except (OSError, ValueError):
        return "another C library", ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    found = [*missing(*sys.argv[1:])]
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    sys.exit(bool(found))
