"""Assembles a recognizer, and refuses a bundle that could not answer."""

from collections.abc import Mapping

from service.conversation.labels import LabelSpace
from service.conversation.prompts.tokens import PromptTooLong, check_fits
from service.decoding.bundle import Bundle, BundleError
from service.decoding.engine import LabelEngine
from service.decoding.scoring import plan_reading
from service.decoding.tokenizer import Tokenizer
from service.recognition.languages import other_languages
from service.recognition.pipeline import Recognizer
from service.recognition.retrieval import Retrieval


def open_recognizer(
    bundle: Bundle,
    tokenizer: Tokenizer,
    label_spaces: Mapping[str, LabelSpace],
    engine: LabelEngine,
    retrieval: Retrieval | None,
    *,
    show: bool = True,
) -> Recognizer:
    """Assemble a recognizer from a bundle's parts.

    Args:
        retrieval: None: answer without demonstrations.
        show: whether prompts show demonstrations, in the bundle's number.

    Raises:
        BundleError: the tokenizer does not distinguish a label space's verbalizers, or `max_tokens`
            leaves no room for utterances.
    """
    template = bundle.prompt_template
    try:
        readings = {
            name: plan_reading(label_spaces[name], template, tokenizer.encode, tokenizer.end)
            for name in bundle.label_spaces
        }
        for name, reading in readings.items():
            for task in bundle.tasks:
                check_fits(
                    template,
                    label_spaces[name],
                    task,
                    encode=tokenizer.encode,
                    begin=tokenizer.begin,
                    limit=reading.prompt_limit(bundle.max_tokens),
                )
    except PromptTooLong as error:
        raise BundleError(
            f"bundle {bundle.name}: max_tokens, {bundle.max_tokens}, is too low: {error}"
        ) from None
    except ValueError as error:
        raise BundleError(f"bundle {bundle.name}: {error}") from None
    is_other_language = other_languages(bundle.languages)
    examples = bundle.demonstrations if show and retrieval is not None else 0
    return Recognizer(
        bundle, tokenizer, label_spaces, readings, engine, retrieval, examples, is_other_language
    )
