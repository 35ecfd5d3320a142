"""Findings of the checks, as text and as JSON."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

log = logging.getLogger(__name__)

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one part.

    Attributes:
        remedy: what to do, where it is not ok.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


class Fault(Exception):
    """A part is not as it is to be."""

    def __init__(self, detail: str, remedy: str, status: Status = "failed") -> None:
        super().__init__(detail)
        self.remedy = remedy
        self.status: Status = status


def check(name: str, look: Callable[[], str]) -> Check:
    """Look at a part.

    Args:
        look: says what it finds, or raises `Fault`.
    """
    try:
        return Check(name, "ok", look())
    except Fault as fault:
        return Check(name, fault.status, str(fault), fault.remedy)
    except Exception as error:  # one part that nobody foresaw must not hide the others
        log.exception("looking at the %s failed", name)
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        return Check(
            name,
            "failed",
            f"the check itself failed ({kind})",
            "see the whole error in the log at ERC_LOG_LEVEL=debug",
        )


def is_well(checks: Sequence[Check]) -> bool:
    """Whether the service can start; warnings do not keep it from it."""
    return all(each.status != "failed" for each in checks)


def as_json(checks: Sequence[Check]) -> str:
    """One document: `{"ok": ..., "checks": [{"name", "status", "detail", "remedy"}]}`."""
    found = {"ok": is_well(checks), "checks": [asdict(each) for each in checks]}
    return json.dumps(found, ensure_ascii=False, indent=2)


def as_text(found: Check) -> str:
    """A line of what was found and, where something is wrong, one of what to do."""
    line = f"{found.status:8} {found.name:14} {found.detail}"
    return f"{line}\n{'':23} -> {found.remedy}" if found.remedy else line
