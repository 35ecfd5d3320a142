"""One server of vLLM, or a router before several, as a label engine.

It is asked through `/v1/completions` with token ids, which no tokenizer of the server touches, and
for the log-probabilities of the candidates alone (`logprob_token_ids`).
"""

import asyncio
import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from service.decoding.engine import Reading, current_dialogue
from service.errors import EngineUnavailable
from service.failures import plain_line
from service.priority import Priority
from service.tracing import current_trace

_MINUS_INFINITY = -9999.0  # what the server writes in its place, as JSON has no infinity
_LARGEST_ANSWER = 2**20  # bytes; an answer has about three thousand
_HASH_BYTES = 16

# Another server may answer: this one has too much to do, ends, or is a router that reaches none.
_ELSEWHERE = frozenset((502, 503, 504))
# Every read would fail: the key is another, or the model.
_EVERY_READ = frozenset((401, 403, 404))


class Outcome(StrEnum):
    """What becomes of a request to a server, as named in metrics."""

    ANSWERED = "answered"
    UNREACHABLE = "unreachable"  # no connection
    BROKEN = "broken"  # the connection, or the answer, before its end
    TIMED_OUT = "timed_out"
    FAILED = "failed"  # a status of 5xx, or one that says that no request can be answered
    REFUSED = "refused"  # another status of 4xx: it is the request that is at fault


