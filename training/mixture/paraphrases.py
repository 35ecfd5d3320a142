"""Light paraphrases of a line by rule: the same words said in another dress.

They are those that a speech recogniser or another typist would make of the line: contractions
undone or done, other punctuation, another case, a filler in front.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

# Irregular ones first: the rules for endings would make nonsense of them.
_WHOLE: Mapping[str, str] = MappingProxyType(
    {
        "won't": "will not",
        "can't": "cannot",
        "shan't": "shall not",
        "let's": "let us",
        "y'all": "you all",
        "c'mon": "come on",
        "gonna": "going to",
        "wanna": "want to",
        "gotta": "got to",
    }
)
_SUBJECTS = "i|you|he|she|it|we|they|that|this|there|here|who|what|where|how"
# An 's after any other word may be a genitive, and a 'd stands for "had" as well as for "would".
_IS = "he|she|it|that|this|there|here|who|what|where|how"
_VERBS = "is|are|was|were|do|does|did|have|has|had|would|could|should|must|need"
_UNDONE: Sequence[tuple[str, str]] = (
    (rf"\b({_VERBS})n't\b", r"\1 not"),
    (r"\b(i)'m\b", r"\1 am"),
    (rf"\b({_SUBJECTS})'re\b", r"\1 are"),
    (rf"\b({_SUBJECTS})'ve\b", r"\1 have"),
    (rf"\b({_SUBJECTS})'ll\b", r"\1 will"),
    (rf"\b({_IS})'s\b", r"\1 is"),
)
_DONE: Sequence[tuple[str, str]] = (
    (rf"\b({_VERBS}) not\b", r"\1n't"),
    (r"\bcannot\b", "can't"),
    (r"\bwill not\b", "won't"),
    (r"\b(i) am\b(?=\s+\w)", r"\1'm"),
    (r"\b(you|we|they) are\b(?=\s+\w)", r"\1're"),
    (r"\b(i|you|we|they) have\b(?=\s+(?:been|had|got|seen|done|never)\b)", r"\1've"),
    (r"\b(i|you|he|she|it|we|they) will\b(?=\s+\w)", r"\1'll"),
    (r"\b(he|she|it|that|there) is\b(?=\s+\w)", r"\1's"),
)
_FILLERS = ("Well, ", "Oh, ", "So, ", "You know, ", "Okay, ", "Um, ")
_END = re.compile(r"[.!?…,;:\s-]+\Z")


@dataclass(frozen=True, slots=True)
class Paraphrase:
    """A line said again, and by which rule."""

    kind: str
    text: str


def paraphrases(line: str, number: int = 0) -> Iterator[Paraphrase]:
    """A paraphrase of each kind whose rule changes the line.

    Args:
        number: which filler and which ending are taken, where there are several.
    """
    plain = " ".join(line.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())
    for kind, rule in _RULES.items():
        text = rule(plain, number)
        if text != plain:
            yield Paraphrase(kind, text)


def undone(line: str) -> str:
    """Contractions written out, as far as there is one reading of them."""
    for short, long in _WHOLE.items():
        line = _replaced(rf"\b{short}\b", long, line)
    for pattern, long in _UNDONE:
        line = _replaced(pattern, long, line)
    return line


def done(line: str) -> str:
    """Words contracted that people contract when they speak."""
    for pattern, short in _DONE:
        line = _replaced(pattern, short, line)
    return line


def repunctuated(line: str, number: int = 0) -> str:
    """Commas and dashes left out, and another end."""
    inner = re.sub(r"\s+", " ", re.sub(r"[,;:…]|\.{2,}|--+| - ", " ", _END.sub("", line))).strip()
    old = line.rstrip()[-1:]
    ends = [end for end in ("?", "??") if old == "?"] or [".", "!", "..."]
    others = [end for end in ends if end != old or line.rstrip().endswith(end * 2)]
    return inner + others[number % len(others)]


def with_filler(line: str, number: int = 0) -> str:
    """A filler in front; the line's first word loses its capital where it is no name or "I"."""
    first, space, rest = line.partition(" ")
    word = re.match(r"[A-Za-z]+", first)
    lowered = word is not None and word[0].lower() in _LOWERED
    opening = first[:1].lower() + first[1:] if lowered else first
    return _FILLERS[number % len(_FILLERS)] + opening + space + rest


def _contractions(line: str, _: int) -> str:
    changed = undone(line)
    return changed if changed != line else done(line)


def _mixed(line: str, number: int) -> str:
    return with_filler(repunctuated(_contractions(line, number), number), number + 1)


_RULES: Mapping[str, Callable[[str, int], str]] = MappingProxyType(
    {
        "contractions": _contractions,
        "punctuation": repunctuated,
        "lower case, bare": lambda line, _: (
            re.sub(r"\s+", " ", re.sub(r"[^\w\s']", " ", line)).strip().lower()
        ),
        "upper case": lambda line, _: line.upper(),
        "filler": with_filler,
        "all together": _mixed,
    }
)
KINDS = tuple(_RULES)

# Words that open a sentence and are no names.
_OPENERS = """
a all an and any are because but can come could did do does don for get give go good had has have
he her here hey his how if in is isn it just let look maybe my no nobody not nothing now of oh
okay on one or our please she so some sorry thank that the their then there these they this those
to tell wait was we well were what when where which who why will with would yeah yes you your
"""
_LOWERED = frozenset(_OPENERS.split())


def _replaced(pattern: str, by: str, line: str) -> str:
    """Every match replaced; what began with a capital goes on doing so."""

    def one(match: re.Match[str]) -> str:
        made = match.expand(by)
        return made[:1].upper() + made[1:] if match[0][:1].isupper() else made

    return re.sub(pattern, one, line, flags=re.IGNORECASE)
