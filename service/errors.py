"""Errors of the service. No HTTP in here; `service.api.problems` maps them to statuses.

* ServiceError                str(error) is safe to show to a client
  + Unauthenticated           no valid key
  + ScopeMissing              the key lacks a scope
  + QuotaExceeded             of the key; worth a retry later
  + DialogueNotFound
  + UtteranceNotFound
  + CorrectionNotFound
  + DemonstrationNotFound
  + DemonstrationShared       all tenants share it, so a tenant cannot delete it
  + DemonstrationOfCorrection  goes when its correction is removed
  + DialogueErased            between a request and its retry
  + JobNotFound
  + TooManyJobs               of one tenant
  + TooManyAnswers            of one tenant, stored for idempotency keys
  + TooManyDemonstrations     of one tenant
  + DialogueFull              no room for utterances or writes
  + UnsupportedLabelSpace     unknown, or the bundle was not trained on it
  + LabelSpaceNotFound
  + LabelSpaceShipped         the name belongs to one that ships with the service
  + InvalidLabelSpace         it contradicts itself
  + LabelsNotApart            its examples do not distinguish its labels
  + TooManyLabelSpaces        of one tenant
  + ForecastNotSupported      the bundle was not trained on the prediction task
  + InvalidLabel              not a label of the label space
  + DialogueChanged           its version is not the one that the request expects
  + IdempotencyKeyReused      with another request
  + DialogueBusy              other writers keep appending first; worth a retry
  + Overloaded                at capacity; worth a retry
  + ShuttingDown              another process can take the request
  + DeadlinePassed            no response in time; worth a retry
  + ClientLeft                nobody waits for the response
  + Unavailable               a dependency does not answer; worth a retry
    - EngineUnavailable
    - DemonstrationsUnavailable
    - DatabaseUnavailable
"""


class ServiceError(Exception):
    """The service refuses a request or cannot carry it out."""


class Unauthenticated(ServiceError):
    """The request has no valid key."""


class ScopeMissing(ServiceError):
    """The key lacks a scope."""

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class QuotaExceeded(ServiceError):
    """The caller has used up the key's quota for now."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DialogueNotFound(ServiceError):
    """No dialogue has this id."""


class UtteranceNotFound(ServiceError):
    """The dialogue has no utterance with this index."""


class CorrectionNotFound(ServiceError):
    """Nobody has corrected the utterance."""


class DemonstrationNotFound(ServiceError):
    """No demonstration has this id."""


class DialogueErased(ServiceError):
    """The request is a retry, and its dialogue has been erased since the first attempt."""


class JobNotFound(ServiceError):
    """No job has this id."""


class TooManyJobs(ServiceError):
    """The tenant has reached its limit of jobs."""


class TooManyAnswers(ServiceError):
    """The tenant has reached its limit of stored responses."""


class TooManyDemonstrations(ServiceError):
    """The tenant has reached its limit of demonstrations."""


class DialogueFull(ServiceError):
    """The dialogue has reached its limit of utterances or of writes."""


class DemonstrationShared(ServiceError):
    """All tenants share the demonstration: a tenant cannot delete it."""


class DemonstrationOfCorrection(ServiceError):
    """The demonstration belongs to a correction and is removed together with it."""


class UnsupportedLabelSpace(ServiceError):
    """The label space is unknown, or the bundle was not trained on it."""


class LabelSpaceNotFound(ServiceError):
    """The tenant has no label space of this name."""


class LabelSpaceShipped(ServiceError):
    """The name belongs to a label space that ships with the service: nobody may change it."""


class InvalidLabelSpace(ServiceError):
    """The label space's definition contradicts itself."""


class LabelsNotApart(ServiceError):
    """The examples do not distinguish the labels."""


class TooManyLabelSpaces(ServiceError):
    """The tenant has reached its limit of label spaces."""


class ForecastNotSupported(ServiceError):
    """The bundle was not trained on the prediction task."""


class InvalidLabel(ServiceError):
    """The label space has no such label."""


class DialogueChanged(ServiceError):
    """The dialogue has another version than the request expects."""


class IdempotencyKeyReused(ServiceError):
    """The idempotency key was used with another request."""


class DialogueBusy(ServiceError):
    """Other writers keep appending to the dialogue first."""


class Overloaded(ServiceError):
    """The service is at capacity."""


class ShuttingDown(ServiceError):
    """The service is shutting down."""


class DeadlinePassed(ServiceError):
    """The response is not ready within the deadline."""


class ClientLeft(ServiceError):
    """The client has closed its connection; nobody reads this."""


class Unavailable(ServiceError):
    """A part of the service does not answer."""


class EngineUnavailable(Unavailable):
    """The label engine does not answer."""


class DemonstrationsUnavailable(Unavailable):
    """The encoder or the demonstration store does not answer."""


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""
