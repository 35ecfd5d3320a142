"""The client that blocks; `async_client` has its counterpart, call for call."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from types import TracebackType
from typing import Self, TypeVar

import httpx

from instructerc import calls, models
from instructerc.calls import ReviewedBy, SortedBy, UnknownSpeaker
from instructerc.errors import ClientError, Unreachable, refusal
from instructerc.retries import FOLLOWING, Retries
from instructerc.streams import (
    Followed,
    Lines,
    Portion,
    Portions,
    Result,
    corrections,
    following,
    results,
)
from instructerc.transport import PORTION, UNIFIED, Timeouts, headers_of, request_of

T = TypeVar("T")

_NO_CONTENT = 204


class Client:
    """A client of the service.

        with Client("http://127.0.0.1:8000") as client:
            answer = client.add_utterance("call-42", speaker="Ann", text="We won!")
            print(answer.emotion.label)

    Every call raises `ClientError`, and is repeated where that may help: with the same
    `Idempotency-Key`, so that nothing is done twice.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeouts: Timeouts = Timeouts(),
        retries: Retries = Retries(),
        following: Retries = FOLLOWING,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            url: of the service, with its path prefix if it has one.
            key: the caller's key, where the service has keys.
            retries: of calls.
            following: of streams that follow a dialogue.
            transport: httpx's, such as one with a proxy or certificates of its own.
        """
        self._timeouts = timeouts
        self._retries = retries
        self._following = following
        self._http = httpx.Client(base_url=url, headers=headers_of(key), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def add_utterance(
        self,
        dialogue_id: str,
        *,
        speaker: str,
        text: str,
        label_space: str = UNIFIED,
        description: str | None = None,
        start: float | None = None,
        end: float | None = None,
        role: str | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> models.UtteranceOut:
        """Append an utterance to a dialogue and predict its emotion.

        Args:
            if_match: the dialogue's `ETag` that is expected; `*`: any, but the dialogue exists.
            idempotency_key: your own, where you may repeat the call after a restart.
        """
        utterance = models.UtteranceIn(
            speaker=speaker,
            text=text,
            label_space=label_space,
            description=description,
            start=start,
            end=end,
            role=role,
        )
        return self._send(calls.add_utterance(dialogue_id, utterance, if_match, idempotency_key))

    def read_utterance(
        self, dialogue_id: str, index: int, *, explain: bool = False
    ) -> models.ExplainedUtterance:
        """Read one utterance and, with `explain`, why it has its label."""
        return self._send(calls.read_utterance(dialogue_id, index, explain))

    def read_dialogue(
        self, dialogue_id: str, *, after: int | None = None, limit: int | None = None
    ) -> models.TimelineOut:
        """Read a page of a timeline; where it has a `next`, go on `after` its last index."""
        return self._send(calls.read_dialogue(dialogue_id, after, limit))

    def list_dialogues(
        self,
        *,
        sort: SortedBy = "updated",
        limit: int | None = None,
        updated_since: datetime | None = None,
        label: str | None = None,
        label_space: str | None = None,
        min_share: float | None = None,
        min_probability: float | None = None,
        speaker: str | None = None,
        role: str | None = None,
    ) -> models.DialoguePage:
        """List the dialogues that meet the conditions: the first page."""
        query: calls.Query = {
            "sort": sort,
            "limit": limit,
            "updated_since": updated_since,
            "label": label,
            "label_space": label_space,
            "min_share": min_share,
            "min_probability": min_probability,
            "speaker": speaker,
            "role": role,
        }
        return self._send(calls.list_dialogues(query))

    def next_dialogues(self, page: models.DialoguePage) -> models.DialoguePage | None:
        """The page after another one; None after the last."""
        if page.next is None:
            return None
        return self._send(calls.page_of_dialogues(page.next))

    def list_utterances(
        self,
        *,
        label_space: str = UNIFIED,
        sort: ReviewedBy = "margin",
        corrected: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> models.UtterancePage:
        """List utterances of all dialogues: those to check next, the least certain first.

        Args:
            label_space: of the answers.
            cursor: the `next` of the page before; None: the first page.
        """
        query: calls.Query = {
            "label_space": label_space,
            "sort": sort,
            "corrected": corrected,
            "limit": limit,
            "cursor": cursor,
        }
        return self._send(calls.list_utterances(query))

    def summarize_dialogue(self, dialogue_id: str) -> models.SummaryOut:
        """Summarize a dialogue: shares of labels, valence and its shift, peaks, runs."""
        return self._send(calls.summarize_dialogue(dialogue_id))

    def forecast_turn(
        self, dialogue_id: str, *, speaker: str, label_space: str = UNIFIED
    ) -> models.ForecastOut:
        """Forecast the emotion of a speaker's next turn, before it is spoken."""
        return self._send(calls.forecast_turn(dialogue_id, speaker, label_space))

    def erase_dialogue(self, dialogue_id: str, *, if_match: str | None = None) -> None:
        """Erase a dialogue with everything that belongs to it."""
        return self._send(calls.erase_dialogue(dialogue_id, if_match))

    def correct_label(
        self,
        dialogue_id: str,
        index: int,
        label: str,
        *,
        label_space: str = UNIFIED,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> models.CorrectedOut:
        """Correct the label of an utterance; similar ones are answered accordingly from then on."""
        body = models.LabelIn(label=label, label_space=label_space)
        return self._send(calls.correct_label(dialogue_id, index, body, if_match, idempotency_key))

    def take_label_back(self, dialogue_id: str, index: int, *, if_match: str | None = None) -> None:
        """Remove a correction."""
        return self._send(calls.take_label_back(dialogue_id, index, if_match))

    def score_dialogues(
        self,
        dialogues: Sequence[models.DialogueIn],
        *,
        label_space: str = UNIFIED,
        summary: bool = False,
    ) -> models.BatchOut:
        """Score whole dialogues in one answer; nothing is stored. `score_lines` has no limit."""
        return self._send(calls.score_dialogues(dialogues, label_space, summary))

    def score_transcript(
        self,
        content: bytes,
        *,
        media_type: str = "application/octet-stream",
        label_space: str = UNIFIED,
        file_format: str | None = None,
        name: str | None = None,
        speaker: str | None = None,
        text: str | None = None,
        dialogue: str | None = None,
        time: str | None = None,
        unknown_speaker: UnknownSpeaker | None = None,
        join_within: float | None = None,
    ) -> models.TranscriptOut:
        """Score a file of dialogues: a table, subtitles, a transcript; nothing is stored.

        Args:
            content: the file.
            media_type: such as `text/vtt`; it matters where the content does not tell the format.
            file_format: as of `instructerc score --from`; None: by the content.
            name: the id of the dialogue, where the file names none.
            speaker, text, dialogue, time: the names of columns, where they are not the usual ones.
            unknown_speaker: whose segments without a speaker are.
            join_within: the pause in seconds within which segments of one speaker are joined.
        """
        query: calls.Query = {
            "label_space": label_space,
            "from": file_format,
            "name": name,
            "speaker": speaker,
            "text": text,
            "dialogue": dialogue,
            "time": time,
            "unknown_speaker": unknown_speaker,
            "join_within": join_within,
        }
        return self._send(calls.score_transcript(content, media_type, query))

    def start_job(
        self,
        dialogues: Sequence[models.DialogueIn],
        *,
        label_space: str = UNIFIED,
        idempotency_key: str | None = None,
    ) -> models.JobOut:
        """Store dialogues as a job, which is scored in the background."""
        return self._send(calls.start_job(dialogues, label_space, idempotency_key))

    def read_job(self, job_id: str) -> models.JobOut:
        """Read a job's state and progress."""
        return self._send(calls.read_job(job_id))

    def delete_job(self, job_id: str) -> None:
        """Erase a job with its dialogues and results."""
        return self._send(calls.delete_job(job_id))

    def list_demonstrations(
        self, *, label_space: str | None = None, limit: int | None = None, after: str | None = None
    ) -> models.DemonstrationPage:
        """List a page of the demonstrations; where it has a `next`, go on `after` that."""
        return self._send(
            calls.list_demonstrations({"label_space": label_space, "limit": limit, "after": after})
        )

    def add_demonstrations(
        self, demonstrations: Sequence[models.DemonstrationIn]
    ) -> models.DemonstrationsOut:
        """Add labelled utterances for prompts to show."""
        return self._send(calls.add_demonstrations(demonstrations))

    def read_demonstration(self, demonstration_id: str) -> models.DemonstrationOut:
        """Read one demonstration."""
        return self._send(calls.read_demonstration(demonstration_id))

    def delete_demonstration(self, demonstration_id: str) -> None:
        """Delete one of your demonstrations."""
        return self._send(calls.delete_demonstration(demonstration_id))

    def list_label_spaces(self) -> models.LabelSpacesOut:
        """List the label spaces that you can ask for."""
        return self._send(calls.list_label_spaces())

    def read_label_space(self, name: str) -> models.LabelSpaceOut:
        """Read one label space."""
        return self._send(calls.read_label_space(name))

    def put_label_space(self, name: str, label_space: models.LabelSpaceIn) -> models.LabelSpacePut:
        """Make or replace a label space of your own."""
        return self._send(calls.put_label_space(name, label_space))

    def delete_label_space(self, name: str) -> None:
        """Delete a label space of your own."""
        return self._send(calls.delete_label_space(name))

    def follow_dialogue(self, dialogue_id: str, *, after: str | None = None) -> Iterator[Followed]:
        """Follow a dialogue: its past predictions and corrections, then each new one.

        It goes on over broken connections, without a gap, and ends after the erasure.

        Args:
            after: the `id` of the last event that you have, or the timeline's `ETag` without its
                quotes; None: from the beginning.

        Raises:
            ClientError: the service refuses, or does not answer for minutes.
        """
        stream = following(dialogue_id, after, self._following)
        while not stream.erased:
            error: ClientError | None = None
            try:
                with self._open(stream.call()) as response:
                    if response.status_code == _NO_CONTENT:
                        return
                    for chunk in response.iter_bytes():
                        yield from stream.feed(chunk)
            except ClientError as failure:
                error = failure
            if not stream.erased:
                time.sleep(stream.wait_s(error))

    def score_lines(
        self,
        dialogues: Iterable[models.DialogueIn],
        *,
        label_space: str = UNIFIED,
        summary: bool = False,
        utterances: int = PORTION,
    ) -> Iterator[Result]:
        """Score any number of dialogues, in order; nothing is stored.

        Dialogues are taken from `dialogues` and sent in portions; each result is yielded as it
        arrives. A dialogue that cannot be scored has a `RefusedLine`, and the others go on. After a
        broken connection the dialogues without a result are sent again.

        Args:
            utterances: the most of a portion, at most 512; the first result waits for one portion.

        Raises:
            ClientError: the service refuses all, or does not answer.
        """
        portions = Portions(utterances, label_space, summary, self._retries)
        for dialogue in dialogues:
            portion = portions.add(dialogue)
            if portion is not None:
                for result in self._scored(portion):
                    yield result
        if (portion := portions.rest()) is not None:
            for result in self._scored(portion):
                yield result

    def read_results(self, job_id: str) -> Iterator[Result]:
        """Read the results of a job that there are, in the order of its dialogues.

        Raises:
            ClientError: the service refuses, or does not answer.
        """
        yield from self._lines(results(job_id, self._retries))

    def export_corrections(
        self, *, label_space: str = UNIFIED, updated_since: datetime | None = None
    ) -> Iterator[models.DialogueIn]:
        """Export what people corrected, dialogue by dialogue, for training.

        Only corrected utterances have a `label`. After a broken connection the export goes on.

        Raises:
            ClientError: the service refuses, or does not answer.
        """
        yield from self._lines(corrections(label_space, updated_since, self._retries))

    def _lines(self, stream: Lines[T]) -> Iterator[T]:
        while True:
            try:
                with self._open(stream.call()) as response:
                    for chunk in response.iter_bytes():
                        yield from stream.feed(chunk)
                return
            except ClientError as failure:
                error = failure
            time.sleep(stream.wait_s(error))

    def _scored(self, portion: Portion) -> Iterator[Result]:
        while not portion.is_done:
            error: ClientError | None = None
            try:
                with self._open(portion.call()) as response:
                    for chunk in response.iter_bytes():
                        yield from portion.feed(chunk)
            except ClientError as failure:
                error = failure
            if not portion.is_done:
                time.sleep(portion.wait_s(error))

    def _send(self, call: calls.Call[T]) -> T:
        for attempt in count(1):
            try:
                with self._open(call) as response:
                    body = response.read()
                return calls.result_of(call, body)
            except ClientError as failure:
                error = failure
            wait_s = self._retries.wait_s(attempt, error)
            if wait_s is None:
                raise error
            time.sleep(wait_s)
        raise AssertionError("the count does not end")

    @contextmanager
    def _open(self, call: calls.Call[T]) -> Iterator[httpx.Response]:
        """A success, whose body is still to be read.

        Raises:
            Refused: the answer is no success.
            Unreachable: the connection fails, here or in the block.
        """
        try:
            request = self._http.build_request(**request_of(call, self._timeouts))
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    body, reason = response.read(), response.reason_phrase
                    raise refusal(response.status_code, reason, response.headers, body)
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            raise Unreachable(str(error) or type(error).__name__) from error
