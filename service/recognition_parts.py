"""The parts of a recognizer, opened in order and closed in reverse.

The service and the offline commands open the same parts, so files are scored as requests are.
"""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from service.conversation.derived import DerivedLabelSpace, load_derived_label_spaces
from service.conversation.labels import LabelSpace, load_label_spaces
from service.decoding.bundle import Bundle, BundleError, load_bundle
from service.decoding.engine import LabelEngine, WatchableEngine
from service.decoding.fingerprint import question_of
from service.decoding.forking import beside, may_fork
from service.decoding.in_process import EngineOptions, start_engine
from service.decoding.precision import in_words
from service.decoding.remembered import RememberedEngine
from service.decoding.remote import RemoteEngine, RemoteOptions, open_remote
from service.decoding.server_check import ServerCheck, check_question
from service.decoding.tokenizer import Tokenizer, load_tokenizer
from service.decoding.watched import WatchedEngine, WatchOptions
from service.demonstrations.corpus import build_index, read_demonstrations
from service.demonstrations.encoder import IDENTITY, Encoder, load_encoder
from service.demonstrations.qdrant_edge.store import open_edge
from service.demonstrations.store import DemonstrationStore
from service.environment import set_up_tokenizers, set_up_torch_threads, set_up_vllm
from service.recognition.languages import other_languages
from service.recognition.opening import open_recognizer
from service.recognition.pipeline import Recognizer
from service.recognition.retrieval import NearestDemonstrations, Retrieval
from service.settings import Settings

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that recognition needs.

    Attributes:
        derived: the derived label spaces, by name.
        dtype: the data type that the engine computes in; "unknown" of servers.
    """

    label_spaces: Mapping[str, LabelSpace]
    derived: Mapping[str, DerivedLabelSpace]
    bundle: Bundle
    encoder: Encoder
    store: DemonstrationStore
    engine: WatchableEngine
    recognizer: Recognizer
    dtype: str


@asynccontextmanager
async def open_parts(
    settings: Settings,
    report: Report,
    *,
    index: Path | None = None,
    demonstrations: bool = True,
    alone: bool = False,
    traces_endpoint: str | None = None,
    around_engine: Callable[[LabelEngine], LabelEngine] = lambda engine: engine,
    around_retrieval: Callable[[Retrieval], Retrieval] = lambda retrieval: retrieval,
) -> AsyncIterator[Parts]:
    """Open the parts and warm them up, so that the first prediction is as fast as the next.

    Args:
        report: called with the progress.
        index: a folder for the embedded index, instead of the configured one.
        demonstrations: whether prompts show any.
        alone: whether this process does nothing else, so that vLLM's process may be a fork of it.
        traces_endpoint: where vLLM sends spans; None: nowhere.
        around_engine: wraps the label engine, for example to count requests.
        around_retrieval: wraps the retrieval of demonstrations.

    Raises:
        ModelFolderError, WrongWeights, IndexMismatch, DemonstrationFormatError, ValueError:
            a file cannot be used; the message says which and why.
        Unavailable: a part does not start.
    """
    async with AsyncExitStack() as stack:
        label_spaces = load_label_spaces(settings.data / "label_spaces")
        derived = load_derived_label_spaces(settings.data / "label_spaces", label_spaces)
        is_remote = settings.engine.urls is not None
        bundle = load_served_bundle(settings, label_spaces)
        if bundle.encoder != IDENTITY:
            raise BundleError(
                f"{settings.bundle}: trained with encoder {bundle.encoder}, but the service has "
                f"{IDENTITY}"
            )
        forked = alone and not is_remote and may_fork()
        options = engine_options(settings, traces_endpoint, forked=forked)
        # Half of the cores: the engine computes at the same time with its own threads.
        cores = len(os.sched_getaffinity(0))
        encoder_threads = max(1, cores - 1 if is_remote else cores // 2)
        # Before torch is first imported in this process.
        set_up_torch_threads(encoder_threads, options.threads if options.forked else None)
        if is_remote:
            set_up_tokenizers()
        else:
            set_up_vllm(options.kv_cache_gib, traces=options.traces_endpoint is not None)

        def open_encoder() -> Encoder:
            report("loading the encoder")
            if options.forked:
                _use_threads(encoder_threads)
            return load_encoder()

        async def open_engine(encoder: Encoder | None) -> tuple[WatchableEngine, str, Encoder]:
            """Start vLLM and, while its process starts, load what is not loaded yet."""

            def meanwhile() -> Encoder:
                other_languages(bundle.languages)  # takes a second, then is cached
                return open_encoder() if encoder is None else encoder

            if is_remote:
                report(f"checking {', '.join(settings.engine.urls or ())}")
                servers = await open_servers(settings, bundle, tokenizer)
                stack.push_async_callback(servers.close)
                return servers, "unknown", meanwhile()
            report(f"starting vLLM on {settings.bundle}")
            begun: list[Future[Encoder]] = []
            started = await start_engine(
                settings.bundle,
                max_tokens=bundle.max_tokens,
                options=options,
                once_begun=lambda: begun.append(beside(meanwhile)),
            )
            report(f"vLLM computes in {in_words(started.dtype, started.device)}")
            engine = WatchedEngine(started, _watch_options(settings))
            stack.push_async_callback(engine.close)
            return engine, started.dtype, await asyncio.wrap_future(begun[0])

        async def open_store(encoder: Encoder) -> DemonstrationStore:
            stack.push_async_callback(encoder.close)
            opened = open_index(settings, label_spaces, encoder, report, index=index)
            return await stack.enter_async_context(opened)

        # First the files, so that errors in them are reported at once.
        tokenizer = load_tokenizer(settings.bundle)
        if alone:
            read_demonstrations(settings.demonstrations_file, label_spaces)
            engine, dtype, encoder = await open_engine(None)
            store = await open_store(encoder)
        else:
            encoder = open_encoder()
            store = await open_store(encoder)
            engine, dtype, _ = await open_engine(encoder)
        recognizer = open_recognizer(
            bundle,
            tokenizer,
            label_spaces,
            RememberedEngine(around_engine(engine)),
            around_retrieval(NearestDemonstrations(encoder, store)),
            show=demonstrations,
        )
        report("warming up")
        await recognizer.warm_up()
        yield Parts(label_spaces, derived, bundle, encoder, store, engine, recognizer, dtype)


def load_served_bundle(settings: Settings, label_spaces: Mapping[str, LabelSpace]) -> Bundle:
    """Read the bundle and check what has to be in its folder, which servers or a store may have.

    Raises:
        BundleError, ModelFolderError: as `load_bundle`.
    """
    return load_bundle(
        settings.bundle,
        label_spaces,
        model=settings.engine.urls is None,
        weights=settings.engine.weights is None,
    )


async def open_servers(settings: Settings, bundle: Bundle, tokenizer: Tokenizer) -> RemoteEngine:
    """Open the engine on the servers of the settings.

    Raises:
        EngineUnavailable: a server is not what the bundle needs, or none answers.
    """
    engine = settings.engine
    question = question_of(bundle, tokenizer)
    check_question(bundle, question)
    api_key = None if engine.api_key is None else engine.api_key.get_secret_value()
    dialogue_key = settings.dialogue_key
    options = RemoteOptions(
        urls=engine.urls or (),
        model=engine.model or bundle.name,
        api_key=api_key,
        # All processes that share servers have the second, too.
        hash_key=api_key if dialogue_key is None else dialogue_key.get_secret_value(),
        connect_s=engine.connect_timeout_s,
        answer_s=engine.answer_timeout_s,
        watch=replace(_watch_options(settings), exit_after_s=math.inf),
    )
    check = ServerCheck(bundle, options.model, question, engine.dtype)
    return await open_remote(options, check)


def _watch_options(settings: Settings) -> WatchOptions:
    return WatchOptions(
        probe_after_s=settings.engine.probe_after_s,
        stalled_after_s=settings.engine.stalled_after_s,
        exit_after_s=settings.engine.exit_after_s,
    )


def _use_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def engine_options(
    settings: Settings, traces_endpoint: str | None = None, *, forked: bool = False
) -> EngineOptions:
    """The options to start vLLM with on this machine."""
    return EngineOptions(
        kv_cache_gib=settings.engine.kv_cache_gib,
        threads=settings.engine.threads or max(1, len(os.sched_getaffinity(0)) - 1),
        max_sequences=settings.engine.max_sequences,
        step_tokens=settings.engine.step_tokens,
        gpu_memory=settings.engine.gpu_memory,
        tensor_parallel=settings.engine.tensor_parallel,
        dtype=settings.engine.dtype,
        kv_dtype=settings.engine.kv_dtype,
        attention=settings.engine.attention,
        load_format=settings.engine.load_format,
        weights=settings.engine.weights,
        further=settings.engine.arguments or {},
        forked=forked,
        traces_endpoint=traces_endpoint,
    )


@asynccontextmanager
async def open_index(
    settings: Settings,
    label_spaces: Mapping[str, LabelSpace],
    encoder: Encoder,
    report: Report,
    *,
    index: Path | None = None,
) -> AsyncIterator[DemonstrationStore]:
    """Open the store of demonstrations, and index the shipped ones if they are not yet.

    Args:
        report: called with the progress.
        index: a folder for the embedded index, instead of the configured one.

    Raises:
        IndexMismatch, DemonstrationFormatError: the index or the file is unusable; the message
            says why.
        DemonstrationsUnavailable: the encoder or the store fails.
    """
    store = await _open_store(settings, encoder, index)
    try:
        shipped = read_demonstrations(settings.demonstrations_file, label_spaces)
        built = await build_index(
            store,
            encoder,
            shipped,
            lambda done, total: report(f"indexing demonstrations: {done} of {total}"),
            kept=None if index is None else settings.demonstrations.kept_vectors,
        )
        report(f"demonstrations: {built or len(shipped)} {'indexed' if built else 'ready'}")
        yield store
    finally:
        await store.close()


async def _open_store(
    settings: Settings, encoder: Encoder, index: Path | None
) -> DemonstrationStore:
    qdrant = settings.qdrant
    if qdrant.url is None:
        return await open_edge(index or settings.demonstrations.folder, encoder.identity)
    # Imported here: the client takes a second to import.
    from service.demonstrations.qdrant_server import ServerLimits, open_server

    return await open_server(
        qdrant.url,
        None if qdrant.api_key is None else qdrant.api_key.get_secret_value(),
        qdrant.collection,
        encoder.identity,
        prefer_grpc=qdrant.prefer_grpc,
        limits=ServerLimits(read_s=qdrant.timeout_s),
    )
