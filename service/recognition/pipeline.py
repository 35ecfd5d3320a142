"""The pipeline from an utterance to its emotion.

The pipeline retrieves the nearest demonstrations, renders the prompt and fits it to the model,
scores the labels in one forward pass, calibrates the scores with the bundle's calibration, and
mixes in people's corrections of similar utterances. Retrieval may fail without failing the answer:
the model was trained with and without demonstrations, so the answer is only marked as degraded, as
is one to a text in a language that the model was not trained on. If the prompt shows no
demonstrations, it is read while corrections are retrieved. A forecast skips retrieval and
corrections, because the next utterance has no text yet, and its scores have a calibration of their
own.

The caller sets the request's deadline: `service.admission.deadline` enforces it, and
`ERC_ADMISSION__DEADLINE_S` and `ERC_ADMISSION__BATCH_DEADLINE_S` set it. Retrieval has a limit of
its own, `ERC_DEMONSTRATIONS__TIMEOUT_S`, after which the answer goes on without it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from service.concurrency import together
from service.conversation.calibration import Calibration
from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.neighbours import CONTEXT_LINES
from service.conversation.prediction import Prediction, prediction_from_scores
from service.conversation.prompts import Task
from service.conversation.prompts.tokens import TokenizedPrompt, fit
from service.decoding.bundle import Bundle
from service.decoding.engine import LabelEngine
from service.decoding.scoring import LabelReading, score_labels
from service.decoding.tokenizer import Tokenizer
from service.demonstrations.store import Match
from service.errors import DemonstrationsUnavailable, EngineUnavailable
from service.failures import cause_of
from service.priority import Priority
from service.recognition.languages import IsOther
from service.recognition.result import (
    DEGRADED_DEMONSTRATIONS,
    DEGRADED_LANGUAGE,
    Recognition,
    UsedDemonstration,
)
from service.recognition.retrieval import Retrieval, Retrieved, Wanted
from service.recognition.supported import check_forecasts, supported_label_space
from service.recognition.votes import Vote, votes_on, with_votes
from service.tracing import Stage, stage

log = logging.getLogger(__name__)


class Recognizer:
    """Reads the emotion of utterances with one bundle. Made by `open_recognizer`."""

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: Tokenizer,
        label_spaces: Mapping[str, LabelSpace],
        readings: Mapping[str, LabelReading],
        engine: LabelEngine,
        retrieval: Retrieval | None,
        examples: int,
        is_other_language: IsOther | None,
    ) -> None:
        self.bundle = bundle
        self.label_spaces = label_spaces
        self._tokenizer = tokenizer
        self._template = bundle.prompt_template
        self._window = bundle.history_window
        self._calibrations: Mapping[Task, Mapping[str, Calibration]] = {
            task: {name: labels.calibration(task) for name, labels in bundle.label_spaces.items()}
            for task in bundle.tasks
        }
        self._readings = readings
        self._engine = engine
        self._retrieval = retrieval
        self._trust = bundle.trust
        self._wanted = Wanted(
            examples, self._trust.least_similarity, self._trust.decisive_similarity
        )
        self._is_other_language = is_other_language

    @property
    def history_lines(self) -> int:
        """The most lines before the target that are read, for the prompt or as its context."""
        return max(self._window.highest, CONTEXT_LINES)

    def label_space(self, name: str) -> LabelSpace:
        """The label space called `name`, without regard to case.

        Raises:
            UnsupportedLabelSpace: it is unknown, or the bundle was not trained on it.
        """
        return supported_label_space(self.bundle, self.label_spaces, name)

    async def recognize(
        self,
        lines: Sequence[Line],
        label_space: LabelSpace,
        *,
        first: int = 0,
        tenant: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
        corrected: bool = True,
    ) -> Recognition:
        """Read the emotion of the last of `lines`, or of its end if the model reads no more.

        Args:
            lines: the target after the dialogue's last `history_lines`, or all there are.
            label_space: one that `label_space` returned.
            first: the index in the dialogue of `lines[0]`.
            tenant: whose demonstrations may be used besides shared ones, and whose caches.
            corrected: whether the tenant's corrections contribute.

        Raises:
            EngineUnavailable: the label engine does not answer.
        """
        text = lines[-1].text
        wanted = self._wanted if corrected else replace(self._wanted, least_similarity=None)
        retrieving = self._retrieve(lines, label_space, wanted, tenant, priority)
        if wanted.examples:
            retrieved, degraded = await retrieving
            votes = votes_on(text, retrieved.corrections, label_space, self._trust)
            shown = self._shown(retrieved, votes)
            read = await self._read_main(lines, first, label_space, shown, tenant, priority)
        else:
            reading = self._read_main(lines, first, label_space, (), tenant, priority)
            (retrieved, degraded), read = await together(retrieving, reading)
            votes = votes_on(text, retrieved.corrections, label_space, self._trust)
        if self._is_other_language is not None and self._is_other_language(text):
            degraded = (*degraded, DEGRADED_LANGUAGE)
        prediction = with_votes(read.prediction, votes) if votes else read.prediction
        weight_of = {vote.match: vote.weight for vote in votes}
        used = [
            UsedDemonstration(match, weight_of.get(match, 0.0), match in read.shown)
            for match in dict.fromkeys((*weight_of, *read.shown))
        ]
        return Recognition(
            prediction,
            tuple(sorted(used, key=lambda demonstration: -demonstration.match.similarity)),
            degraded,
            read.truncated,
            read.prediction if votes else None,
        )

    async def forecast(
        self,
        history: Sequence[Line],
        speaker: int,
        label_space: LabelSpace,
        *,
        first: int = 0,
        tenant: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Recognition:
        """Predict the emotion of what `speaker` says next, which is not known yet.

        Args:
            history: the dialogue's last `history_lines`, or all there are; at least one.
            speaker: the speaker's number, which `history` need not show.
            label_space: one that `label_space` returned.
            first: the index in the dialogue of `history[0]`.
            tenant: whose caches may be used.

        Raises:
            ForecastNotSupported: the bundle was not trained on the prediction task.
            EngineUnavailable: the label engine does not answer.
        """
        check_forecasts(self.bundle)
        if not history:
            raise ValueError("there is no history to forecast from")
        with stage(Stage.RENDER):
            unspoken = Line(speaker, "")
            lines = (*history, unspoken)
            prompt = self._prompt("prediction", lines, first, label_space, (), tenant)
            ids = prompt.ids
        calibration = self._calibrations["prediction"][label_space.name]
        prediction = await self._read(ids, label_space, calibration, tenant, priority)
        return Recognition(prediction, (), (), prompt.truncated)

    def main_prompt(
        self,
        lines: Sequence[Line],
        label_space: LabelSpace,
        demonstrations: Sequence[Demonstration],
        *,
        first: int = 0,
        window: HistoryWindow | None = None,
        tenant: str | None = None,
    ) -> TokenizedPrompt:
        """The prompt for the last of `lines`.

        Args:
            lines: as in `recognize`.
            label_space: one that `label_space` returned.
            demonstrations: those to show, in this order.
            first: the index in the dialogue of `lines[0]`.
            window: None: the bundle's.
            tenant: whose caches may be used.
        """
        return self._prompt("main", lines, first, label_space, demonstrations, tenant, window)

    async def read_prompt(
        self,
        prompt: TokenizedPrompt,
        label_space: LabelSpace,
        *,
        tenant: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Prediction:
        """The model's own calibrated prediction for a prompt that `main_prompt` returned.

        Raises:
            EngineUnavailable: the label engine does not answer.
        """
        calibration = self._calibrations["main"][label_space.name]
        return await self._read(prompt.ids, label_space, calibration, tenant, priority)

    async def warm_up(self) -> None:
        """Read one prompt in each label space, so that engines do their first-use work.

        Raises:
            EngineUnavailable, DemonstrationsUnavailable: a part does not answer.
        """
        for name in self._readings:
            space = self.label_spaces[name]
            recognition = await self.recognize([Line(0, "Hello.")], space)
            if DEGRADED_DEMONSTRATIONS in recognition.degraded:
                raise DemonstrationsUnavailable("retrieval does not answer")

    async def _retrieve(
        self,
        lines: Sequence[Line],
        label_space: LabelSpace,
        wanted: Wanted,
        tenant: str | None,
        priority: Priority,
    ) -> tuple[Retrieved, tuple[str, ...]]:
        """Retrieve for the last line; also return the parts that did not answer."""
        no_corrections = tenant is None or wanted.least_similarity is None
        if self._retrieval is None or (no_corrections and not wanted.examples):
            return Retrieved(), ()
        texts = [line.text for line in lines[-1 - CONTEXT_LINES :]]
        try:
            retrieved = await self._retrieval.nearest(
                texts, label_space.name, wanted, tenant, priority
            )
        except DemonstrationsUnavailable as error:
            log.debug("answering without demonstrations: %s", cause_of(error))
            return Retrieved(), (DEGRADED_DEMONSTRATIONS,)
        return retrieved, ()

    def _shown(self, retrieved: Retrieved, votes: Sequence[Vote]) -> Sequence[Match]:
        """The demonstrations for the prompt: the nearest examples, and corrections with a vote.

        A correction without a vote would change the model's prediction of unrelated utterances.
        """
        matches = (*retrieved.examples, *(vote.match for vote in votes))
        return sorted(matches, key=lambda match: -match.similarity)[: self._wanted.examples]

    async def _read_main(
        self,
        lines: Sequence[Line],
        first: int,
        label_space: LabelSpace,
        demonstrations: Sequence[Match],
        tenant: str | None,
        priority: Priority,
    ) -> "_Read":
        """Read the last line with the model alone."""
        with stage(Stage.RENDER):
            shown = [match.demonstration for match in demonstrations]
            prompt = self.main_prompt(lines, label_space, shown, first=first, tenant=tenant)
        prediction = await self.read_prompt(prompt, label_space, tenant=tenant, priority=priority)
        in_prompt = tuple(demonstrations) if prompt.demonstrations else ()
        return _Read(prediction, in_prompt, prompt.truncated)

    async def _read(
        self,
        prompt: Sequence[int],
        label_space: LabelSpace,
        calibration: Calibration,
        tenant: str | None,
        priority: Priority,
    ) -> Prediction:
        """Score the labels after a prompt of token ids."""
        reading = self._readings[label_space.name]
        with stage(Stage.DECODE) as decoding:
            scores = await score_labels(self._engine, reading, prompt, priority, salt=tenant)
            if scores.queue_s is not None:
                decoding.began_with(Stage.QUEUE, scores.queue_s)
        try:
            return prediction_from_scores(label_space, scores.log_probabilities, calibration)
        except ValueError as error:
            raise EngineUnavailable("the label engine returned no probabilities") from error

    def _prompt(
        self,
        task: Task,
        lines: Sequence[Line],
        first: int,
        label_space: LabelSpace,
        demonstrations: Sequence[Demonstration],
        tenant: str | None,
        window: HistoryWindow | None = None,
    ) -> TokenizedPrompt:
        return fit(
            self._template,
            label_space,
            window or self._window,
            lines,
            demonstrations,
            task=task,
            first=first,
            encode=self._tokenizer.encode_for(tenant),
            starts=self._tokenizer.starts,
            begin=self._tokenizer.begin,
            limit=self._readings[label_space.name].prompt_limit(self.bundle.max_tokens),
        )


@dataclass(frozen=True, slots=True)
class _Read:
    """The model's prediction for an utterance, and what its prompt shows."""

    prediction: Prediction
    shown: tuple[Match, ...]
    truncated: bool
