"""A model that is let speak, against one that is asked token by token."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import Label, LabelSpace
from service.decoding.bundle import (
    read_bundle,
    write_bundle,
)
from service.decoding.engine import LabelEngine
from service.decoding.tokenizer import Tokenizer, load_tokenizer
from service.recognition.opening import open_recognizer
from service.recognition.pipeline import Recognizer
from tests.recognition.conftest import Words
from tests.training.conftest import WriteBase, described
from training.evaluation.free_decoding import open_speaker, prompts_of, with_spoken
from training.evaluation.metrics import measure
from training.evaluation.predictions import Answer, Predictions

TALKS = (
    Dialogue(
        "a",
        (
            Utterance("Ann", "We won the contest and everybody sang.", "joy"),
            Utterance("Bo", "Who is we?"),
            Utterance("Ann", "All of us!", "surprise"),
        ),
    ),
    Dialogue("empty", ()),
    Dialogue("b", (Utterance("Cy", "Oh.", "neutral"),)),
)


@pytest.fixture
def meld(spaces: Mapping[str, LabelSpace]) -> LabelSpace:
    return spaces["meld"]


@pytest.fixture
def folder(write_base: WriteBase, meld: LabelSpace, tmp_path: Path) -> Path:
    """A model that says anything, whose own settings would have it draw and not repeat itself."""
    write_base(tmp_path, 3)
    write_bundle(described(meld, window=(2, 4), max_tokens=150), tmp_path)
    settings = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0, "max_length": 9}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    return tmp_path


def prompts(folder: Path, meld: LabelSpace) -> list[tuple[int, ...]]:
    bundle, tokenizer = read_bundle(folder), load_tokenizer(folder)

    def open_with(engine: LabelEngine) -> Recognizer:
        return open_recognizer(bundle, tokenizer, {"meld": meld}, engine, None)

    return asyncio.run(prompts_of(open_with, meld, TALKS))


def said_by_hand(folder: Path, prompt: tuple[int, ...], new_tokens: int) -> list[int]:
    """One whole forward pass a token."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    end, ids = load_tokenizer(folder).end, list(prompt)
    with torch.no_grad():
        while len(ids) < len(prompt) + new_tokens and ids[-1] != end:
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def by_hand(folder: Path, prompt: tuple[int, ...], new_tokens: int) -> str:
    texts = said_by_hand(folder, prompt, new_tokens)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return str(tokenizer.decode(texts, skip_special_tokens=True)).strip()


def test_prompts_are_those_that_are_scored(folder: Path, meld: LabelSpace) -> None:
    """Of labelled utterances alone, in their order; those between them are context."""
    tokenizer = AutoTokenizer.from_pretrained(folder)

    texts = [tokenizer.decode(prompt) for prompt in prompts(folder, meld)]

    assert len(texts) == 3
    assert "sang. emotion :" in texts[0]
    assert texts[1].index("who is we?") < texts[1].index("all of us! emotion :")
    assert "oh. emotion :" in texts[2]
    assert "sang" not in texts[2]


def test_whole_verbalizers_do_not_multiply_prompts() -> None:
    """Where several reads make an answer, the first is of the prompt as it is."""
    words = Words()
    space = LabelSpace(
        "meld", "M", (Label("up", "very up", "sad"), Label("low", "very low", "sad"))
    )
    talk = Dialogue("d", tuple(Utterance("Ann", f"Line {n}.", "up") for n in range(3)))

    def open_with(engine: LabelEngine) -> Recognizer:
        tokenizer = Tokenizer(words.encode, (0,), 1)
        return open_recognizer(
            described(space, window=(2, 4), max_tokens=150),
            tokenizer,
            {"meld": space},
            engine,
            None,
        )

    prompts_read = asyncio.run(prompts_of(open_with, space, [talk]))

    texts = [words.decode(prompt) for prompt in prompts_read]
    assert [text.endswith(f"Line {n}.\nEmotion:") for n, text in enumerate(texts)] == [True] * 3


def test_model_speaks_greedily(folder: Path, meld: LabelSpace) -> None:
    """In batches of any length as alone, whatever the base's own settings."""
    questions = prompts(folder, meld)
    longest = max(len(load_tokenizer(folder).encode(verbalizer)) for verbalizer in meld.verbalizers)

    texts = open_speaker(folder, "float32")(questions, meld.verbalizers)

    assert texts == [by_hand(folder, prompt, longest + 1) for prompt in questions]
    assert len(set(map(len, questions))) == 3
    assert open_speaker(folder, "float32")(questions[::-1], meld.verbalizers) == texts[::-1]


def test_model_says_no_more_than_there_is_room_for(folder: Path, meld: LabelSpace) -> None:
    """Behind a prompt that fills the bundle's length, one token; others are not cut."""
    questions = prompts(folder, meld)
    full = max(map(len, questions)) + 1
    write_bundle(described(meld, window=(2, 4), max_tokens=full), folder)

    texts = open_speaker(folder, "float32")(questions, ["a word and another word"])

    rooms = [min(6, full - len(prompt)) for prompt in questions]
    assert sorted(rooms)[0] == 1 < sorted(rooms)[-1]
    assert texts == [
        by_hand(folder, prompt, room) for prompt, room in zip(questions, rooms, strict=True)
    ]


def test_answer_that_ends_in_time_is_its_verbalizer(folder: Path, meld: LabelSpace) -> None:
    """Also where the tokenizer has no capitals to write it with.

    The model is taken to end its answer with the first token that it had not said before.
    """
    prompt = prompts(folder, meld)[0]
    texts = said_by_hand(folder, prompt, 8)
    end = next(n for n, token in enumerate(texts) if token != texts[0])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answer = tokenizer.decode(texts[:end])
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(texts[end])
    tokenizer.save_pretrained(folder)
    capitals = answer.title()

    speak = open_speaker(folder, "float32")

    assert capitals != answer
    assert speak([prompt], [capitals, "of some more words"]) == [capitals]
    assert speak([prompt], ["sad", "of some more words"]) == [answer]


def test_rates_are_shares_of_what_was_said() -> None:
    """A verbalizer and nothing else is valid; it agrees where its label was scored highest."""
    words = {"joy": "joyful", "sadness": "sad"}
    rows = [(0.9, 0.1), (0.2, 0.8), (0.9, 0.1), (0.9, 0.1)]
    scored = Predictions(
        "mine", ("joy", "sadness"), tuple(Answer("d", n, 0, row) for n, row in enumerate(rows))
    )
    texts = ["joyful", "joyful", "joyful joyful", "joy"]

    spoken = with_spoken(scored, texts, words)

    assert [a.spoken.text for a in spoken.answers if a.spoken] == texts
    assert [a.spoken.label for a in spoken.answers if a.spoken] == ["joy", "joy", None, None]
    assert (measure(spoken).invalid_rate, measure(spoken).free_decode_agreement) == (0.5, 0.25)
    assert (measure(scored).invalid_rate, measure(scored).free_decode_agreement) == (None, None)
