"""The bodies of requests and responses, made of the OpenAPI document by `make openapi`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, RootModel


class AgreementOut(BaseModel):
    """
    How people's labels agree with the predicted ones.
    """

    corrected: int
    """
    utterances that have a person's label
    """
    compared: int
    """
    Those of them where the two can be compared: in one label space, or as labels of `unified`.
    """
    agreed: int
    """
    those of them where the two are the same
    """


class Alive(BaseModel):
    """
    The process makes progress.
    """

    status: Literal["alive"]
    event_loop_lag_s: float
    """
    the delay of the event loop, in seconds
    """
    engine_silent_s: float
    """
    for how long the label engine has not responded to a request
    """


class CorrectedOut(BaseModel):
    """
    A stored correction.
    """

    label_space: str
    label: str
    unified: str | None
    """
    the label of `unified` that it maps to; null if it maps to several
    """
    created_at: AwareDatetime
    dialogue_id: str
    index: int
    degraded: list[str]
    """
    Unavailable parts that receive it later, such as `demonstrations`.
    """


class CorrectionOut(BaseModel):
    """
    A person's label for an utterance, as stored.
    """

    label_space: str
    label: str
    unified: str | None
    """
    the label of `unified` that it maps to; null if it maps to several
    """
    created_at: AwareDatetime


class DemonstrationIn(BaseModel):
    """
    A labelled utterance to show to the model.
    """

    label_space: str
    """
    The labels to predict, in any case; `/label-spaces` lists the label spaces.
    """
    label: str
    """
    A label of the label space, in any case.
    """
    text: str
    """
    What is said; returned unchanged. No control characters other than tab, newline and carriage return; at most 2,000 characters, unless configured otherwise.
    """
    id: str | None = None
    """
    Replaces your demonstration with this id. If omitted, it is derived from the other fields, so that the same demonstration sent twice is stored once.
    """


class DemonstrationOut(BaseModel):
    """
    A labelled utterance that may be shown to the model.
    """

    id: str
    label_space: str
    label: str
    text: str


class DemonstrationPage(BaseModel):
    """
    A page of the demonstrations, in an arbitrary but stable order.
    """

    demonstrations: list[DemonstrationOut]
    next: str | None
    """
    `after` of the next page; null on the last one
    """


class DemonstrationsIn(BaseModel):
    """
    Demonstrations to add.
    """

    demonstrations: list[DemonstrationIn]
    """
    With unique ids; at most 1,000, unless configured otherwise.
    """


class DemonstrationsOut(BaseModel):
    """
    The added demonstrations, in the order sent.
    """

    demonstrations: list[DemonstrationOut]


class DialogueOverview(BaseModel):
    """
    A dialogue in a list.
    """

    id: str
    created_at: AwareDatetime
    updated_at: AwareDatetime
    utterances: int
    speakers: int
    """
    how many there are
    """
    valence: float | None
    """
    the mean, -1 to 1; null if it has none
    """
    shift: float | None
    """
    of the valence, from the first third to the last; null if it has none
    """


class DialoguePage(BaseModel):
    """
    A page of a list of dialogues.
    """

    dialogues: list[DialogueOverview]
    """
    Those that match; a page may have none and still lead to the next one.
    """
    next: str | None
    """
    the path of the next page; null on the last one
    """


class Emotion(BaseModel):
    """
    The emotion of an utterance.
    """

    label_space: str
    trained: Literal[False] | None = None
    """
    Only present, and false, if no model was trained on the labels: they are a tenant's own, from examples.
    """
    label: str
    """
    the most probable label, as the corpus names it
    """
    unified: str | None
    """
    the label of `unified` that it maps to; null if it maps to several
    """
    confidence: float
    """
    its probability
    """
    probabilities: dict[str, float]
    """
    the probability of each label, calibrated; they sum to 1
    """
    label_mass: float
    """
    The share of the probability over the model's whole vocabulary that the labels get; low if the model would rather say something else.
    """


class Format(
    RootModel[
        Literal[
            "jsonl",
            "csv",
            "webvtt",
            "srt",
            "whisperx",
            "assemblyai",
            "deepgram",
            "contact-lens",
            "messages",
        ]
    ]
):
    root: Literal[
        "jsonl",
        "csv",
        "webvtt",
        "srt",
        "whisperx",
        "assemblyai",
        "deepgram",
        "contact-lens",
        "messages",
    ]
    """
    A format of dialogues.
    """


class JobOut(BaseModel):
    """
    The state of a job.
    """

    id: str
    state: Literal["receiving", "queued", "running", "done"]
    label_space: str
    dialogues: int | None
    """
    the number of dialogues; null until all are received
    """
    done: int
    """
    how many have a result
    """
    failed: int
    """
    how many have an error as their result
    """
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    results: str
    """
    the path of the results
    """


class LabelIn(BaseModel):
    """
    A person's label for an utterance.
    """

    label: str
    """
    A label of the label space, in any case.
    """
    label_space: str | None = "unified"
    """
    The labels to predict, in any case; `/label-spaces` lists the label spaces.
    """


class LabelOut(BaseModel):
    """
    A label.
    """

    name: str
    verbalizer: str | None
    """
    its word in prompts; null unless the model was trained on it
    """
    unified: str | None
    """
    the label of `unified` that it maps to; null if it maps to several
    """
    of: dict[str, float] | None
    """
    the share of each label of the source that it sums; null unless derived
    """
    sentence: str | None = None
    """
    what it is about, if it is your own
    """
    examples: list[str] | None = None
    """
    utterances with this label, if it is your own and you requested the label space by name
    """


class LabelSpaceOut(BaseModel):
    """
    The labels of one corpus, in the order prompts list them, or sums of them.
    """

    name: str
    title: str
    derived_from: str | None
    """
    The label space whose labels it sums: the model predicts in that one, with its demonstrations, and the probabilities are summed; null unless derived.
    """
    available: bool
    """
    whether predictions can use it: the model was trained on it or on its source
    """
    trained: bool
    """
    False: predictions come from your own examples, and from the model in other labels.
    """
    labels: list[LabelOut]


class LabelSpacesOut(BaseModel):
    """
    The known label spaces, and the languages that the model reads.
    """

    languages: list[str]
    """
    Languages of the text that the model was trained on, as ISO 639 codes; empty if unknown. The result of an utterance in another one has `language` under `degraded`.
    """
    label_spaces: list[LabelSpaceOut]


class LeftOutDemonstrationOut(BaseModel):
    """
    A demonstration that the prompt showed.
    """

    id: str
    drop: float | None
    """
    as of words; null if the demonstration was deleted or is unavailable, so that the explanation is without it
    """


class LeftOutLineOut(BaseModel):
    """
    An earlier utterance that the model reads.
    """

    index: int
    """
    its position in the dialogue, from 0
    """
    drop: float
    """
    the probability of the label with all parts minus that without this one; negative if the label is more probable without it
    """


class LeftOutWordsOut(BaseModel):
    """
    A word of the utterance, or several in a row where it has too many.
    """

    word: str
    start: int
    """
    offset of its first character in the text
    """
    end: int
    """
    offset after its last character, in code points
    """
    drop: float
    """
    the probability of the label with all parts minus that without this one; negative if the label is more probable without it
    """


class Model(BaseModel):
    """
    What made the prediction.
    """

    bundle: str
    version: str
    template: str


class Order(RootModel[Literal["updated", "valence", "fall"]]):
    root: Literal["updated", "valence", "fall"]
    """
    What a list of dialogues is sorted by.
    """


class OwnLabelIn(BaseModel):
    """
    A label of your own: a sentence and examples, or the labels that it sums.
    """

    name: str
    """
    In lower case, as in results.
    """
    sentence: str | None = None
    """
    What it is about.
    """
    examples: list[str] | None = None
    """
    Utterances with this label; each may appear only once, here or under another label.
    """
    of: list[str] | dict[str, float] | None = None
    """
    In a derived label space: the source's labels that it sums, or the share of each that counts towards it.
    """


class ProbablePeak(BaseModel):
    """
    The utterance where a label is most probable; the first of several.
    """

    index: int
    probability: float
    """
    1 if a person gave it the label
    """


class ProblemKindOut(BaseModel):
    """
    A kind of problem: what all its documents have in common.
    """

    type: str
    status: int
    title: str
    cause: str
    """
    why a request gets this response
    """
    remedy: str
    """
    what to do about it
    """


class ProblemKindsOut(BaseModel):
    """
    Every kind of problem.
    """

    problems: list[ProblemKindOut]


class Ready(BaseModel):
    """
    Every required part works.
    """

    status: Literal["ready"]
    checks: dict[str, str]
    degraded: list[str]
    """
    Unavailable parts that the service works without.
    """


class RecognizedOut(BaseModel):
    """
    How many of a label's examples were recognized while left out.
    """

    name: str
    examples: int
    recognized: int


class ReviewOrder(RootModel[Literal["margin", "newest"]]):
    root: Literal["margin", "newest"]
    """
    What a list of utterances is sorted by.
    """


class ReviewProgress(BaseModel):
    """
    How far people are with a label space.
    """

    utterances: int
    """
    how many were answered in the label space
    """
    corrected: int
    """
    how many of them have a person's label
    """


class RunOut(BaseModel):
    """
    The longest run of utterances with one label; the first of several.

    A speaker's or role's run goes on across the utterances of others.
    """

    label: str
    length: int
    first: int
    """
    index of its first utterance
    """
    last: int
    """
    index of its last utterance
    """


class UnknownSpeaker(RootModel[Literal["own", "previous"]]):
    root: Literal["own", "previous"]
    """
    What becomes of a segment without a speaker.
    """


class UnreadLine(BaseModel):
    """
    A line, row or cue that could not be read; it does not affect the others.
    """

    line: int
    """
    its number in the file, from 1
    """
    detail: str


class UsedDemonstrationDocument(BaseModel):
    """
    A demonstration that was used for the answer.
    """

    id: str
    text: str | None
    """
    The current text; null in a stored answer if the demonstration was deleted, or while the demonstrations are unavailable.
    """
    label: str
    """
    in the label space of the answer, or in its source if it is derived
    """
    similarity: float
    """
    cosine similarity, -1 to 1
    """
    weight: float
    """
    Its share in the answer, next to the model's: 0 to 1. Only corrections of similar utterances have a share above 0.
    """
    shown: bool
    """
    Whether it is in the prompt.
    """


class UtteranceIn(BaseModel):
    """
    The next utterance of a dialogue.
    """

    speaker: str
    """
    Who says it: any name on one line, always the same for the same person; at most 100 characters, unless configured otherwise.
    """
    text: str
    """
    What is said; returned unchanged. No control characters other than tab, newline and carriage return; at most 2,000 characters, unless configured otherwise.
    """
    description: str | None = None
    start: float | None = None
    """
    When it begins, in seconds from the beginning of the dialogue. Predictions ignore it.
    """
    end: float | None = None
    """
    When it ends, in seconds, as `start`; not before it.
    """
    role: str | None = None
    """
    The speaker's part in the dialogue, such as `agent` or `customer`. Predictions ignore it.
    """
    label_space: str | None = "unified"
    """
    The labels to predict, in any case; `/label-spaces` lists the label spaces.
    """


class UtteranceOfDialogue(BaseModel):
    """
    An utterance of a whole dialogue.

    It may contain the fields of an answer, so that a scored dialogue can be sent again.
    """

    speaker: str
    """
    Who says it: any name on one line, always the same for the same person; at most 100 characters, unless configured otherwise.
    """
    text: str
    """
    What is said; returned unchanged. No control characters other than tab, newline and carriage return; at most 2,000 characters, unless configured otherwise.
    """
    description: str | None = None
    start: float | None = None
    """
    When it begins, in seconds from the beginning of the dialogue. Predictions ignore it.
    """
    end: float | None = None
    """
    When it ends, in seconds, as `start`; not before it.
    """
    role: str | None = None
    """
    The speaker's part in the dialogue, such as `agent` or `customer`. Predictions ignore it.
    """
    id: str | None = None
    """
    Your own id of the utterance, unique in the dialogue; returned unchanged.
    """
    label: str | None = None
    """
    The emotion that a person assigned. Training and evaluation use it; predictions ignore it.
    """
    index: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """
    emotion: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """
    model_alone: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """
    demonstrations: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """
    model: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """
    degraded: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """
    truncated: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """


