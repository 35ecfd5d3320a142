"""The check that a server passes before the service reads labels from it, and once it is back."""

import logging
from dataclasses import dataclass

from service.decoding.bundle import Bundle
from service.decoding.engine import Priority, Reading
from service.decoding.fingerprint import (
    Question,
    difference,
    is_coarse,
    is_float32,
    is_same_model,
)
from service.decoding.precision import EngineChoice
from service.decoding.server import ModelServer, Outcome, ServerFailed
from service.errors import EngineUnavailable

log = logging.getLogger(__name__)


class WrongServer(EngineUnavailable):
    """A server answers, but not as the bundle's model is to; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """What a server has to answer.

    Attributes:
        model: the name that servers know the model by.
        dtype: what they are to compute in; "auto": whatever agrees with the bundle.
    """

    bundle: Bundle
    model: str
    question: Question
    dtype: EngineChoice = "auto"

    async def __call__(self, server: ModelServer) -> int | None:
        """Check a server.

        Returns:
            How many tokens of the question were in its cache the second time; None: it does not
            count them.

        Raises:
            WrongServer: it has another model or other options.
            ServerFailed: it does not answer.
        """
        try:
            await self._check_model(server)
            reading = await self._read(server, Priority.INTERACTIVE)
            self._check_numbers(server, reading)
            return (await self._read(server, Priority.BATCH)).cached_tokens
        except ServerFailed as error:
            remedy = _remedy(error)
            if remedy is None:
                raise
            raise WrongServer(f"{error}; {remedy}") from None

    async def _check_model(self, server: ModelServer) -> None:
        models = await server.models()
        if models is None:
            return
        if self.model not in models:
            raise WrongServer(
                f"{server.name} serves {', '.join(models)}, not {self.model}: start it with "
                f"--served-model-name {self.model}, or set ERC_ENGINE__MODEL"
            )
        # An adapter has no length of its own.
        longest = models[self.model] or max((n for n in models.values() if n), default=None)
        if longest is not None and longest < self.bundle.max_tokens:
            raise WrongServer(
                f"{server.name} reads {longest} tokens at most: start it with "
                f"--max-model-len {self.bundle.max_tokens}"
            )

    async def _read(self, server: ModelServer, priority: Priority) -> Reading:
        return await server.read(self.question.prompt, self.question.candidates, priority)

    def _check_numbers(self, server: ModelServer, reading: Reading) -> None:
        if is_coarse(reading.log_probabilities):
            raise WrongServer(
                f"{server.name} computes logits in half precision, too coarse for probabilities: "
                """start it with --hf-overrides '{"head_dtype": "float32"}'"""
            )
        fingerprint = self.bundle.fingerprint
        if fingerprint is None:
            return
        apart = difference(fingerprint, reading.log_probabilities)
        if not is_same_model(apart):
            raise WrongServer(
                f"{server.name} has other weights than bundle {self.bundle.name} "
                f"{self.bundle.version} (log-probabilities differ by {apart:.2g}): start it on "
                "that bundle's folder, without quantisation, or set ERC_BUNDLE to the one it has"
            )
        if self.dtype != "auto" and (self.dtype == "float32") != is_float32(apart):
            raise WrongServer(
                f"{server.name} does not compute in {self.dtype}: start it with --dtype "
                f"{self.dtype}, or unset ERC_ENGINE__DTYPE"
            )


def _remedy(error: ServerFailed) -> str | None:
    """What to do about a server's refusal; None where it does not refuse but fails."""
    match error.status:
        case 401 | 403:
            return "set ERC_ENGINE__API_KEY to its key"
        case 400 if "priority" in str(error).casefold():
            return "start it with --scheduling-policy priority"
        case _ if error.outcome is Outcome.REFUSED or error.status == 404:
            return "start it as docs/engines.md says"
    return None


def check_question(bundle: Bundle, question: Question) -> None:
    """Check that the service renders the prompt that the bundle's fingerprint is of.

    Raises:
        WrongServer: its template or its tokenizer is another than the merge's.
    """
    fingerprint = bundle.fingerprint
    if fingerprint is None:
        log.warning(
            "bundle %s has no fingerprint, so whether servers have its weights is unknown: "
            "merge it again with `instructerc-train merge`",
            bundle.name,
        )
        return
    if fingerprint.question != question.sha256 or len(fingerprint.log_probabilities) != len(
        question.candidates
    ):
        raise WrongServer(
            f"bundle {bundle.name} was merged with another version of template "
            f"{bundle.template!r} or another tokenizer, so its model knows other prompts: merge it "
            "again with this version (`instructerc-train merge`)"
        )
