"""Every kind of problem that a request may be answered with: why it comes, and what to do then.

Which error of the service becomes which of them stands here too. `/problems` shows them all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from service import errors
from service.api.head_limits import LONGEST_HEADER, MOST_BYTES_OUTSIDE_BODIES, MOST_HEADERS


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem; all of this is the same whenever it occurs.

    Attributes:
        cause: why a request is answered so.
        remedy: what the client, or whoever runs the service, does then.
    """

    name: str
    status: int
    title: str
    cause: str
    remedy: str

    @property
    def type(self) -> str:
        """The URI that identifies it; there its documentation is."""
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
            "The request has no key, or one that is not known or whose time is over.",
            "Send `Authorization: Bearer KEY` with a key that whoever runs the service gave you.",
        ),
        (
            errors.ScopeMissing,
            403,
            "The key is not for this",
            "The key is good, but has not the scope that the call needs.",
            "Use a key with the scope that `WWW-Authenticate` names.",
        ),
        (
            errors.QuotaExceeded,
            429,
            "The key has used up its quota",
            "More requests or utterances came with the key than its quota allows.",
            "Wait for as many seconds as `Retry-After` says, or ask for a larger quota.",
        ),
        (
            errors.DialogueNotFound,
            404,
            "No such dialogue",
            "No dialogue of yours has the id: it was never begun, was erased, or is too old.",
            "Check the id, and that the key is of the tenant whose dialogue it is.",
        ),
        (
            errors.UtteranceNotFound,
            404,
            "No such utterance",
            "The dialogue has fewer utterances.",
            "Take the `index` that the post of the utterance was answered with.",
        ),
        (
            errors.CorrectionNotFound,
            404,
            "No such correction",
            "Nobody has corrected the utterance, or the correction was taken back.",
            "There is nothing to take back.",
        ),
        (
            errors.DemonstrationNotFound,
            404,
            "No such demonstration",
            "Neither you nor everybody has a demonstration with the id.",
            "Look for it in `GET /demonstrations`.",
        ),
        (
            errors.JobNotFound,
            404,
            "No such job",
            "No job of yours has the id: it never was, was deleted, or ended too long ago.",
            "Fetch results while the service keeps them, a day unless it is set otherwise.",
        ),
        (
            errors.TooManyJobs,
            429,
            "There are too many jobs",
            "You have as many jobs as are kept for one tenant, those that are done among them.",
            "Delete a job whose results you have, or wait until one is old enough to be erased.",
        ),
        (
            errors.DialogueErased,
            410,
            "The dialogue has been erased",
            "The request was done when it first came with its `Idempotency-Key`; since then the "
            "dialogue that it was about has been erased, and the answer with it.",
            "Do not send it again; a new dialogue begins with a new key.",
        ),
        (
            errors.DialogueFull,
            409,
            "The dialogue is as long as it may be",
            "It has as many utterances as the service keeps of one dialogue, or has been written "
            "to ten times as often.",
            "Go on under another id, or have the service run with more "
            "`ERC_LIMITS__DIALOGUE_UTTERANCES`.",
        ),
        (
            errors.TooManyDemonstrations,
            429,
            "There are too many demonstrations",
            "You have as many demonstrations as one tenant may, your corrections among them.",
            "Delete some, or have the service run with more `ERC_LIMITS__DEMONSTRATIONS`.",
        ),
        (
            errors.TooManyAnswers,
            429,
            "There are too many kept answers",
            "As many answers are kept for your idempotency keys as may be; each goes after a day, "
            "unless the service is set otherwise.",
            "Send it without `Idempotency-Key`, or later.",
        ),
        (
            errors.DemonstrationShared,
            403,
            "The demonstration is everybody's",
            "It is shared by all tenants, so that none of them may delete it.",
            "With a key that has the scope `admin`, delete it for all with `shared=true`.",
        ),
        (
            errors.DemonstrationOfCorrection,
            409,
            "The demonstration is a correction's",
            "Its id is of a correction, with which it comes and goes.",
            "To delete it, take the correction back; to add one of your own, give it another id.",
        ),
        (
            errors.UnsupportedLabelSpace,
            422,
            "The label space cannot be used",
            "There is no such label space, or the model was not trained on it.",
            "Choose one that `GET /label-spaces` shows, an `available` one for predictions.",
        ),
        (
            errors.LabelSpaceNotFound,
            404,
            "No such label space",
            "There is no label space of the name, neither of yours nor one that ships.",
            "Look for it in `GET /label-spaces`.",
        ),
        (
            errors.LabelSpaceShipped,
            409,
            "The label space ships with the service",
            "It has the name of a label space that all tenants are answered in.",
            "Choose a name that `GET /label-spaces` does not have.",
        ),
        (
            errors.InvalidLabelSpace,
            422,
            "The label space contradicts itself",
            "An example stands under two labels or twice, or the sums are not of every label of "
            "the source, each as a whole.",
            "Mend what the detail names.",
        ),
        (
            errors.LabelsNotApart,
            422,
            "The examples do not tell the labels apart",
            "Left out one by one, too few of the examples are taken for their own label by what "
            "the others say: answers would be guesses.",
            "Give more and clearer examples of the labels that the detail names, or make one "
            "label of them.",
        ),
        (
            errors.TooManyLabelSpaces,
            429,
            "There are too many label spaces",
            "You have as many label spaces of your own as one tenant may.",
            "Delete one that is not asked for any more.",
        ),
        (
            errors.ForecastNotSupported,
            422,
            "The model was not trained to forecast",
            "The model that is served never learnt InstructERC's prediction task.",
            "Have the service run with a bundle whose tasks hold `prediction`.",
        ),
        (
            errors.InvalidLabel,
            422,
            "The label space has no such label",
            "The label is not one of the label space's.",
            "Choose one of those that `detail` and `GET /label-spaces` name.",
        ),
        (
            errors.DialogueChanged,
            412,
            "The dialogue has changed",
            "It is not of the version that `If-Match` names; somebody has written to it since.",
            "Read it again, decide anew, and send its new `ETag`.",
        ),
        (
            errors.IdempotencyKeyReused,
            409,
            "The idempotency key is another request's",
            "The `Idempotency-Key` came before, with another method, path or body.",
            "Make a new key for each request, and repeat one only with the very same request.",
        ),
        (
            errors.DialogueBusy,
            503,
            "Others keep appending to the dialogue",
            "Other processes appended to the dialogue first, again and again.",
            "Send the request again after `Retry-After`; nothing was stored.",
        ),
        (
            errors.Overloaded,
            503,
            "The service has as much to do as it can",
            "As many connections, requests, batches, streams or waiting utterances are there as "
            "may be, or as many of your tenant's as one tenant may have; `detail` says which.",
            "Send the request again after `Retry-After`, each time a little later. If it lasts, "
            "send less at once, or have more replicas run or, for a tenant's share, "
            "`ERC_ADMISSION__TENANT_SHARE` raised.",
        ),
        (
            errors.ShuttingDown,
            503,
            "The service is about to end",
            "The process was told to end, and takes on nothing new.",
            "Send the request again on a new connection, which leads to another process.",
        ),
        (
            errors.DeadlinePassed,
            504,
            "There was no answer in time",
            "The answer was not ready within the service's deadline or that of `Prefer: wait`.",
            "Send the request again after `Retry-After`, with the same `Idempotency-Key`: it may "
            "have been stored all the same.",
        ),
        (
            errors.ClientLeft,
            499,
            "The client has left",
            "The client closed its connection. Only the service's metrics name it.",
            "Wait longer for the answer.",
        ),
        (
            errors.EngineUnavailable,
            503,
            "The label engine does not answer",
            "vLLM hangs or has died; a process whose vLLM does not come back ends by itself.",
            "Send the request again after `Retry-After`; have something start the service anew.",
        ),
        (
            errors.DemonstrationsUnavailable,
            503,
            "The demonstrations do not answer",
            "The encoder or the Qdrant server does not answer.",
            "Send the request again after `Retry-After`; see whether Qdrant runs.",
        ),
        (
            errors.DatabaseUnavailable,
            503,
            "The database does not answer",
            "The database is away, too slow, full or out of order. Nothing was stored, or it is "
            "not known whether it was.",
            "Send the request again after `Retry-After`, with the same `Idempotency-Key`; see to "
            "the database and its disk.",
        ),
    )
}

