"""The client for asyncio; `client` has its counterpart, call for call."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
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


class AsyncClient:
    """A client of the service.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            answer = await client.add_utterance("call-42", speaker="Ann", text="We won!")
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
        transport: httpx.AsyncBaseTransport | None = None,
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
        self._http = httpx.AsyncClient(base_url=url, headers=headers_of(key), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def add_utterance(
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
        return await self._send(
            calls.add_utterance(dialogue_id, utterance, if_match, idempotency_key)
        )

    async def read_utterance(
        self, dialogue_id: str, index: int, *, explain: bool = False
    ) -> models.ExplainedUtterance:
        """Read one utterance and, with `explain`, why it has its label."""
        return await self._send(calls.read_utterance(dialogue_id, index, explain))

    async def read_dialogue(
        self, dialogue_id: str, *, after: int | None = None, limit: int | None = None
    ) -> models.TimelineOut:
        """Read a page of a timeline; where it has a `next`, go on `after` its last index."""
        return await self._send(calls.read_dialogue(dialogue_id, after, limit))

    async def list_dialogues(
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
        return await self._send(calls.list_dialogues(query))

    async def next_dialogues(self, page: models.DialoguePage) -> models.DialoguePage | None:
        """The page after another one; None after the last."""
        if page.next is None:
            return None
        return await self._send(calls.page_of_dialogues(page.next))

    async def list_utterances(
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
        return await self._send(calls.list_utterances(query))

    async def summarize_dialogue(self, dialogue_id: str) -> models.SummaryOut:
        """Summarize a dialogue: shares of labels, valence and its shift, peaks, runs."""
        return await self._send(calls.summarize_dialogue(dialogue_id))

    async def forecast_turn(
        self, dialogue_id: str, *, speaker: str, label_space: str = UNIFIED
    ) -> models.ForecastOut:
        """Forecast the emotion of a speaker's next turn, before it is spoken."""
        return await self._send(calls.forecast_turn(dialogue_id, speaker, label_space))

    async def erase_dialogue(self, dialogue_id: str, *, if_match: str | None = None) -> None:
        """Erase a dialogue with everything that belongs to it."""
        return await self._send(calls.erase_dialogue(dialogue_id, if_match))

    async def correct_label(
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
        return await self._send(
            calls.correct_label(dialogue_id, index, body, if_match, idempotency_key)
        )

    async def take_label_back(
        self, dialogue_id: str, index: int, *, if_match: str | None = None
    ) -> None:
        """Remove a correction."""
        return await self._send(calls.take_label_back(dialogue_id, index, if_match))

    async def score_dialogues(
        self,
        dialogues: Sequence[models.DialogueIn],
        *,
        label_space: str = UNIFIED,
        summary: bool = False,
    ) -> models.BatchOut:
        """Score whole dialogues in one answer; nothing is stored. `score_lines` has no limit."""
        return await self._send(calls.score_dialogues(dialogues, label_space, summary))

    async def score_transcript(
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
        return await self._send(calls.score_transcript(content, media_type, query))

    async def start_job(
        self,
        dialogues: Sequence[models.DialogueIn],
        *,
        label_space: str = UNIFIED,
        idempotency_key: str | None = None,
    ) -> models.JobOut:
        """Store dialogues as a job, which is scored in the background."""
        return await self._send(calls.start_job(dialogues, label_space, idempotency_key))

    async def read_job(self, job_id: str) -> models.JobOut:
        """Read a job's state and progress."""
        return await self._send(calls.read_job(job_id))

    async def delete_job(self, job_id: str) -> None:
        """Erase a job with its dialogues and results."""
        return await self._send(calls.delete_job(job_id))

    async def list_demonstrations(
        self, *, label_space: str | None = None, limit: int | None = None, after: str | None = None
    ) -> models.DemonstrationPage:
        """List a page of the demonstrations; where it has a `next`, go on `after` that."""
        return await self._send(
            calls.list_demonstrations({"label_space": label_space, "limit": limit, "after": after})
        )

    async def add_demonstrations(
        self, demonstrations: Sequence[models.DemonstrationIn]
    ) -> models.DemonstrationsOut:
        """Add labelled utterances for prompts to show."""
        return await self._send(calls.add_demonstrations(demonstrations))

    async def read_demonstration(self, demonstration_id: str) -> models.DemonstrationOut:
        """Read one demonstration."""
        return await self._send(calls.read_demonstration(demonstration_id))

    async def delete_demonstration(self, demonstration_id: str) -> None:
        """Delete one of your demonstrations."""
        return await self._send(calls.delete_demonstration(demonstration_id))

    async def list_label_spaces(self) -> models.LabelSpacesOut:
        """List the label spaces that you can ask for."""
        return await self._send(calls.list_label_spaces())

    async def read_label_space(self, name: str) -> models.LabelSpaceOut:
        """Read one label space."""
        return await self._send(calls.read_label_space(name))

    async def put_label_space(
        self, name: str, label_space: models.LabelSpaceIn
    ) -> models.LabelSpacePut:
        """Make or replace a label space of your own."""
        return await self._send(calls.put_label_space(name, label_space))

    async def delete_label_space(self, name: str) -> None:
        """Delete a label space of your own."""
        return await self._send(calls.delete_label_space(name))

    async def follow_dialogue(
        self, dialogue_id: str, *, after: str | None = None
    ) -> AsyncIterator[Followed]:
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
                async with self._open(stream.call()) as response:
                    if response.status_code == _NO_CONTENT:
                        return
                    async for chunk in response.aiter_bytes():
                        for event in stream.feed(chunk):
                            yield event
            except ClientError as failure:
                error = failure
            if not stream.erased:
                await asyncio.sleep(stream.wait_s(error))

    async def score_lines(
        self,
        dialogues: AsyncIterable[models.DialogueIn] | Iterable[models.DialogueIn],
        *,
        label_space: str = UNIFIED,
        summary: bool = False,
        utterances: int = PORTION,
    ) -> AsyncIterator[Result]:
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
        async for dialogue in _each(dialogues):
            portion = portions.add(dialogue)
            if portion is not None:
                async for result in self._scored(portion):
                    yield result
        if (portion := portions.rest()) is not None:
            async for result in self._scored(portion):
                yield result

    async def read_results(self, job_id: str) -> AsyncIterator[Result]:
        """Read the results of a job that there are, in the order of its dialogues.

        Raises:
            ClientError: the service refuses, or does not answer.
        """
        async for result in self._lines(results(job_id, self._retries)):
            yield result

    async def export_corrections(
        self, *, label_space: str = UNIFIED, updated_since: datetime | None = None
    ) -> AsyncIterator[models.DialogueIn]:
        """Export what people corrected, dialogue by dialogue, for training.

        Only corrected utterances have a `label`. After a broken connection the export goes on.

        Raises:
            ClientError: the service refuses, or does not answer.
        """
        async for dialogue in self._lines(corrections(label_space, updated_since, self._retries)):
            yield dialogue

    async def _lines(self, stream: Lines[T]) -> AsyncIterator[T]:
        while True:
            try:
                async with self._open(stream.call()) as response:
                    async for chunk in response.aiter_bytes():
                        for value in stream.feed(chunk):
                            yield value
                return
            except ClientError as failure:
                error = failure
            await asyncio.sleep(stream.wait_s(error))

    async def _scored(self, portion: Portion) -> AsyncIterator[Result]:
        while not portion.is_done:
            error: ClientError | None = None
            try:
                async with self._open(portion.call()) as response:
                    async for chunk in response.aiter_bytes():
                        for result in portion.feed(chunk):
                            yield result
            except ClientError as failure:
                error = failure
            if not portion.is_done:
                await asyncio.sleep(portion.wait_s(error))

    async def _send(self, call: calls.Call[T]) -> T:
        for attempt in count(1):
            try:
                async with self._open(call) as response:
                    body = await response.aread()
                return calls.result_of(call, body)
            except ClientError as failure:
                error = failure
            wait_s = self._retries.wait_s(attempt, error)
            if wait_s is None:
                raise error
            await asyncio.sleep(wait_s)
        raise AssertionError("the count does not end")

    @asynccontextmanager
    async def _open(self, call: calls.Call[T]) -> AsyncIterator[httpx.Response]:
        """A success, whose body is still to be read.

        Raises:
            Refused: the answer is no success.
            Unreachable: the connection fails, here or in the block.
        """
        try:
            request = self._http.build_request(**request_of(call, self._timeouts))
            response = await self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    body, reason = await response.aread(), response.reason_phrase
                    raise refusal(response.status_code, reason, response.headers, body)
                yield response
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise Unreachable(str(error) or type(error).__name__) from error


async def _each(
    dialogues: AsyncIterable[models.DialogueIn] | Iterable[models.DialogueIn],
) -> AsyncIterator[models.DialogueIn]:
    if isinstance(dialogues, AsyncIterable):
        async for dialogue in dialogues:
            yield dialogue
    else:
        for dialogue in dialogues:
            yield dialogue
