"""The kinds of problems: status, title, cause and remedy of each.

This module also maps the service's errors to them. `/problems` lists them all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from service import errors
from service.api.head_limits import LONGEST_HEADER, MOST_BYTES_OUTSIDE_BODIES, MOST_HEADERS


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: the members that are the same in every occurrence.

    Attributes:
        cause: why a request gets this response.
        remedy: what the client or the operator does about it.
    """

    name: str
    status: int
    title: str
    cause: str
    remedy: str

    @property
    def type(self) -> str:
        """The URI that identifies it and leads to its documentation."""
        return f"/problems/{self.name}"


def _name_of(error: type[errors.ServiceError]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


PROBLEMS: Mapping[type[errors.ServiceError], Kind] = {
    error: Kind(_name_of(error), status, title, cause, remedy)
    for error, status, title, cause, remedy in (
        (
            errors.Unauthenticated,
            401,
            "A key is needed",
            "The request has no API key, or the key is unknown or has expired.",
            "Send `Authorization: Bearer KEY` with a key from the operator of the service.",
        ),
        (
            errors.ScopeMissing,
            403,
            "The key lacks a scope",
            "The key is valid but lacks the scope that this call requires.",
            "Use a key with the scope that `WWW-Authenticate` names.",
        ),
        (
            errors.QuotaExceeded,
            429,
            "The key has exceeded its quota",
            "The key has sent more requests or utterances than its quota allows.",
            "Wait for the seconds in `Retry-After`, or ask for a larger quota.",
        ),
        (
            errors.DialogueNotFound,
            404,
            "No such dialogue",
            "You have no dialogue with this id: it was never created, or it was erased or has "
            "expired.",
            "Check the id, and that the key belongs to the tenant that owns the dialogue.",
        ),
        (
            errors.UtteranceNotFound,
            404,
            "No such utterance",
            "The index is beyond the dialogue's last utterance.",
            "Use the `index` from the response to the posted utterance.",
        ),
        (
            errors.CorrectionNotFound,
            404,
            "No such correction",
            "The utterance has not been corrected, or the correction was removed.",
            "Do nothing: there is no correction to remove.",
        ),
        (
            errors.DemonstrationNotFound,
            404,
            "No such demonstration",
            "Neither your demonstrations nor the shared ones include this id.",
            "List the demonstrations with `GET /demonstrations`.",
        ),
        (
            errors.JobNotFound,
            404,
            "No such job",
            "You have no job with this id: it never existed, was deleted, or finished too long "
            "ago.",
            "Fetch results while the service keeps them: one day by default.",
        ),
        (
            errors.TooManyJobs,
            429,
            "Too many jobs",
            "You have reached the number of jobs kept for one tenant, including finished ones.",
            "Delete a job whose results you have fetched, or wait until one expires.",
        ),
        (
            errors.DialogueErased,
            410,
            "The dialogue has been erased",
            "The request with this `Idempotency-Key` succeeded before; since then its dialogue has "
            "been erased, together with the response.",
            "Do not retry; use a new key for a new dialogue.",
        ),
        (
            errors.DialogueFull,
            409,
            "The dialogue is full",
            "It has reached the number of utterances allowed in one dialogue, or ten times as many "
            "writes.",
            "Continue under another id, or ask the operator to raise "
            "`ERC_LIMITS__DIALOGUE_UTTERANCES`.",
        ),
        (
            errors.TooManyDemonstrations,
            429,
            "Too many demonstrations",
            "You have reached the number of demonstrations allowed for one tenant; corrections "
            "count.",
            "Delete some, or ask the operator to raise `ERC_LIMITS__DEMONSTRATIONS`.",
        ),
        (
            errors.TooManyAnswers,
            429,
            "Too many stored responses",
            "You have reached the number of responses stored for idempotency keys; each expires "
            "after one day by default.",
            "Send the request later, or without `Idempotency-Key`.",
        ),
        (
            errors.DemonstrationShared,
            403,
            "The demonstration is shared",
            "All tenants share it, so a tenant cannot delete it.",
            "With a key that has the scope `admin`, delete it for all with `shared=true`.",
        ),
        (
            errors.DemonstrationOfCorrection,
            409,
            "The demonstration is a correction's",
            "Its id belongs to a correction; it is added and removed together with that.",
            "To delete it, remove the correction; to add your own, use another id.",
        ),
        (
            errors.UnsupportedLabelSpace,
            422,
            "The label space cannot be used",
            "The label space does not exist, or the model was not trained on it.",
            "Choose one from `GET /label-spaces` that is `available`.",
        ),
        (
            errors.LabelSpaceNotFound,
            404,
            "No such label space",
            "Neither your label spaces nor the shipped ones include this name.",
            "List the label spaces with `GET /label-spaces`.",
        ),
        (
            errors.LabelSpaceShipped,
            409,
            "The label space ships with the service",
            "The name belongs to a label space that is available to all tenants.",
            "Choose a name that `GET /label-spaces` does not list.",
        ),
        (
            errors.InvalidLabelSpace,
            422,
            "The label space contradicts itself",
            "An example appears twice, or the sums do not cover each label of the source exactly "
            "once.",
            "Correct what `detail` names.",
        ),
        (
            errors.LabelsNotApart,
            422,
            "The examples do not tell the labels apart",
            "When each example is left out in turn, too few are recognized as their own label: "
            "predictions would be guesses.",
            "Give more and clearer examples of the labels that `detail` names, or merge them into "
            "one.",
        ),
        (
            errors.TooManyLabelSpaces,
            429,
            "Too many label spaces",
            "You have reached the number of label spaces allowed for one tenant.",
            "Delete one that you no longer use.",
        ),
        (
            errors.ForecastNotSupported,
            422,
            "The model was not trained to forecast",
            "The served model was not trained on InstructERC's task `prediction`.",
            "Ask the operator to serve a bundle whose tasks include `prediction`.",
        ),
        (
            errors.InvalidLabel,
            422,
            "The label space has no such label",
            "The label does not belong to the label space.",
            "Choose one of the labels listed in `detail` and `GET /label-spaces`.",
        ),
        (
            errors.DialogueChanged,
            412,
            "The dialogue has changed",
            "Its version differs from the one in `If-Match`: it has been written to since.",
            "Read it again, decide whether the change still applies, and send the new `ETag`.",
        ),
        (
            errors.IdempotencyKeyReused,
            409,
            "The idempotency key belongs to another request",
            "The `Idempotency-Key` was used before with another method, path or body.",
            "Use a new key for each request, and repeat a key only with an identical request.",
        ),
        (
            errors.DialogueBusy,
            503,
            "The dialogue is busy",
            "Other processes kept appending to the dialogue first.",
            "Retry after `Retry-After`; nothing was stored.",
        ),
        (
            errors.Overloaded,
            503,
            "The service is at capacity",
            "The number of connections, requests, batches, streams or queued utterances has "
            "reached its limit, or your tenant's share of it; `detail` says which.",
            "Retry after `Retry-After`, with growing pauses. If it persists, send fewer requests "
            "at once, or ask the operator for more replicas or, for a tenant's share, a higher "
            "`ERC_ADMISSION__TENANT_SHARE`.",
        ),
        (
            errors.ShuttingDown,
            503,
            "The service is shutting down",
            "The process has been told to stop and accepts no new requests.",
            "Retry on a new connection, which reaches another process.",
        ),
        (
            errors.DeadlinePassed,
            504,
            "The request timed out",
            "The response was not ready within the service's deadline or that of `Prefer: wait`.",
            "Retry after `Retry-After`, with the same `Idempotency-Key`: the request may have been "
            "stored.",
        ),
        (
            errors.ClientLeft,
            499,
            "The client closed the connection",
            "The client closed its connection before the response. Only metrics show this.",
            "Wait longer for the response.",
        ),
        (
            errors.EngineUnavailable,
            503,
            "The label engine is unavailable",
            "vLLM hangs or has died; a process whose vLLM does not recover exits by itself.",
            "Retry after `Retry-After`; make sure that a supervisor restarts the service.",
        ),
        (
            errors.DemonstrationsUnavailable,
            503,
            "The demonstrations are unavailable",
            "The encoder or the Qdrant server does not answer.",
            "Retry after `Retry-After`; check that Qdrant is running.",
        ),
        (
            errors.DatabaseUnavailable,
            503,
            "The database is unavailable",
            "The database is unreachable, too slow, full or faulty. Nothing was stored, or it is "
            "unknown whether it was.",
            "Retry after `Retry-After`, with the same `Idempotency-Key`; check the database and "
            "its disk.",
        ),
    )
}

MALFORMED_JSON = Kind(
    "malformed-json",
    400,
    "The body is not JSON",
    "The body cannot be read as JSON (RFC 8259) in UTF-8.",
    "Correct it where `detail` says, or let a library write it.",
)
BAD_REQUEST = Kind(
    "bad-request",
    400,
    "The request cannot be read",
    "The request is not valid HTTP/1.1, its query is too long, or its body is truncated or not "
    "encoded as `Content-Encoding` says.",
    "Correct what `detail` says.",
)
MISDIRECTED_REQUEST = Kind(
    "misdirected-request",
    421,
    "The service does not answer for this host",
    "`Host`, or a proxy's `X-Forwarded-Host`, names a host that the service is not configured for: "
    "a web page can make its own name resolve to this machine (DNS rebinding).",
    "Use a host name of the service, or add the host to `ERC_ALLOWED_HOSTS`.",
)
CROSS_SITE_REQUEST = Kind(
    "cross-site-request",
    403,
    "Requests from pages of other sites are refused",
    "The service runs without keys, and `Origin` or `Sec-Fetch-Site` says that the request comes "
    "from a web page of another host.",
    "Send it from a page of the service's own host, add the page's host to `ERC_ALLOWED_HOSTS` or "
    "its origin to `ERC_CORS_ORIGINS`, or set up keys.",
)
INVALID_REQUEST = Kind(
    "invalid-request",
    422,
    "The request is not valid",
    "A parameter or a field of the body is missing, superfluous, too long or of the wrong type.",
    "Correct what `errors` lists; `/docs` shows what is expected.",
)
HEAD_TOO_LARGE = Kind(
    "head-too-large",
    431,
    "The request headers are too large",
    f"There are more than {MOST_HEADERS} headers, one has more than {LONGEST_HEADER} bytes, or the "
    "whole head, or what surrounds the chunks of the body, has more than "
    f"{MOST_BYTES_OUTSIDE_BODIES} bytes.",
    "Send shorter or fewer headers, and larger chunks.",
)
BODY_TOO_LARGE = Kind(
    "body-too-large",
    413,
    "The body is too large",
    "The body, encoded or decoded, or a line of it has more bytes than the service is configured "
    "to read.",
    "Send a smaller body, or a batch as lines of JSON.",
)
NOT_JSON = Kind(
    "unsupported-media-type",
    415,
    "The body's media type is not accepted",
    "`Content-Type` names a media type that the call does not accept or a charset other than "
    "UTF-8, or `Content-Encoding` names an unsupported encoding.",
    "Send JSON in UTF-8 with `Content-Type: application/json`, or a media type from `detail`, "
    "plain or compressed with gzip.",
)
NO_SUCH_PATH = Kind(
    "no-such-path",
    404,
    "There is nothing at this path",
    "No call has this path; ids must not contain `/`.",
    "See `/docs` for the paths; none of them ends with `/`.",
)
METHOD_NOT_ALLOWED = Kind(
    "method-not-allowed",
    405,
    "The path does not support this method",
    "The path exists but does not support this method.",
    "Use one of the methods listed in `Allow`.",
)
NOT_ACCEPTABLE = Kind(
    "not-acceptable",
    406,
    "The response has none of the accepted media types",
    "`Accept` lists no media type that the call can respond with.",
    "Omit `Accept`, or list a media type from `detail`.",
)
NOT_READY = Kind(
    "not-ready",
    503,
    "A part of the service does not answer",
    "`checks` says which part is unavailable, or the process is shutting down.",
    "Send requests elsewhere until the check returns 200 again.",
)
NOT_ALIVE = Kind(
    "not-alive",
    503,
    "The service must be restarted",
    "The label engine of this process cannot recover.",
    "Restart the whole process.",
)
INTERNAL_ERROR = Kind(
    "internal-error",
    500,
    "The service failed",
    "The service met an unexpected error.",
    "The log has the cause under `request_id`; please report it to the operator.",
)

# Any call with a body may meet these, before the body is validated further.
BODY_PROBLEMS = (MALFORMED_JSON, BODY_TOO_LARGE, NOT_JSON, INVALID_REQUEST)

# Any call with an idempotency key may meet these.
IDEMPOTENCY_PROBLEMS = (
    errors.IdempotencyKeyReused,
    errors.DialogueErased,
    errors.TooManyAnswers,
)

# Any call that needs a key may meet these, before its body is read.
KEY_PROBLEMS = (errors.Unauthenticated, errors.ScopeMissing, errors.QuotaExceeded)

# Any valid call except those of operations may meet these: without keys, and with them.
OPEN_PROBLEMS = (errors.Overloaded, errors.ShuttingDown, errors.DeadlinePassed)
ADMISSION_PROBLEMS = (*KEY_PROBLEMS, *OPEN_PROBLEMS)

# The framework's own refusals, by status.
FOREIGN: Mapping[int, Kind] = {
    kind.status: kind
    for kind in (BAD_REQUEST, NO_SUCH_PATH, METHOD_NOT_ALLOWED, NOT_ACCEPTABLE, BODY_TOO_LARGE)
} | {NOT_JSON.status: NOT_JSON}

# All kinds, by name.
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        *PROBLEMS.values(),
        MALFORMED_JSON,
        BAD_REQUEST,
        MISDIRECTED_REQUEST,
        CROSS_SITE_REQUEST,
        INVALID_REQUEST,
        HEAD_TOO_LARGE,
        BODY_TOO_LARGE,
        NOT_JSON,
        NO_SUCH_PATH,
        METHOD_NOT_ALLOWED,
        NOT_ACCEPTABLE,
        NOT_READY,
        NOT_ALIVE,
        INTERNAL_ERROR,
    )
}

WORTH_A_RETRY = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


def kind_of(error: errors.ServiceError) -> Kind:
    """The problem of an error, or of the error that it refines."""
    return next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
