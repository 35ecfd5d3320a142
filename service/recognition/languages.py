"""Detection of utterances in languages that the model was not trained on.

The criteria are the script of a text's letters and, if the model reads that script, py3langid's
probability that the words are in one of the model's languages. Short lines are not judged, as
`Ciao!` and `Voila` occur in English too.

In the development splits of MELD, EmoryNLP and GoEmotions, which are English, 0 of 7,489 lines are
classified as another language; of 168 sentences of at least five words in eight other languages
with Latin letters, all are (`tests/recognition/test_languages.py`).
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

# Characters of a text that are examined; 0.1 ms.
_CHARACTERS = 500

# A text with fewer distinct words is not judged; "La la la la" has one.
_LEAST_WORDS = 4
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

# A text is in another language if the probability of the model's languages is below this.
_LEAST_PROBABILITY = 0.02

# Candidates besides the model's languages. Rare languages are excluded: each adds false positives,
# and a text in one of them resembles a related language in this list.
_CANDIDATES = frozenset(
    "ca cs da de en es fi fr hu id it nl no pl pt ro sv tr vi".split()  # noqa: SIM905, as below
)

# By the first word of the letters' Unicode names; languages that are not listed use Latin.
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
    """Build a predicate of texts that are in none of these languages; takes a second.

    The predicate is thread-safe.

    Args:
        languages: codes of ISO 639, such as "en".

    Returns:
        None if no language is given, or py3langid does not know one.
    """
    if not languages:
        return None
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    full = LanguageIdentifier.from_model_file(MODEL_FILE)
    if not set(languages) <= set(full.labels):
        return None
    full.set_languages(_CANDIDATES.union(languages))
    identifier = LanguageIdentifier(  # without what the whole keeps of all other languages, 30 MB
        full.nb_ptc,
        full.nb_pc,
        full.nb_classes,
        full.tk_nextmove,
        full.tk_output,
        norm_probs=True,
        tk_row=full.tk_row,
    )
    scripts = frozenset(script for language in languages for script in _scripts_of(language))

    def is_other(text: str) -> bool:
        text = normalize("NFKC", text[:_CHARACTERS])
        return _is_in_other_letters(text, scripts) or _is_in_other_words(
            text, languages, identifier
        )

    return is_other


def _is_in_other_letters(text: str, scripts: frozenset[str]) -> bool:
    """Whether most letters, two of them adjacent, are in another script.

    Single letters of any script occur in emoticons.
    """
    if text.isascii() and "LATIN" in scripts:
        return False
    found_scripts = [_script(character) for character in text if category(character)[0] != "M"]
    letters = [script for script in found_scripts if script is not None]
    others = sum(script not in scripts for script in letters)
    adjacent = any(
        script == following and script not in {None, *scripts}
        for script, following in pairwise(found_scripts)
    )
    return adjacent and 2 * others > len(letters)


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
    scripts = frozenset(script for script, used_by in _BY_SCRIPT.items() if language in used_by)
    return scripts or frozenset({"LATIN"})