class UtteranceOut(BaseModel):
    """
    An utterance of a stored dialogue, with its emotion.
    """

    emotion: Emotion
    model_alone: Emotion | None
    """
    What the model predicts without the corrections that have a weight in `emotion`; null if none has.
    """
    demonstrations: list[UsedDemonstrationDocument]
    """
    nearest first
    """
    model: Model
    degraded: list[str]
    """
    Why the answer may be worse: `demonstrations` were unavailable and are not used; the text is in a `language` that the model was not trained on.
    """
    truncated: bool
    """
    Whether the utterance is too long for the model, which then reads only its end.
    """
    index: int
    """
    its position in the dialogue, from 0
    """
    dialogue_id: str
    speaker: str
    text: str
    description: str | None
    """
    what the scene looks like, if you sent a description
    """
    start: float | None
    """
    when it begins, in seconds, if you sent that
    """
    end: float | None
    """
    when it ends, in seconds, if you sent that
    """
    role: str | None
    """
    the speaker's part in the dialogue, if you sent one
    """


class ValencePeak(BaseModel):
    """
    The utterance with the lowest or highest valence; the first of several.
    """

    index: int
    valence: float


class ValenceSummaryOut(BaseModel):
    """
    The valences of the utterances that have one, over all label spaces.

    A valence is the probability of positive labels minus that of negative ones, -1 to 1, as
    `sentiment` and its like sum them.
    """

    utterances: int
    """
    how many have a valence
    """
    mean: float
    shift: float | None
    """
    The mean over the last third of the dialogue minus that over the first, -2 to 2; null if one of them has no valence.
    """
    lowest: ValencePeak
    highest: ValencePeak


