"""Files of demonstrations made of corpora, in the service's own format.

What InstructERC calls its domain base: utterances of the training set, without their speakers, as
many of each label (arXiv 2309.11911, section 3.1).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from service.conversation.dialogue import Demonstration
from service.conversation.labels import LabelSpace
from service.json_lines import line_of, write_json_lines
from service.outputs import check_file
from training.datasets.reading import Corpus
from training.datasets.relabelling import in_label_space
from training.mixture.pairing import drawn


def domain_base(
    corpora: Sequence[Corpus],
    label_spaces: Iterable[LabelSpace],
    seed: int,
    *,
    balanced: bool = True,
) -> list[Demonstration]:
    """What training's pool of the corpora holds in each label space that they have labels in.

    Args:
        seed: draws which utterances of the more frequent labels are left out.
        balanced: as many of each label as the rarest has.

    Returns:
        Demonstrations with ids such as "meld-joy-0001".
    """
    made = []
    for space in label_spaces:
        dialogues = [d for corpus in corpora for d in in_label_space(corpus, space)]
        counts: Counter[str] = Counter()
        for shown, _ in drawn(dialogues, space, seed, balanced=balanced):
            label = space.label(shown.label).name
            counts[label] += 1
            name = f"{space.name}-{label}-{counts[label]:04}"
            made.append(Demonstration(name, space.name, label, shown.text))
    return made


def write_demonstrations(demonstrations: Iterable[Demonstration], path: Path) -> None:
    """Write a file that `service.demonstrations.corpus.read_demonstrations` reads."""
    write_json_lines(map(asdict, demonstrations), path)


def keep_demonstrations(demonstrations: Sequence[Demonstration], path: Path) -> None:
    """Write such a file, if these are not what it holds already.

    Raises:
        OutputError: it exists with other contents.
    """
    text = "".join(line_of(asdict(demonstration)) for demonstration in demonstrations)
    if not path.is_file() or path.read_bytes() != text.encode():
        check_file(path, force=None)
        write_demonstrations(demonstrations, path)
