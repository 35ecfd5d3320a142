"""The model bundle: which weights, prompt, label spaces and calibration belong together.

A folder that training writes and the service loads: Hugging Face weights (safetensors only), their
tokenizer, and `bundle.json`, which this module defines.
"""

from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from service.conversation.calibration import Calibration, Isotonic, Temperature, check_curve
from service.conversation.dialogue import HistoryWindow
from service.conversation.labels import LabelSpace
from service.conversation.neighbours import Trust
from service.conversation.prompts import TEMPLATES, PredictionTemplate, Task, Template
from service.decoding.model_files import ModelFolderError, check_file
from service.decoding.model_folder import (
    ADAPTER_CONFIG,
    CONFIG,
    ModelFolder,
    check_folder,
    has_tokenizer,
    look_at,
)
from service.failures import fields_at_fault
from service.files import written_whole

FILE = "bundle.json"
TRAINING = "training.json"  # what a run keeps of itself beside the weights it trained

_MERGE = "`instructerc-train merge ADAPTER --base BASE --out BUNDLE`"

# A label's curve in a bundle has no more knots than this; training leaves out what is beyond.
MOST_KNOTS = 128

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# As ISO 639 has it, two letters or three.
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]

Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Curve = Annotated[
    tuple[tuple[Share, Share], ...], Field(max_length=MOST_KNOTS), AfterValidator(check_curve)
]


class BundleError(ModelFolderError):
    """A bundle that this service cannot serve; the message names the file and says why."""


class Part(BaseModel):
    """Part of a bundle's description; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Base(Part):
    """The model that was fine-tuned."""

    name: str
    revision: str  # a hub commit, or "sha256:" and the hash of its weights


class Window(Part):
    """A history window, as `service.conversation.dialogue.HistoryWindow` has it."""

    lowest: Annotated[int, Field(ge=0)]
    highest: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def is_possible(self) -> Self:
        HistoryWindow(self.lowest, self.highest)
        return self


class TrustOfCorrections(Part):
    """How far corrections are trusted, as `service.conversation.neighbours.Trust` has it.

    They depend on the encoder, not on the model: a bundle that says nothing takes these, of
    `instructerc-train trust` on the training split of MELD.
    """

    bias: Finite = -16.1
    line: Annotated[Finite, Field(gt=0)] = 9.9
    context: Annotated[Finite, Field(ge=0)] = 10.6
    verbatim: Annotated[Finite, Field(ge=0)] = 34.0


class TrainedLabels(Part):
    """A label space as the model was trained on it.

    Its calibration, fitted on the development split, is a temperature or a curve for each label.

    Attributes:
        verbalizers: by label name, in the order prompts list them.
        temperature, isotonic: see `service.conversation.calibration`; curves by label name.
        development: scores on the development split, as `instructerc-train evaluate` printed them.
        predicted: each label's share of the predictions there, which live ones are compared with;
            empty where nobody has measured it.
    """

    verbalizers: dict[str, str]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    isotonic: dict[str, Curve] | None = None
    development: dict[str, float] = {}
    predicted: dict[str, Share] = {}

    @model_validator(mode="after")
    def is_calibrated_in_one_way(self) -> Self:
        if self.isotonic is not None:
            if self.temperature != 1:
                raise ValueError("holds a temperature and isotonic curves; it may have one of them")
            if self.isotonic.keys() != self.verbalizers.keys():
                raise ValueError("needs an isotonic curve for each label, and no other")
        return self

    @model_validator(mode="after")
    def expects_each_label(self) -> Self:
        if self.predicted and self.predicted.keys() != self.verbalizers.keys():
            raise ValueError("needs the predicted share of each label, and of no other")
        if self.predicted and not isclose(sum(self.predicted.values()), 1, abs_tol=0.001):
            raise ValueError("needs predicted shares that sum to 1")
        return self

    @property
    def calibration(self) -> Calibration:
        if self.isotonic is None:
            return Temperature(self.temperature)
        return Isotonic(tuple(self.isotonic[name] for name in self.verbalizers))

    def calibrated(self, calibration: Calibration) -> Self:
        """The same label space with another calibration in place of its own."""
        changes: dict[str, object] = {"temperature": 1.0, "isotonic": None}
        if isinstance(calibration, Temperature):
            changes["temperature"] = calibration.value
        else:
            changes["isotonic"] = dict(zip(self.verbalizers, calibration.curves, strict=True))
        return self.model_validate(self.model_dump() | changes)


class Bundle(Part):
    """`bundle.json`.

    Attributes:
        tasks: those the model was trained on; "main" is always one of them.
        max_tokens: the longest prompt, in tokens, with the one token that is read after it.
        demonstrations: how many a prompt shows.
        languages: those of the text it was trained on; empty where nobody has said.
        encoder: identity of the encoder that chose the demonstrations in training.
        corrections: how much of an answer is people's corrections of like utterances.
        data: sha256 of each training file, by its path in the data folder.
    """

    format: Literal[1]
    name: str
    version: str
    base: Base
    template: str
    tasks: tuple[Task, ...] = ("main",)
    window: Window
    max_tokens: Annotated[int, Field(gt=0)]
    demonstrations: Annotated[int, Field(ge=0)]
    languages: tuple[Language, ...] = ()
    label_spaces: Annotated[dict[str, TrainedLabels], Field(min_length=1)]
    encoder: str
    corrections: TrustOfCorrections = TrustOfCorrections()
    data: dict[str, Sha256]
    code_version: str

    @field_validator("tasks")
    @classmethod
    def main_is_among_them(cls, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        if "main" not in tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f"need 'main', and each task once, got {list(tasks)}")
        return tasks

    @model_validator(mode="after")
    def a_prediction_has_history(self) -> Self:
        if "prediction" in self.tasks and not self.window.lowest:
            raise ValueError("the task prediction needs window.lowest of 1 line or more")
        return self

    @property
    def prompt_template(self) -> Template:
        return TEMPLATES[self.template]

    @property
    def trust(self) -> Trust:
        return Trust(**self.corrections.model_dump())

    @property
    def history_window(self) -> HistoryWindow:
        return HistoryWindow(self.window.lowest, self.window.highest)


def trained_labels(label_space: LabelSpace) -> TrainedLabels:
    """The label space as a bundle records it, not yet calibrated."""
    return TrainedLabels(verbalizers={label.name: label.verbalizer for label in label_space.labels})


def read_bundle(folder: Path) -> Bundle:
    """Read `bundle.json`.

    Raises:
        BundleError: no such file, or not a bundle description of this format.
    """
    path = folder / FILE
    try:
        check_file(path)
        return Bundle.model_validate_json(path.read_bytes())
    except ModelFolderError as error:
        raise BundleError(error.problem, error.remedy) from None
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        raise BundleError(f"{path}: {fields_at_fault(error, 'file')}") from None


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Write `bundle.json`, whole."""
    with written_whole(folder / FILE) as file:
        file.write(bundle.model_dump_json(indent=2, exclude_none=True) + "\n")