class CorrectionEvent(BaseModel):
    """
    A person corrected an utterance's label, or removed the correction.
    """

    dialogue_id: str
    index: int
    correction: CorrectionOut | None


class ErasedEvent(BaseModel):
    """
    The dialogue was erased; nothing comes after it.
    """

    dialogue_id: str


class Fault(BaseModel):
    """
    One fault of a request, and where it is.
    """

    pointer: str | None = None
    """
    JSON pointer to the value in the body (RFC 6901)
    """
    parameter: str | None = None
    """
    name of the path, query or header parameter
    """
    detail: str


class PredictionEvent(BaseModel):
    """
    An utterance was appended.
    """

    emotion: Emotion
    model_alone: Emotion | None
    """
    What the model predicts without the corrections that have a weight in `emotion`; null if none has.
    """
    demonstrations: list[UsedDemonstrationDocument]
    """
    nearest first
    """
    model: Model
    degraded: list[str]
    """
    Why the answer may be worse: `demonstrations` were unavailable and are not used; the text is in a `language` that the model was not trained on.
    """
    truncated: bool
    """
    Whether the utterance is too long for the model, which then reads only its end.
    """
    index: int
    """
    its position in the dialogue, from 0
    """
    dialogue_id: str
    speaker: str
    text: str
    description: str | None
    """
    what the scene looks like, if you sent a description
    """
    start: float | None
    """
    when it begins, in seconds, if you sent that
    """
    end: float | None
    """
    when it ends, in seconds, if you sent that
    """
    role: str | None
    """
    the speaker's part in the dialogue, if you sent one
    """
    created_at: AwareDatetime


