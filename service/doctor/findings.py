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
    """The finding for one part.

    Attributes:
        remedy: what to do if the status is not ok.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


class Fault(Exception):
    """A part is not in order."""

    def __init__(self, detail: str, remedy: str, status: Status = "failed") -> None:
        super().__init__(detail)
        self.remedy = remedy
        self.status: Status = status


def check(name: str, look: Callable[[], str]) -> Check:
    """Check a part.

    Args:
        look: returns what it finds, or raises `Fault`.
    """
    try:
        return Check(name, "ok", look())
    except Fault as fault:
        return Check(name, fault.status, str(fault), fault.remedy)
    except Exception as error:  # an unexpected error in one check must not hide the others
        log.exception("the check of the %s failed", name)
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        return Check(
            name,
            "failed",
            f"the check itself failed ({kind})",
            "set ERC_LOG_LEVEL=debug and see the whole error in the log",
        )


def is_well(checks: Sequence[Check]) -> bool:
    """Whether the service can start, with or without warnings."""
    return all(check.status != "failed" for check in checks)


def as_json(checks: Sequence[Check]) -> str:
    """One document: `{"ok": ..., "checks": [{"name", "status", "detail", "remedy"}]}`."""
    document = {"ok": is_well(checks), "checks": list(map(asdict, checks))}
    return json.dumps(document, ensure_ascii=False, indent=2)


def as_text(finding: Check) -> str:
    """A line with the finding and, if something is wrong, one with the remedy."""
    line = f"{finding.status:8} {finding.name:14} {finding.detail}"
    return f"{line}\n{'':23} -> {finding.remedy}" if finding.remedy else line
