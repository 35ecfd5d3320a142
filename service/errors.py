"""What the service refuses or fails at. No HTTP in here; `service.api.problems` gives the statuses.

* ServiceError                str(error) is safe to show to a client
  + Unauthenticated           no key, or none that is good
  + ScopeMissing              the key is not for this
  + QuotaExceeded             the key's caller has had enough for now; worth a retry
  + DialogueNotFound
  + UtteranceNotFound
  + CorrectionNotFound
  + DemonstrationNotFound
  + DemonstrationShared       everybody's, so nobody may delete it
  + DemonstrationOfCorrection  a correction's, which is taken back instead
  + DialogueErased            the request came before it was, and comes again now
  + JobNotFound
  + TooManyJobs               of one tenant
  + TooManyAnswers            of one tenant, kept for their keys
  + TooManyDemonstrations     of one tenant
  + DialogueFull              it has as many utterances, or writes, as it may
  + UnsupportedLabelSpace     unknown, or the bundle was not trained on it
  + LabelSpaceNotFound        none of the tenant's own has this name
  + LabelSpaceShipped         it has the name of one that ships with the service
  + InvalidLabelSpace         it contradicts itself
  + LabelsNotApart            its examples do not tell its labels apart
  + TooManyLabelSpaces        of one tenant
  + ForecastNotSupported      the bundle was not trained on the prediction task
  + InvalidLabel              not a label of the label space
  + DialogueChanged           it is not as the request takes it to be
  + IdempotencyKeyReused      the key came with another request
  + DialogueBusy              other writers keep getting in first; worth a retry
  + Overloaded                more is asked than there is room for; worth a retry
  + ShuttingDown              another process takes the request
  + DeadlinePassed            there was no answer in time; worth a retry
  + ClientLeft                nobody waits for the answer any more
  + Unavailable               a part does not answer; worth a retry
    - EngineUnavailable
    - DemonstrationsUnavailable
    - DatabaseUnavailable
"""


class ServiceError(Exception):
    """The service refuses a request or cannot carry it out."""


class Unauthenticated(ServiceError):
    """The request has no key, or none that is good."""


class ScopeMissing(ServiceError):
    """The key is not for this."""

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class QuotaExceeded(ServiceError):
    """The key's caller has asked for as much as they may for now."""

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
    """The request was done before, and the dialogue that it was about has been erased since."""


class JobNotFound(ServiceError):
    """No job has this id."""


class TooManyJobs(ServiceError):
    """The tenant has as many jobs as are kept."""


class TooManyAnswers(ServiceError):
    """As many answers are kept for the tenant's idempotency keys as may be."""


class TooManyDemonstrations(ServiceError):
    """The tenant has as many demonstrations of its own as it may."""


class DialogueFull(ServiceError):
    """The dialogue has as many utterances, or has been written to as often, as it may."""


class DemonstrationShared(ServiceError):
    """The demonstration is everybody's: no tenant may delete it."""


class DemonstrationOfCorrection(ServiceError):
    """The demonstration is a correction's: it comes and goes with that."""


class UnsupportedLabelSpace(ServiceError):
    """The label space is unknown, or the bundle was not trained on it."""


class LabelSpaceNotFound(ServiceError):
    """No label space of the tenant's own has this name."""


class LabelSpaceShipped(ServiceError):
    """The name is of a label space that ships with the service: nobody may change it."""


class InvalidLabelSpace(ServiceError):
    """What is said of the label space contradicts itself."""


class LabelsNotApart(ServiceError):
    """The examples do not tell the labels apart."""


class TooManyLabelSpaces(ServiceError):
    """The tenant has as many label spaces of its own as it may."""


class ForecastNotSupported(ServiceError):
    """The bundle was not trained on the prediction task."""


class InvalidLabel(ServiceError):
    """The label space has no such label."""


class DialogueChanged(ServiceError):
    """The dialogue is not as the request takes it to be."""


class IdempotencyKeyReused(ServiceError):
    """The idempotency key came with another request before."""


class DialogueBusy(ServiceError):
    """Other writers keep appending to the dialogue first."""


class Overloaded(ServiceError):
    """More is asked of the service than it has room for."""


class ShuttingDown(ServiceError):
    """The service is about to end."""


class DeadlinePassed(ServiceError):
    """There was no answer in time."""


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