class Problem(BaseModel):
    """
    A problem document (RFC 9457).
    """

    type: str
    """
    identifies the kind of problem
    """
    title: str
    """
    the kind of problem, in words
    """
    status: int
    detail: str
    """
    what is wrong this time
    """
    request_id: str | None = None
    """
    as in the header X-Request-Id
    """
    errors: list[Fault] | None = None
    """
    of an invalid request: what to correct
    """
    checks: dict[str, str] | None = None
    """
    of /readyz: the state of each part
    """


class RefusedLine(BaseModel):
    """
    A line that could not be scored; it does not affect the others.
    """

    line: int
    """
    number of the line in the request, from 1
    """
    id: str | None = None
    """
    the dialogue's id, if the line could be read
    """
    error: Problem


class RefusedLineOfTranscript(BaseModel):
    """
    The line of an NDJSON response that stands for an unread line.
    """

    error: str


class DialogueIn(BaseModel):
    """
    A whole dialogue, its utterances in the order they were spoken.
    """

    id: str
    """
    Any name on one line, such as `clean/0`; returned unchanged.
    """
    utterances: list[UtteranceOfDialogue]
    line: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """
    error: Any | None = None
    """
    Ignored; accepted so that an answer can be sent again.
    """


class ExplanationOut(BaseModel):
    """
    How the probability of the label falls when a part is left out; the highest drop first.
    """

    label: str
    """
    What the model alone answered: the label of `model_alone`, or else of `emotion`.
    """
    label_space: str
    probability: float
    """
    of the label, as the model alone answers now with all parts
    """
    votes: float
    """
    The share of the stored answer that corrections decided, 0 to 1; nothing else here has to do with them.
    """
    words: list[LeftOutWordsOut]
    lines: list[LeftOutLineOut]
    demonstrations: list[LeftOutDemonstrationOut]
    model: Model


class ForecastOut(BaseModel):
    """
    The emotion expected of a speaker's next, unspoken turn.
    """

    emotion: Emotion
    model: Model
    degraded: list[str]
    """
    Unavailable parts that the answer does without.
    """
    truncated: bool
    """
    Whether the last utterance is too long for the model, which then reads only its end.
    """
    dialogue_id: str
    index: int
    """
    the position that the turn would have
    """
    speaker: str


class LabelShareOut(BaseModel):
    """
    How often a label occurs.
    """

    label: str
    count: int
    share: float
    """
    of the utterances in the label space
    """
    low: float
    """
    The lower end of the share's 95% Wilson interval.
    """
    high: float
    """
    The upper end of the share's 95% Wilson interval.
    """
    peak: ProbablePeak


class LabelSpaceIn(BaseModel):
    """
    Labels of your own, from examples, or derived from those of a trained label space.
    """

    title: str | None = None
    """
    If omitted: its name.
    """
    derived_from: str | None = None
    """
    The label space whose labels are summed, for exact results.
    """
    labels: list[OwnLabelIn]


class LabelSpaceSummaryOut(BaseModel):
    """
    The utterances that were answered in one label space.
    """

    label_space: str
    utterances: int
    labels: list[LabelShareOut]
    """
    those that occur, the most frequent first
    """
    longest_run: RunOut
    agreement: AgreementOut


class LeftOutOut(BaseModel):
    """
    How well the examples are recognized, each left out of the fit in turn.
    """

    accuracy: float
    calibration_error: float
    labels: list[RecognizedOut]


class ReviewedUtterance(BaseModel):
    """
    An utterance in a list across dialogues.
    """

    emotion: Emotion
    model_alone: Emotion | None
    """
    What the model predicts without the corrections that have a weight in `emotion`; null if none has.
    """
    demonstrations: list[UsedDemonstrationDocument]
    """
    nearest first
    """
    model: Model
    degraded: list[str]
    """
    Why the answer may be worse: `demonstrations` were unavailable and are not used; the text is in a `language` that the model was not trained on.
    """
    truncated: bool
    """
    Whether the utterance is too long for the model, which then reads only its end.
    """
    index: int
    """
    its position in the dialogue, from 0
    """
    dialogue_id: str
    speaker: str
    text: str
    description: str | None
    """
    what the scene looks like, if you sent a description
    """
    start: float | None
    """
    when it begins, in seconds, if you sent that
    """
    end: float | None
    """
    when it ends, in seconds, if you sent that
    """
    role: str | None
    """
    the speaker's part in the dialogue, if you sent one
    """
    created_at: AwareDatetime
    correction: CorrectionOut | None
    """
    a person's label, if there is one
    """
    margin: float
    """
    the probability of its label minus that of the next one, 0 to 1
    """


class RoleSummary(BaseModel):
    """
    The utterances of the speakers with a role.
    """

    utterances: int
    valence: ValenceSummaryOut | None
    """
    null if no utterance has a valence
    """
    label_spaces: list[LabelSpaceSummaryOut]
    role: str


class ScoredLineOfTranscript(BaseModel):
    """
    An utterance of a file, with its emotion.
    """

    emotion: Emotion
    model_alone: Emotion | None
    """
    What the model predicts without the corrections that have a weight in `emotion`; null if none has.
    """
    demonstrations: list[UsedDemonstrationDocument]
    """
    nearest first
    """
    model: Model
    degraded: list[str]
    """
    Why the answer may be worse: `demonstrations` were unavailable and are not used; the text is in a `language` that the model was not trained on.
    """
    truncated: bool
    """
    Whether the utterance is too long for the model, which then reads only its end.
    """
    id: str | None = None
    speaker: str
    role: str | None = None
    start: float | None = None
    """
    in seconds
    """
    end: float | None = None
    """
    in seconds
    """
    text: str
    label: str | None = None
    """
    as in the file
    """
    description: str | None = None


class ScoredTranscript(BaseModel):
    """
    A dialogue of a file, with the emotion of each utterance.
    """

    id: str
    utterances: list[ScoredLineOfTranscript]


class ScoredUtterance(BaseModel):
    """
    The emotion of an utterance of a batch.
    """

    emotion: Emotion
    model_alone: Emotion | None
    """
    What the model predicts without the corrections that have a weight in `emotion`; null if none has.
    """
    demonstrations: list[UsedDemonstrationDocument]
    """
    nearest first
    """
    model: Model
    degraded: list[str]
    """
    Why the answer may be worse: `demonstrations` were unavailable and are not used; the text is in a `language` that the model was not trained on.
    """
    truncated: bool
    """
    Whether the utterance is too long for the model, which then reads only its end.
    """
    index: int
    """
    its position in the dialogue, from 0
    """
    id: str | None = None
    """
    your id of the utterance, if you sent one
    """
    start: float | None = None
    """
    when it begins, in seconds, if you sent that
    """
    end: float | None = None
    """
    when it ends, in seconds, if you sent that
    """
    role: str | None = None
    """
    the speaker's part in the dialogue, if you sent one
    """


class SpeakerSummary(BaseModel):
    """
    The utterances of a speaker.
    """

    utterances: int
    valence: ValenceSummaryOut | None
    """
    null if no utterance has a valence
    """
    label_spaces: list[LabelSpaceSummaryOut]
    speaker: str


class SummaryOut(BaseModel):
    """
    The summary of a stored dialogue.
    """

    utterances: int
    valence: ValenceSummaryOut | None
    """
    null if no utterance has a valence
    """
    label_spaces: list[LabelSpaceSummaryOut]
    speakers: list[SpeakerSummary]
    """
    The at most 100 with the most utterances.
    """
    speaker_count: int
    """
    how many speakers there are
    """
    roles: list[RoleSummary]
    """
    The at most 100 with the most utterances.
    """
    role_count: int
    """
    how many roles there are
    """
    dialogue_id: str


class TimedUtterance(BaseModel):
    """
    An utterance of a timeline.
    """

    emotion: Emotion
    model_alone: Emotion | None
    """
    What the model predicts without the corrections that have a weight in `emotion`; null if none has.
    """
    demonstrations: list[UsedDemonstrationDocument]
    """
    nearest first
    """
    model: Model
    degraded: list[str]
    """
    Why the answer may be worse: `demonstrations` were unavailable and are not used; the text is in a `language` that the model was not trained on.
    """
    truncated: bool
    """
    Whether the utterance is too long for the model, which then reads only its end.
    """
    index: int
    """
    its position in the dialogue, from 0
    """
    dialogue_id: str
    speaker: str
    text: str
    description: str | None
    """
    what the scene looks like, if you sent a description
    """
    start: float | None
    """
    when it begins, in seconds, if you sent that
    """
    end: float | None
    """
    when it ends, in seconds, if you sent that
    """
    role: str | None
    """
    the speaker's part in the dialogue, if you sent one
    """
    created_at: AwareDatetime
    correction: CorrectionOut | None
    """
    a person's label, if there is one
    """


class TimelineOut(BaseModel):
    """
    A dialogue, its utterances in order.
    """

    id: str
    created_at: AwareDatetime
    utterances: list[TimedUtterance]
    next: str | None
    """
    the path of the next page; null on the last one
    """


class TranscriptOut(BaseModel):
    """
    The dialogues of a file, in its order.
    """

    results: list[ScoredTranscript]
    unread: list[UnreadLine]
    """
    The first 100; `Unread-Lines` says how many there are.
    """


class UtterancePage(BaseModel):
    """
    A page of a list of utterances.
    """

    utterances: list[ReviewedUtterance]
    next: str | None
    """
    the `cursor` of the next page; null on the last one
    """
    progress: ReviewProgress


class BatchIn(BaseModel):
    """
    Dialogues to score; nothing of them is stored.
    """

    label_space: str | None = "unified"
    """
    The labels to predict, in any case; `/label-spaces` lists the label spaces.
    """
    dialogues: list[DialogueIn]
    """
    With unique ids; at most 100 dialogues and 1,000 utterances in total, unless configured otherwise.
    """


class DialogueSummary(BaseModel):
    """
    What a dialogue was like: as a whole, by speaker and by role.

    A person's label counts in place of the predicted one.
    """

    utterances: int
    valence: ValenceSummaryOut | None
    """
    null if no utterance has a valence
    """
    label_spaces: list[LabelSpaceSummaryOut]
    speakers: list[SpeakerSummary]
    """
    The at most 100 with the most utterances.
    """
    speaker_count: int
    """
    how many speakers there are
    """
    roles: list[RoleSummary]
    """
    The at most 100 with the most utterances.
    """
    role_count: int
    """
    how many roles there are
    """


class ExplainedUtterance(BaseModel):
    """
    An utterance, with an explanation if asked for.
    """

    emotion: Emotion
    model_alone: Emotion | None
    """
    What the model predicts without the corrections that have a weight in `emotion`; null if none has.
    """
    demonstrations: list[UsedDemonstrationDocument]
    """
    nearest first
    """
    model: Model
    degraded: list[str]
    """
    Why the answer may be worse: `demonstrations` were unavailable and are not used; the text is in a `language` that the model was not trained on.
    """
    truncated: bool
    """
    Whether the utterance is too long for the model, which then reads only its end.
    """
    index: int
    """
    its position in the dialogue, from 0
    """
    dialogue_id: str
    speaker: str
    text: str
    description: str | None
    """
    what the scene looks like, if you sent a description
    """
    start: float | None
    """
    when it begins, in seconds, if you sent that
    """
    end: float | None
    """
    when it ends, in seconds, if you sent that
    """
    role: str | None
    """
    the speaker's part in the dialogue, if you sent one
    """
    created_at: AwareDatetime
    correction: CorrectionOut | None
    """
    a person's label, if there is one
    """
    explanation: ExplanationOut | None
    """
    null unless `explain` is true
    """


class LabelSpacePut(BaseModel):
    """
    A stored label space of your own, and how well its examples tell its labels apart.
    """

    name: str
    title: str
    derived_from: str | None
    trained: bool
    left_out: LeftOutOut | None
    """
    null if it is derived
    """


class ScoredDialogue(BaseModel):
    """
    A dialogue of a batch, with the emotion of each utterance.
    """

    id: str
    utterances: list[ScoredUtterance]
    summary: DialogueSummary | None = None
    """
    only with `summary=true`
    """


class ScoredLine(BaseModel):
    """
    A dialogue of an NDJSON batch, with the emotion of each utterance.
    """

    id: str
    utterances: list[ScoredUtterance]
    summary: DialogueSummary | None = None
    """
    only with `summary=true`
    """
    line: int
    """
    number of the line in the request, from 1
    """


class BatchOut(BaseModel):
    """
    One result per dialogue, in input order.
    """

    results: list[ScoredDialogue]