MALFORMED_JSON = Kind(
    "malformed-json",
    400,
    "The body is not JSON",
    "The body cannot be read as JSON (RFC 8259) in UTF-8.",
    "Mend it where `detail` says, and have a library write it.",
)
BAD_REQUEST = Kind(
    "bad-request",
    400,
    "The request cannot be read",
    "The request is not one that HTTP/1.1 allows, its query is longer than is read, or its body is "
    "cut off or not packed as `Content-Encoding` says.",
    "Mend what `detail` says.",
)
MISDIRECTED_REQUEST = Kind(
    "misdirected-request",
    421,
    "The service is not this host",
    "`Host`, or a proxy's `X-Forwarded-Host`, names one that the service is not set to answer as: "
    "a web page may have its own name lead here.",
    "Ask for the service as it is known, or have `ERC_ALLOWED_HOSTS` name the host.",
)
CROSS_SITE_REQUEST = Kind(
    "cross-site-request",
    403,
    "A page of another site may not ask",
    "The service takes no keys, and `Origin` or `Sec-Fetch-Site` says that a web page of another "
    "host asks.",
    "Ask from a page of the service's own host, have `ERC_ALLOWED_HOSTS` name the page's host or "
    "`ERC_CORS_ORIGINS` its origin, or set up keys.",
)
INVALID_REQUEST = Kind(
    "invalid-request",
    422,
    "The request is not valid",
    "A parameter or a member of the body is missing, too many, too long or of another kind.",
    "Mend what `errors` lists; `/docs` shows what is taken.",
)
HEAD_TOO_LARGE = Kind(
    "head-too-large",
    431,
    "The request's head is larger than the service takes",
    f"There are more than {MOST_HEADERS} headers, one has more than {LONGEST_HEADER} bytes, or the "
    "whole head, or what surrounds the chunks of the body, has more than "
    f"{MOST_BYTES_OUTSIDE_BODIES} bytes.",
    "Send shorter or fewer headers, and larger chunks.",
)
BODY_TOO_LARGE = Kind(
    "body-too-large",
    413,
    "The body is larger than the service takes",
    "The body, as it is sent or as it unpacks, or a line of it, has more bytes than the service is "
    "set to read.",
    "Send less at once, or a batch as lines of JSON.",
)
NOT_JSON = Kind(
    "unsupported-media-type",
    415,
    "The body is not declared as JSON",
    "`Content-Type` names another media type than the call takes, or another charset than UTF-8, "
    "or `Content-Encoding` a way to pack it that is not taken.",
    "Send JSON in UTF-8, with `Content-Type: application/json`, as it is or packed with gzip.",
)
NO_SUCH_PATH = Kind(
    "no-such-path",
    404,
    "There is nothing at this path",
    "No call has this path; ids in it hold no `/`.",
    "See `/docs` for the paths there are; none of them ends with `/`.",
)
METHOD_NOT_ALLOWED = Kind(
    "method-not-allowed",
    405,
    "The path does not take this method",
    "There is a call with the path, but not with the method.",
    "Use one of the methods that `Allow` names.",
)
NOT_ACCEPTABLE = Kind(
    "not-acceptable",
    406,
    "The answer has none of the accepted media types",
    "`Accept` names no media type that the call can answer with.",
    "Leave `Accept` out, or name what `detail` says.",
)
NOT_READY = Kind(
    "not-ready",
    503,
    "A part of the service does not answer",
    "`checks` says which part does not answer, or the process is about to end.",
    "Send requests elsewhere until it is 200 again.",
)
NOT_ALIVE = Kind(
    "not-alive",
    503,
    "The service must be started anew",
    "The label engine is lost for this process.",
    "Start the process anew.",
)
INTERNAL_ERROR = Kind(
    "internal-error",
    500,
    "The service failed",
    "A fault of the service that nobody foresaw.",
    "Whoever runs it finds the cause in the log, under `request_id`; please report it.",
)

