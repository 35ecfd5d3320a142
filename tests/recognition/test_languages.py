"""What is found to be in a language that a model was not trained on."""

import pytest

from service.recognition.languages import other_languages
from tests.recognition.sentences import OTHER_SCRIPTS, SENTENCES


def is_other(text: str, *languages: str) -> bool:
    scripts = other_languages(languages)
    assert scripts is not None
    return scripts(text)


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_in_another_language_are_found(language: str) -> None:
    """Of five words and more, at least 95 in a hundred."""
    others = [text for text in SENTENCES[language] if is_other(text, "en")]

    assert len(SENTENCES[language]) >= 20
    assert len(others) >= 0.95 * len(SENTENCES[language])


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_in_a_language_that_the_model_reads_is_not(language: str) -> None:
    """One of several; what is said in the first is not foreign either."""
    assert not any(is_other(text, "en", language) for text in SENTENCES[language])
    assert not is_other("I waited for you the whole day yesterday.", "en", language)


@pytest.mark.parametrize("text", OTHER_SCRIPTS.values(), ids=OTHER_SCRIPTS.keys())
def test_another_script_is_found(text: str) -> None:
    """However few the words are."""
    assert is_other(text, "en")
    assert is_other(f"OK, {text}", "en")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No.",
        "Hm",
        "?!",
        "42",
        "Ciao!",
        "Voila",
        "Mamma mia!",
        "C'est la vie.",
        "Oh my god",
        "Noooooo!!",
        "hahahaha lol",
        "La la la la la la",
        "Uh, uh-huh, mm-hmm, yeah",
        "S P O I L E R S",
        "Gracias, amigo, see you tomorrow",
        "We had crème brûlée at a café in São Paulo.",
        "Zoë, Chloé, this is Søren Kierkegård from Malmö.",
        "My mother always said καλημέρα when I was small.",
        "¯\\_(ツ)_/¯",
        "ಠ_ಠ",
        "(ノಠ益ಠ)ノ彡┻━┻",
        "ʕ•ᴥ•ʔ",
        "😀😀😀",
        "𝓘 𝓪𝓶 𝓼𝓸 𝓱𝓪𝓹𝓹𝔂 𝓯𝓸𝓻 𝔂𝓸𝓾",
        "π",
        "https://example.com/a/b?c=d",
    ],
)
def test_english_and_what_english_speakers_write_is_not_found(text: str) -> None:
    """Short lines, names, borrowed words, emoticons, letters that only look otherwise."""
    assert not is_other(text, "en")


def test_languages_without_latin_letters_are_told_by_their_script() -> None:
    """Of a model that reads them, Latin letters are the other script."""
    assert not is_other(OTHER_SCRIPTS["Han"], "zh")
    assert not is_other(OTHER_SCRIPTS["Kana"], "ja")
    assert not is_other(OTHER_SCRIPTS["Devanagari"], "hi")
    assert is_other("I waited for you the whole day yesterday.", "ru")
    assert not is_other("I waited for you the whole day yesterday.", "ru", "en")


def test_nothing_is_told_where_the_languages_are_not_known() -> None:
    """None is named, or one that cannot be told from others."""
    assert other_languages(()) is None
    assert other_languages(("en", "xx")) is None


def test_the_beginning_of_a_long_text_decides() -> None:
    """So that no text takes long."""
    english, german = "I waited for you. " * 50, SENTENCES["de"][0] * 50

    assert not is_other(english + german, "en")
    assert is_other(german + english, "en")