def load_bundle(folder: Path, label_spaces: Mapping[str, LabelSpace]) -> Bundle:
    """Read a bundle and check that this service can serve it; its weights are not read.

    Raises:
        BundleError: no bundle, an unknown template or label space, a task that the template does
            not have, or a label space trained with other labels or verbalizers than the service
            has.
        ModelFolderError: a file of the model is missing or broken, or none that is served.
    """
    _check_merged(folder)
    bundle, path = read_bundle(folder), folder / FILE
    if bundle.template not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise BundleError(f"{path}: template {bundle.template!r} is not one of {known}")
    if "prediction" in bundle.tasks and not isinstance(bundle.prompt_template, PredictionTemplate):
        raise BundleError(f"{path}: template {bundle.template!r} has no prediction task")
    for name, trained in bundle.label_spaces.items():
        space = label_spaces.get(name)
        if space is None:
            known = ", ".join(label_spaces)
            raise BundleError(f"{path}: label space {name!r} is not one of {known}")
        ours = trained_labels(space).verbalizers
        if list(trained.verbalizers.items()) != list(ours.items()):
            raise BundleError(
                f"{path}: label space {name!r} was trained with {trained.verbalizers}, "
                f"the service has {ours}"
            )
    look_at_model(folder)
    return bundle


def look_at_model(folder: Path) -> ModelFolder:
    """Look at the files that a bundle's model is in.

    Raises:
        ModelFolderError: a file is missing or broken, or the model is of another kind.
    """
    found = look_at(folder)
    if not found.config.get("architectures"):
        raise BundleError(
            f"{folder / CONFIG}: names no architectures, by which vLLM knows the model",
            f"merge it again: {_MERGE}",
        )
    return found


def _check_merged(folder: Path) -> None:
    """See that a folder is what a merge writes, rather than what goes into one.

    Raises:
        BundleError: it is an adapter, or a base.
    """
    check_folder(folder, f"name the folder of a bundle, which this writes: {_MERGE}")
    there = {path.name for path in folder.iterdir()}
    of_training = ADAPTER_CONFIG in there and CONFIG not in there
    if of_training or (TRAINING in there and not has_tokenizer(folder)):
        what = "an adapter" if ADAPTER_CONFIG in there else "a trained model"
        raise BundleError(
            f"{folder}: is {what} that has yet to be merged into its base",
            f"merge it (`instructerc-train merge {folder} --base BASE --out BUNDLE`) and name the "
            "bundle in its place (ERC_BUNDLE)",
        )
    if CONFIG in there and FILE not in there:
        raise BundleError(
            f"{folder}: is a model without {FILE}, so no bundle",
            f"train it (`instructerc-train train`) and name what this writes: {_MERGE}",
        )
