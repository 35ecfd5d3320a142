"""The files and models that a training run reads besides its recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.conversation.dialogue import Demonstration
from service.conversation.labels import LabelSpace
from training.datasets.reading import Corpus, check_there, read_corpus
from training.mixture.pairing import EncodeTexts
from training.recipe import CorpusFile


@dataclass(frozen=True, slots=True)
class Sources:
    """The files and models that a run reads besides its recipe.

    Attributes:
        data: the folder that corpus paths are relative to.
        shipped: the demonstrations that the service ships with.
        encoder: identity of the encoder behind `encode_texts`.
        teacher: the bundle of the trained model that labels corpora, if a stage asks for one.
    """

    data: Path
    label_spaces: Mapping[str, LabelSpace]
    shipped: Sequence[Demonstration]
    encode_texts: EncodeTexts
    encoder: str
    teacher: Path | None = None

    def check_there(self, files: Sequence[CorpusFile]) -> None:
        """Check that corpus files can be read, before the first one is.

        Raises:
            DatasetError: some cannot; the message names them all.
        """
        check_there(self.data / file.path for file in files)

    def corpora(self, files: Sequence[CorpusFile]) -> list[Corpus]:
        """Read corpus files.

        Raises:
            DatasetError: a file is not what its entry says.
        """
        return [
            read_corpus(f.format, self.data / f.path, self.label_spaces, f.label_space)
            for f in files
        ]
