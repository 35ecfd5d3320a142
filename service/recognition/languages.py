"""Detection of utterances in languages that the model was not trained on.

Two things tell: the script of its letters and, where that is one that the model reads, how probable
py3langid finds it that the words are of one of the model's languages. Short lines are left alone,
as `Ciao!` and `Voila` are said in English too.

Of the development splits of MELD, EmoryNLP and GoEmotions, which are English, 0 of 7,489 lines are
found to be in another language; of 168 sentences of five words and more in eight other languages
that are written in Latin letters, all are (`tests/recognition/test_languages.py`).
"""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING
from unicodedata import category, name, normalize

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

IsOther = Callable[[str], bool]

# What is looked at of a text; 0.1 ms.
_CHARACTERS = 500

# With fewer different words nothing is said; "La la la la" is one.
_LEAST_WORDS = 4
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

# A text is in another language if it is less probable than this that it is in one of the model's.
_LEAST_PROBABILITY = 0.02

# What a text may be in beside the model's languages. Rare ones are left out: each makes some line
# look foreign that is not, and a text in one of them looks like a relative of it that is here.
_CANDIDATES = frozenset(
    "ca cs da de en es fi fr hu id it nl no pl pt ro sv tr vi".split()  # noqa: SIM905, as below
)

# By the first word of its letters' names in Unicode; languages that are not here use Latin.
_SCRIPTS = {
    "ARABIC": "ar ary arz fa ku ps sd sdh ug ur",
    "ARMENIAN": "hy",
    "BENGALI": "as bn",
    "CJK": "ja ko wuu yue zh",
    "CYRILLIC": "az ba be bg kk ky mk mn ru sr tg tk tt uk uz",
    "DEVANAGARI": "gom hi mr ne sa",
    "ETHIOPIC": "am ti",
    "GEORGIAN": "ka",
    "GREEK": "el grc",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "hbo he yi",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "KHMER": "km",
    "LAO": "lo",
    "LATIN": "az kk ku sr tk uz",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "TIBETAN": "bo dz",
}
_BY_SCRIPT = {script: frozenset(languages.split()) for script, languages in _SCRIPTS.items()}


@lru_cache(maxsize=4)
def other_languages(languages: tuple[str, ...]) -> IsOther | None:
    """What tells whether a text is in none of these languages; takes a second.

    It may be asked from several threads.

    Args:
        languages: as ISO 639 has them, such as "en".

    Returns:
        None where nothing can be told: there are none, or one is unknown to py3langid.
    """
    if not languages:
        return None
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    whole = LanguageIdentifier.from_model_file(MODEL_FILE)
    if not set(languages) <= set(whole.labels):
        return None
    whole.set_languages(_CANDIDATES.union(languages))
    identifier = LanguageIdentifier(  # without what the whole keeps of all other languages, 30 MB
        whole.nb_ptc,
        whole.nb_pc,
        whole.nb_classes,
        whole.tk_nextmove,
        whole.tk_output,
        norm_probs=True,
        tk_row=whole.tk_row,
    )
    scripts = frozenset(script for language in languages for script in _scripts_of(language))

    def is_other(text: str) -> bool:
        text = normalize("NFKC", text[:_CHARACTERS])
        return _is_in_other_letters(text, scripts) or _is_in_other_words(
            text, languages, identifier
        )

    return is_other


def _is_in_other_letters(text: str, scripts: frozenset[str]) -> bool:
    """Whether most letters are of other scripts; in emoticons, single letters of any script are."""
    if text.isascii() and "LATIN" in scripts:
        return False
    found = [_script(character) for character in text if category(character)[0] != "M"]
    letters = [script for script in found if script is not None]
    others = sum(script not in scripts for script in letters)
    together = any(one == two and one not in {None, *scripts} for one, two in pairwise(found))
    return together and 2 * others > len(letters)


def _is_in_other_words(
    text: str, languages: tuple[str, ...], identifier: "LanguageIdentifier"
) -> bool:
    words = {word.casefold() for word in _WORD.findall(text) if len(word) > 1}
    if len(words) < _LEAST_WORDS:
        return False
    probabilities: dict[str, float] = dict(identifier.rank(text))
    return sum(probabilities[language] for language in languages) < _LEAST_PROBABILITY


@lru_cache(maxsize=4096)
def _script(character: str) -> str | None:
    return name(character, "?").split()[0] if character.isalpha() else None


def _scripts_of(language: str) -> frozenset[str]:
    found = frozenset(script for script, used_by in _BY_SCRIPT.items() if language in used_by)
    return found or frozenset({"LATIN"})
