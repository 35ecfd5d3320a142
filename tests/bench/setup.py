"""What a run measures, as every process of it reads it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from service.conversation.labels import LabelSpace, load_label_spaces
from service.decoding.bundle import Bundle, load_bundle
from service.settings import load_settings
from tests.bench.passes import Passes, passes_of_file, synthetic_passes

_FILE = "setup.json"
_LABEL_SPACE = "meld"


@dataclass(frozen=True, slots=True)
class Setup:
    """One run.

    Attributes:
        bundle: folder of the model.
        folder: for what the run's processes leave to each other; deleted after the run.
        dialogues: a file of them in place of the synthetic ones.
        quick: less of everything, for a first look.
    """

    bundle: str
    folder: str
    dialogues: str | None = None
    quick: bool = False

    @property
    def published_passes(self) -> range:
        """The passes that the ways of before get."""
        return range(1, 2 if self.quick else 3)

    @property
    def measured_passes(self) -> range:
        """The passes that are asked as fast as possible."""
        return range(1, 2 if self.quick else 5)

    @property
    def ramp_s(self) -> float:
        """Seconds until conversations that begin together are spread over their dialogues."""
        return 2.0 if self.quick else 5.0

    @property
    def closed_s(self) -> float:
        """Seconds that a closed loop is measured for."""
        return 4.0 if self.quick else 12.0

    @property
    def open_s(self) -> float:
        """Seconds that each rate of the open loop is measured for."""
        return 3.0 if self.quick else 8.0

    @property
    def passes(self) -> Passes:
        if self.dialogues is not None:
            return passes_of_file(Path(self.dialogues))
        return synthetic_passes(load_settings().demonstrations_file)

    def prompts_file(self, demonstrations: bool) -> Path:
        """Where the prompts of the service lie, once they are recorded."""
        return Path(self.folder) / f"prompts-{'with' if demonstrations else 'without'}.json"

    def load_bundle(self) -> tuple[Bundle, LabelSpace]:
        """The bundle, and the label space that is asked for: MELD's, or the bundle's first.

        Raises:
            BundleError: the service could not serve the bundle either.
        """
        spaces = load_label_spaces(load_settings().data / "label_spaces")
        bundle = load_bundle(Path(self.bundle), spaces)
        known = bundle.label_spaces
        return bundle, spaces[_LABEL_SPACE if _LABEL_SPACE in known else next(iter(known))]


def write_setup(setup: Setup) -> None:
    """Leave a setup to the processes of its rows."""
    (Path(setup.folder) / _FILE).write_text(json.dumps(asdict(setup)))


def read_setup(folder: Path) -> Setup:
    """The setup that was left in a folder."""
    return Setup(**json.loads((folder / _FILE).read_text()))