class ServerFailed(EngineUnavailable):
    """A server did not read a prompt.

    Attributes:
        outcome: never `ANSWERED`.
        status: of its answer; None if there is none.
        is_for_every_read: whether the server would fail the next read too.
    """

    def __init__(
        self,
        message: str,
        outcome: Outcome,
        status: int | None = None,
        *,
        is_for_every_read: bool = False,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.status = status
        self.is_for_every_read = is_for_every_read or status in _EVERY_READ

    @property
    def is_of_connection(self) -> bool:
        """Whether a new connection may mend it."""
        return self.outcome in (Outcome.UNREACHABLE, Outcome.BROKEN)

    @property
    def may_be_read_elsewhere(self) -> bool:
        """Whether the read is worth a second try. It changes nothing, so it may be read twice."""
        return self.is_of_connection or self.status in _ELSEWHERE


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes:
        url: as configured, without a slash at its end.
        ip: the address of the URL's host, or one of them.
        is_one_of_several: whether the host has others.
    """

    url: str
    ip: str
    is_one_of_several: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """Host and port, as metrics and messages show them."""
        return self._at(self.ip) if self.is_one_of_several else urlsplit(self.url).netloc

    @property
    def target(self) -> str:
        """The URL to connect to: the host's would lead to any of its addresses."""
        return urlsplit(self.url)._replace(netloc=self._at(self.ip)).geturl()

    @property
    def headers(self) -> dict[str, str]:
        """The host that a request is for."""
        return {"Host": urlsplit(self.url).netloc}

    @property
    def certified_name(self) -> str | None:
        """The name in the server's certificate, if it has one."""
        parts = urlsplit(self.url)
        return parts.hostname if parts.scheme == "https" else None

    def _at(self, ip: str) -> str:
        port = urlsplit(self.url).port
        return f"{f'[{ip}]' if ':' in ip else ip}{'' if port is None else f':{port}'}"


class KeyedHash:
    """Hides tenants and dialogues from servers, routers and their logs."""

    def __init__(self, key: str | None) -> None:
        """Hash with a key: there may be few enough dialogues to try all.

        Args:
            key: the same for all processes that are to send a dialogue to the same server; None:
                a random one.
        """
        secret = secrets.token_bytes() if key is None else key.encode()
        self._key = hashlib.sha256(b"servers:" + secret).digest()

    def of_tenant(self, tenant: str) -> str:
        return self._hash(tenant)

    def of_dialogue(self, dialogue: tuple[str | None, str]) -> str:
        """The hash of a tenant, if there is one, and the id of one of its dialogues."""
        tenant, dialogue_id = dialogue
        owner = "-" if tenant is None else f"{len(tenant)}:{tenant}"
        return self._hash(owner + dialogue_id)

    def _hash(self, content: str) -> str:
        digest = hashlib.blake2b(content.encode(), key=self._key, digest_size=_HASH_BYTES)
        return digest.hexdigest()


class ModelServer:
    """A label engine on a server's model.

    Attributes:
        name: the server's host and port.
        target: the URL that it is reached at.
    """

    def __init__(
        self, address: Address, model: str, hashed: KeyedHash, http: aiohttp.ClientSession
    ) -> None:
        """Connect to nothing yet.

        Args:
            model: the name that the server knows the model by.
            http: the connections, with their timeouts and the servers' key; whoever made it
                closes it.
        """
        self.name = address.name
        self._model = model
        self._hashed = hashed
        self._http = http
        self.target = address.target
        self._headers = address.headers
        self._certified_name = address.certified_name

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        """Read as `LabelEngine.read` does.

        Raises:
            ServerFailed: the server does not answer, or refuses the prompt.
        """
        question: dict[str, Any] = {
            "model": self._model,
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,  # has to be there for the next one, which replaces it
            "logprob_token_ids": list(candidates),
            "return_tokens_as_token_ids": True,  # decoded, two tokens may be one text
            "add_special_tokens": False,
            "priority": int(priority),
        }
        if salt is not None:
            # Hashed, as vLLM does not take every tenant's name for a salt.
            question["cache_salt"] = self._hashed.of_tenant(salt)
        headers = {"Content-Type": "application/json", **self._headers}
        dialogue, trace = current_dialogue(), current_trace()
        if dialogue is not None:
            headers["X-Session-ID"] = self._hashed.of_dialogue(dialogue)
        if trace is not None:
            headers.update(trace.headers())
        answer = await self._request("POST", "/v1/completions", headers, orjson.dumps(question))
        try:
            return reading_of(answer, candidates)
        except (LookupError, TypeError, ValueError):
            # An ending server answers what it has begun without the token.
            raise ServerFailed(f"{self.name} broke off its answer", Outcome.BROKEN) from None

    async def models(self) -> Mapping[str, int | None] | None:
        """The longest prompt in tokens of each model, by its name; None where a router hides them.

        Raises:
            ServerFailed: the server does not answer.
        """
        try:
            answer = await self._request("GET", "/v1/models", self._headers)
            return {card["id"]: card.get("max_model_len") for card in answer["data"]}
        except ServerFailed as error:
            if error.status == 404:
                return None
            raise
        except (LookupError, TypeError, AttributeError):
            return None

    async def check(self) -> None:
        """Return: only an answer says whether the server works."""

    async def close(self) -> None:
        """Leave the connections to whoever made them."""

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Any:
        """The document that the server answers. A cancelled request ends the read in the server."""
        try:
            async with self._http.request(
                method,
                self.target + path,
                data=body,
                headers=headers,
                server_hostname=self._certified_name,
                allow_redirects=False,
            ) as response:
                content = await _bounded(response.content)
                if len(content) > _LARGEST_ANSWER:
                    raise ServerFailed(f"{self.name} answers too much", Outcome.FAILED)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ServerFailed(
                f"{self.name} cannot be reached",
                Outcome.UNREACHABLE,
                # A timeout may be this process's own, if it stood still meanwhile.
                is_for_every_read=isinstance(error, aiohttp.ClientConnectorError),
            ) from error
        except TimeoutError as error:
            raise ServerFailed(f"{self.name} does not answer", Outcome.TIMED_OUT) from error
        except (aiohttp.ClientError, OSError) as error:
            broken = f"the connection to {self.name} broke"
            raise ServerFailed(broken, Outcome.BROKEN) from error
        if response.status != 200:
            raise _failure(self.name, response.status, content)
        try:
            return orjson.loads(content)
        except ValueError:
            raise ServerFailed(f"{self.name} answers no JSON", Outcome.FAILED) from None


async def _bounded(body: aiohttp.StreamReader) -> bytes:
    """A body, or a byte more of it than an answer may have."""
    try:
        return await body.readexactly(_LARGEST_ANSWER + 1)
    except asyncio.IncompleteReadError as whole:
        return whole.partial


def reading_of(answer: Any, candidates: Sequence[int]) -> Reading:
    """Read the answer to a completion of one token.

    Raises:
        LookupError, TypeError, ValueError: it does not have the candidates' log-probabilities.
    """
    by_token = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    values = [float(by_token[f"token_id:{token}"]) for token in candidates]
    usage, metrics = answer.get("usage") or {}, answer.get("metrics") or {}
    queue_ms = metrics.get("queue_time_ms")
    return Reading(
        tuple(value if value > _MINUS_INFINITY else -math.inf for value in values),
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        None if queue_ms is None else queue_ms / 1000,
    )


def _failure(name: str, status: int, content: bytes) -> ServerFailed:
    at_fault = status < 500 and status not in _EVERY_READ
    outcome = Outcome.REFUSED if at_fault else Outcome.FAILED
    return ServerFailed(f"{name} answers {status}: {_message_of(content)}", outcome, status)


def _message_of(content: bytes) -> str:
    """The first line of a server's message; it may be a router's plain text."""
    try:
        error = orjson.loads(content)["error"]
        message = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, LookupError, TypeError):
        message = content[:300].decode(errors="replace")
    return plain_line(message) or "no message"
