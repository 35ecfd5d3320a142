"""Prints the licences of what the images install, as the packages themselves state them.

`python requirements/licences.py > requirements/LICENCES.md` (`make licences`) in the environment
of the lock.
"""

import re
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path

# What packages state that are for some Pythons or processors only (the lock's markers say which),
# for where they are not installed.
_ELSEWHERE = {
    "intel-cmplr-lib-ur": "Other/Proprietary License",
    "intel-openmp": "Other/Proprietary License",
    "six": "MIT License",
}
_FOLDER = Path(__file__).parent
_HEAD = """\
# Licences

What the CPU lock installs, and the licence that each package states. `make licences` writes this.

| package | version | licence |
|---|---|---|
"""
_TAIL = """
The GPU image has the official builds of `torch` and vLLM in place of the CPU ones, and besides:

{names}.

Those called `nvidia-*` and `cuda-*` are under NVIDIA's own terms.
"""


def licences() -> str:
    """The document.

    Raises:
        importlib.metadata.PackageNotFoundError: a package of the lock is not installed, and is not
            one that is for other Pythons or processors.
    """
    ours = pinned("torch-cpu") | pinned("cpu")
    rows = [f"| {name} | {version} | {stated(name)} |" for name, version in sorted(ours.items())]
    more = sorted(pinned("gpu").keys() - ours.keys() - {"vllm"})
    names = ", ".join(f"`{name}`" for name in more)
    return _HEAD + "\n".join(rows) + "\n" + _TAIL.format(names=names)


def pinned(lock: str) -> dict[str, str]:
    """Packages of a lock and their versions."""
    text = (_FOLDER / f"{lock}.txt").read_text("utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def stated(name: str) -> str:
    """The licence of a package, as it says itself where it is installed."""
    try:
        return licence(metadata(name))
    except PackageNotFoundError:
        if name not in _ELSEWHERE:
            raise
        return _ELSEWHERE[name]


def licence(package: PackageMetadata) -> str:
    """An SPDX expression where there is one (PEP 639), else classifiers, else the free text."""
    if "License-Expression" in package:
        return package["License-Expression"]
    classifiers = [
        classifier.rpartition(" :: ")[2]
        for classifier in package.get_all("Classifier") or []
        if classifier.startswith("License :: ") and not classifier.endswith("OSI Approved")
    ]
    if classifiers:
        return ", ".join(classifiers)
    text = package["License"] if "License" in package else ""  # noqa: SIM401, it has no get
    first = text.strip().partition("\n")[0].strip()
    return first or "not stated"


if __name__ == "__main__":
    print(licences(), end="")