# What any call with a body may be refused for, before it is looked at more closely.
BODY_PROBLEMS = (MALFORMED_JSON, BODY_TOO_LARGE, NOT_JSON, INVALID_REQUEST)

# What any call that takes an idempotency key may be refused for, where it has one.
IDEMPOTENCY_PROBLEMS = (
    errors.IdempotencyKeyReused,
    errors.DialogueErased,
    errors.TooManyAnswers,
)

# What any call that is not open to all may be refused for, before it is looked at.
KEY_PROBLEMS = (errors.Unauthenticated, errors.ScopeMissing, errors.QuotaExceeded)

# What any call but those of operations may be refused for, however good it is; with keys, and
# where none is needed.
OPEN_PROBLEMS = (errors.Overloaded, errors.ShuttingDown, errors.DeadlinePassed)
ADMISSION_PROBLEMS = (*KEY_PROBLEMS, *OPEN_PROBLEMS)

# What the framework refuses by itself, by status.
FOREIGN: Mapping[int, Kind] = {
    kind.status: kind
    for kind in (BAD_REQUEST, NO_SUCH_PATH, METHOD_NOT_ALLOWED, NOT_ACCEPTABLE, BODY_TOO_LARGE)
} | {NOT_JSON.status: NOT_JSON}

# All of them, by name.
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
