"""What the client raises.

* ClientError         everything below; `is_transient` says whether a retry may help
  + Unreachable       no answer: the connection failed, broke off or timed out
  + UnexpectedAnswer  an answer that is none of the service's
  + Refused           a problem document (RFC 9457); `kind` says which
    - Invalid         400, 406, 413, 415, 422: correct the request
    - NotAllowed      401, 403: another key is needed
    - NotFound        404, 410
    - Conflict        409, 412: it is in another state than expected
    - TooMany         429: a quota or a limit of stored things
    - Unavailable     502, 503, 504: a part of the service, or the service
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import ValidationError

from instructerc.models import Problem


class ClientError(Exception):
    """Any failure of a call."""

    is_transient = False


class Unreachable(ClientError):
    """No answer: the connection failed, broke off or timed out."""

    is_transient = True


class UnexpectedAnswer(ClientError):
    """An answer that is none of the service's; something else may be at the address."""


class Refused(ClientError):
    """The service refuses the request, or cannot fulfil it.

    Attributes:
        problem: the problem document.
        retry_after_s: seconds after which a retry may help; None: the service does not say.
    """

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def kind(self) -> str:
        """The kind of problem, such as `dialogue-not-found`."""
        return self.problem.type.rpartition("/")[2]

    @property
    def is_transient(self) -> bool:  # type: ignore[override]  # here it depends on the answer
        return self.retry_after_s is not None or isinstance(self, Unavailable)


class Invalid(Refused):
    """400, 406, 413, 415, 422: the request is to be corrected; `problem.errors` says where."""


class NotAllowed(Refused):
    """401, 403: another key is needed."""


class NotFound(Refused):
    """404, 410: it does not exist, or no longer."""


class Conflict(Refused):
    """409, 412: it is in another state than the request expects."""


class TooMany(Refused):
    """429: beyond a quota, or a limit of what is stored."""


class Unavailable(Refused):
    """502, 503, 504: a part of the service does not answer, or is overloaded."""


_BY_STATUS: Mapping[int, type[Refused]] = {
    **dict.fromkeys((400, 406, 413, 415, 422), Invalid),
    **dict.fromkeys((401, 403), NotAllowed),
    **dict.fromkeys((404, 410), NotFound),
    **dict.fromkeys((409, 412), Conflict),
    **dict.fromkeys((502, 503, 504), Unavailable),
    429: TooMany,
}


def refusal(status: int, reason: str, headers: Mapping[str, str], body: bytes) -> Refused:
    """The error for a response that is no success; a proxy's may have no problem document."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        detail = "the answer has no problem document"
        problem = Problem(type="about:blank", title=reason, status=status, detail=detail)
    kind = _BY_STATUS.get(status, Refused)
    return kind(problem, _seconds(headers.get("retry-after")))


def _seconds(retry_after: str | None) -> float | None:
    """The seconds of a `Retry-After`, which has them or a date; None if it has neither."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
