"""The remote label engine: vLLM's own servers, one or many, or routers before them.

A read is tried once more, on another server, if its connection breaks, the server answers 502, 503
or 504, or the server hangs: answers no open read for some seconds (`watched.WatchOptions`). A read
that takes longer than `RemoteOptions.answer_s` fails. A server that cannot be reached, fails
several reads in a row (`replicas`) or hangs is set aside until it passes the check again.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from service.decoding.engine import Reading, ServerState, current_dialogue
from service.decoding.replicas import Replica, choose
from service.decoding.server import Address, KeyedHash, ModelServer, Outcome, ServerFailed
from service.decoding.server_check import ServerCheck, WrongServer
from service.decoding.watched import WatchedEngine, WatchOptions
from service.errors import EngineUnavailable
from service.failures import Failures
from service.priority import Priority

log = logging.getLogger(__name__)

# vLLM closes a connection that was idle for 5 s: one that is used just then would break.
_KEPT_ALIVE_S = 2.0
# How often names are looked up again: servers come and go with the load.
_LOOKED_UP_EVERY_S = 5.0
_LOOK_UP_S = 5.0
_UNCHECKED = "has not been checked yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOptions:
    """Where servers are, and how long one waits for them.

    Attributes:
        urls: of servers, without a slash at the end; one whose host has several addresses stands
            for a server at each.
        model: the name that they know the model by.
        api_key: what they ask for, if anything.
        hash_key: see `KeyedHash`.
        connect_s, answer_s: the most seconds for a connection, and for a whole read.
        watch: when a server counts as hanging, and how often one that is away is tried.
    """

    urls: tuple[str, ...]
    model: str
    api_key: str | None = None
    hash_key: str | None = None
    connect_s: float = 1.0
    answer_s: float = 60.0
    watch: WatchOptions = WatchOptions()


class RemoteEngine:
    """A label engine on servers of one model. Made by `open_remote`.

    Attributes:
        lost: None: servers that are away may come back.
    """

    lost: str | None = None

    def __init__(self, options: RemoteOptions, check: ServerCheck) -> None:
        self._options = options
        self._check = check
        self._hashed = KeyedHash(options.hash_key)
        self._replicas: dict[Address, Replica] = {}
        self._watches: dict[Address, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._look_ups = Failures(log, "the look-up of the label engine's servers")
        key = options.api_key
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_ALIVE_S),
            timeout=aiohttp.ClientTimeout(options.answer_s, sock_connect=options.connect_s),
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @property
    def servers(self) -> Sequence[ServerState]:
        return [
            ServerState(
                each.name, each.is_available, each.outcomes, each.open_reads, each.watched.work
            )
            for each in self._replicas.values()
        ]

    @property
    def silent_s(self) -> float:
        """As `WatchableEngine`'s; as long as one server answers, the engine is not silent."""
        return min((each.watched.silent_s for each in self._replicas.values()), default=0.0)

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        dialogue = current_dialogue()
        session = None if dialogue is None else self._hashed.of_dialogue(dialogue)

        async def read_from(replica: Replica) -> Reading:
            replica.open_reads += 1
            began = asyncio.get_running_loop().time()
            try:
                reading = await replica.watched.read(prompt, candidates, priority, salt=salt)
            except ServerFailed as error:
                replica.failed(error, began)
                raise
            finally:
                replica.open_reads -= 1
            replica.answered()
            return reading

        first = self._choose(session)
        try:
            try:
                return await read_from(first)
            except EngineUnavailable as error:
                second = self._second(session, first, error)
                if second is None:
                    raise
            return await read_from(second)
        except EngineUnavailable as error:
            # Clients need not know what servers are called.
            raise EngineUnavailable("the label engine does not answer") from error

    async def check(self) -> None:
        """Return if a server is available."""
        self._choose(None)

    async def close(self) -> None:
        watches = [*self._watches.values(), *([] if self._watching is None else [self._watching])]
        for watch in watches:
            watch.cancel()
        if watches:
            await asyncio.wait(watches, timeout=1)
        for replica in self._replicas.values():
            await replica.watched.close()
        await self._http.close()

    async def open(self) -> None:
        """Look servers up, check each of them, and watch them from then on.

        Raises:
            WrongServer: one is not what the bundle needs.
            EngineUnavailable: none answers.
        """
        await self._look_up()
        if not self._replicas:
            raise EngineUnavailable("ERC_ENGINE__URLS: no host has an address")
        failures = await asyncio.gather(*map(self._probe_at_start, self._replicas.values()))
        for failure in failures:
            if isinstance(failure, WrongServer):
                raise failure
        if all(failures):
            why = "; ".join(str(failure) for failure in failures)
            raise EngineUnavailable(f"no server of ERC_ENGINE__URLS reads labels: {why}")
        self._watching = asyncio.create_task(self._watch())

    async def watch(self, on_loss: Callable[[str], None]) -> None:
        """Never return: it watches by itself, whether or not anybody calls this.

        Args:
            on_loss: never called.
        """
        if self._watching is not None:
            await asyncio.shield(self._watching)

    async def _watch(self) -> None:
        """Keep watching each server, and looking up which there are."""
        while True:
            for address, replica in self._replicas.items():
                if address not in self._watches:
                    self._watches[address] = asyncio.create_task(_watch(replica))
            await asyncio.sleep(_LOOKED_UP_EVERY_S)
            await self._look_up()

    def _choose(self, session: str | None) -> Replica:
        replica = choose(self._replicas.values(), session)
        if replica is None:
            raise EngineUnavailable("no server of the label engine answers")
        return replica

    def _second(
        self, session: str | None, first: Replica, error: EngineUnavailable
    ) -> Replica | None:
        """The server to try after the first failed; None: the failure stands."""
        if isinstance(error, ServerFailed):
            if not error.may_be_read_elsewhere:
                return None
            only = first if error.is_of_connection and first.is_available else None
        else:
            # It hangs, and what it was asked is taken back.
            first.outcomes[Outcome.TIMED_OUT] += 1
            only = None
        return choose(self._replicas.values(), session, (first,)) or only

    async def _probe_at_start(self, replica: Replica) -> EngineUnavailable | None:
        try:
            cached_tokens = await self._check(replica.server)
        except EngineUnavailable as error:
            replica.watched.trouble = str(error)
            return error
        replica.watched.trouble = None
        if cached_tokens is None:
            hint = "does not count cached tokens: start it with --enable-prompt-tokens-details"
            log.warning("%s %s", replica.name, hint)
        elif not cached_tokens:
            hint = "caches no short prompt: start it with prefix caching, on a CPU --block-size 32"
            log.warning("%s %s", replica.name, hint)
        return None

    async def _look_up(self) -> None:
        """Make the servers those that the names stand for now."""
        addresses: list[Address] = []
        for url in self._options.urls:
            try:
                addresses += await addresses_of(url)
            except OSError as error:
                self._look_ups.failed(error)
                addresses += [known for known in self._replicas if known.url == url]
            else:
                self._look_ups.worked()
        for address in self._replicas.keys() - set(addresses):
            watch = self._watches.pop(address, None)
            if watch is not None:
                watch.cancel()
            log.info("%s is gone", self._replicas.pop(address).name)
        for address in addresses:
            if address not in self._replicas:
                self._replicas[address] = self._replica(address)

    def _replica(self, address: Address) -> Replica:
        server = ModelServer(address, self._options.model, self._hashed, self._http)

        async def probe() -> None:
            await self._check(server)

        watched = WatchedEngine(
            server, self._options.watch, name=server.name, probe=probe, trouble=_UNCHECKED
        )
        return Replica(server, watched)


async def open_remote(options: RemoteOptions, check: ServerCheck) -> RemoteEngine:
    """Open a remote engine whose servers have passed the check.

    Raises:
        WrongServer: a server is not what the bundle needs; the message names the remedy.
        EngineUnavailable: no server answers.
    """
    engine = RemoteEngine(options, check)
    try:
        await engine.open()
    except BaseException:
        await engine.close()
        raise
    return engine


async def _watch(replica: Replica) -> None:
    if not replica.is_available:  # it is new
        await replica.watched.probe()
    await replica.watched.watch(lambda why: None)  # it is never lost


async def addresses_of(url: str) -> Iterable[Address]:
    """The servers that a URL stands for: one for each address of its host.

    Raises:
        OSError: the host has no address, or its name is not looked up in time.
    """
    parts = urlsplit(url)
    async with asyncio.timeout(_LOOK_UP_S):
        resolved = await asyncio.get_running_loop().getaddrinfo(
            parts.hostname, parts.port, type=socket.SOCK_STREAM
        )
    # A server that has addresses of both kinds is one.
    family = min(family for family, *_ in resolved)
    ips = sorted({str(where[0]) for kind, *_, where in resolved if kind == family})
    return [Address(url, ip, len(ips) > 1) for ip in ips]
