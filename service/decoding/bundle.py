"""The model bundle: weights, prompt, label spaces and calibration that belong together.

Training writes the folder and the service loads it: Hugging Face weights (safetensors only), their
tokenizer, and `bundle.json`, which this module defines.
"""

from collections.abc import Collection, Mapping
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

from service.conversation.calibration import (
    BiasCorrected,
    Calibration,
    Isotonic,
    Temperature,
    check_curve,
)
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
TRAINING = "training.json"  # a run's record, beside the weights that it trained

_MERGE = "`instructerc-train merge ADAPTER --base BASE --out BUNDLE`"

# The most knots of a label's curve in a bundle; training thins out longer ones.
MOST_KNOTS = 128

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# A code of ISO 639, two letters or three.
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]

Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Curve = Annotated[
    tuple[tuple[Share, Share], ...], Field(max_length=MOST_KNOTS), AfterValidator(check_curve)
]


class BundleError(ModelFolderError):
    """This service cannot serve the bundle; the message names the file and the reason."""


class Part(BaseModel):
    """Part of a bundle's description; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Base(Part):
    """The model that was fine-tuned."""

    name: str
    revision: str  # a hub commit, or "sha256:" and the hash of its weights


class Window(Part):
    """A history window; see `service.conversation.dialogue.HistoryWindow`."""

    lowest: Annotated[int, Field(ge=0)]
    highest: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def is_possible(self) -> Self:
        HistoryWindow(self.lowest, self.highest)
        return self


class TrustOfCorrections(Part):
    """How far corrections are trusted; see `service.conversation.neighbours.Trust`.

    The values depend on the encoder, not on the model. The defaults are those that
    `instructerc-train trust` finds on the training split of MELD.
    """

    bias: Finite = -16.1
    line: Annotated[Finite, Field(gt=0)] = 9.9
    context: Annotated[Finite, Field(ge=0)] = 10.6
    verbatim: Annotated[Finite, Field(ge=0)] = 34.0


class Calibrated(Part):
    """A calibration, fitted on the development split, and the scores that it has there.

    The calibration is a temperature, one with a bias for each label, or a curve for each label.

    Attributes:
        temperature, biases, isotonic: see `service.conversation.calibration`; biases (nats) and
            curves by label name.
        development: scores on the development split, as `instructerc-train evaluate` prints them.
    """

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    biases: dict[str, Finite] | None = None
    isotonic: dict[str, Curve] | None = None
    development: dict[str, float] = {}

    @model_validator(mode="after")
    def is_calibrated_in_one_way(self) -> Self:
        if self.isotonic is not None and (self.temperature != 1 or self.biases is not None):
            raise ValueError("has a temperature or biases and isotonic curves; keep one of the two")
        return self

    def check_labels(self, labels: Collection[str]) -> None:
        """Check that biases or curves are those of these labels.

        Raises:
            ValueError: one is missing, or there is one of another label.
        """
        if self.isotonic is not None and self.isotonic.keys() != set(labels):
            raise ValueError("needs an isotonic curve for each label, and for nothing else")
        if self.biases is not None and self.biases.keys() != set(labels):
            raise ValueError("needs a bias for each label, and for nothing else")

    def calibration_of(self, labels: Collection[str]) -> Calibration:
        """The calibration of scores in the order of `labels`."""
        if self.isotonic is not None:
            return Isotonic(tuple(self.isotonic[name] for name in labels))
        temperature = Temperature(self.temperature)
        if self.biases is None:
            return temperature
        return BiasCorrected(temperature, tuple(self.biases[name] for name in labels))

    def calibrated_by(self, calibration: Calibration, labels: Collection[str]) -> Self:
        """Return a copy with another calibration, of scores in the order of `labels`."""
        changes: dict[str, object] = {"temperature": 1.0, "biases": None, "isotonic": None}
        match calibration:
            case Temperature():
                changes["temperature"] = calibration.value
            case BiasCorrected():
                changes["temperature"] = calibration.temperature.value
                changes["biases"] = dict(zip(labels, calibration.biases, strict=True))
            case Isotonic():
                changes["isotonic"] = dict(zip(labels, calibration.curves, strict=True))
        return self.model_validate(self.model_dump() | changes)


class TrainedLabels(Calibrated):
    """A label space as the model was trained on it, with the calibration of its predictions.

    Attributes:
        verbalizers: by label name, in the order prompts list them.
        forecasts: the calibration of forecasts; None if they are not calibrated.
        trained: each label's share of the utterances that trained the label space; empty if
            unknown.
        predicted: each label's share of the predictions on the development split, the reference
            for live ones; empty if not measured.
    """

    verbalizers: dict[str, str]
    forecasts: Calibrated | None = None
    trained: dict[str, Share] = {}
    predicted: dict[str, Share] = {}

    @model_validator(mode="after")
    def calibrations_are_of_its_labels(self) -> Self:
        self.check_labels(self.verbalizers)
        if self.forecasts is not None:
            self.forecasts.check_labels(self.verbalizers)
        return self

    @model_validator(mode="after")
    def expects_each_label(self) -> Self:
        for kind, shares in (("predicted", self.predicted), ("trained", self.trained)):
            if shares and shares.keys() != self.verbalizers.keys():
                raise ValueError(f"needs the {kind} share of each label, and of nothing else")
            if shares and not isclose(sum(shares.values()), 1, abs_tol=0.001):
                raise ValueError(f"needs {kind} shares that sum to 1")
        return self

    def calibration(self, task: Task = "main") -> Calibration:
        """The calibration of a task's predictions."""
        if task == "main":
            return self.calibration_of(self.verbalizers)
        return (self.forecasts or Calibrated()).calibration_of(self.verbalizers)

    def calibrated(self, calibration: Calibration, task: Task = "main") -> Self:
        """Return a copy with another calibration of a task's predictions."""
        if task == "main":
            return self.calibrated_by(calibration, self.verbalizers)
        forecasts = (self.forecasts or Calibrated()).calibrated_by(calibration, self.verbalizers)
        return self.model_copy(update={"forecasts": forecasts})


class Fingerprint(Part):
    """How the merged weights read one prompt, by which a server of them is known.

    `service.decoding.fingerprint` says which prompt.

    Attributes:
        question: sha256 of the prompt and the candidates, as token ids.
        log_probabilities: the candidates', computed in float32.
    """

    question: Sha256
    log_probabilities: Annotated[tuple[Finite, ...], Field(min_length=1)]


class Bundle(Part):
    """`bundle.json`.

    Attributes:
        tasks: those the model was trained on; "main" is always one of them.
        max_tokens: the longest prompt, in tokens, including the one token that follows it.
        demonstrations: the number that a prompt shows.
        languages: those of the training text; empty if unknown.
        encoder: identity of the encoder that selected the demonstrations in training.
        corrections: how far corrections of similar utterances are trusted.
        data: sha256 of each training file, by its path in the data folder.
        fingerprint: None before the merge.
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
    fingerprint: Fingerprint | None = None

    @field_validator("tasks")
    @classmethod
    def main_is_among_them(cls, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        if "main" not in tasks or len(set(tasks)) < len(tasks):
            raise ValueError(f"need 'main', and each task once, got {list(tasks)}")
        return tasks

    @model_validator(mode="after")
    def a_prediction_has_history(self) -> Self:
        if "prediction" in self.tasks and not self.window.lowest:
            raise ValueError("the task prediction needs a window.lowest of at least 1")
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
    """A bundle's entry for the label space, without calibration."""
    return TrainedLabels(verbalizers={label.name: label.verbalizer for label in label_space.labels})


def read_bundle(folder: Path) -> Bundle:
    """Read `bundle.json`.

    Raises:
        BundleError: there is no such file, or it is not a bundle description of this format.
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
    """Write `bundle.json` atomically."""
    with written_whole(folder / FILE) as file:
        file.write(bundle.model_dump_json(indent=2, exclude_none=True) + "\n")


def load_bundle(
    folder: Path,
    label_spaces: Mapping[str, LabelSpace],
    *,
    model: bool = True,
    weights: bool = True,
) -> Bundle:
    """Read a bundle and check that this service can serve it, without reading its weights.

    Args:
        model: whether a model is in the folder; servers may have it instead.
        weights: whether its weights are in the folder, too; a store may have them instead.

    Raises:
        BundleError: there is no bundle, its template or a label space is unknown, the template
            lacks a task, or a label space was trained with other labels or verbalizers than the
            service's.
        ModelFolderError: a file of the model is missing, broken or of an unsupported kind.
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
        expected = trained_labels(space).verbalizers
        if list(trained.verbalizers.items()) != list(expected.items()):
            raise BundleError(
                f"{path}: label space {name!r} was trained with {trained.verbalizers}, but the "
                f"service has {expected}"
            )
    if model:
        look_at_model(folder, weights=weights)
    return bundle


def look_at_model(folder: Path, *, weights: bool = True) -> ModelFolder:
    """Check the files of a bundle's model.

    Args:
        weights: whether they are in the folder, too.

    Raises:
        ModelFolderError: a file is missing or broken, the model is not a causal language model, or
            its output layer is quantised.
    """
    model = look_at(folder, weights=weights)
    if (head := model.quantised_head) is not None:
        raise BundleError(
            f"{folder}: {head}: the output layer is quantised, and labels differ by less than it "
            "resolves",
            "quantise the model again without it, as most tools do (`ignore` or "
            "`modules_to_not_convert`: lm_head)",
        )
    if not model.config.get("architectures"):
        raise BundleError(
            f"{folder / CONFIG}: has no architectures, from which vLLM recognizes the model",
            f"merge it again: {_MERGE}",
        )
    return model


def _check_merged(folder: Path) -> None:
    """Check that a folder is the output of a merge, not one of its inputs.

    Raises:
        BundleError: it is an adapter or a base.
    """
    check_folder(folder, f"name the folder of a bundle, which this command writes: {_MERGE}")
    names = {path.name for path in folder.iterdir()}
    of_training = ADAPTER_CONFIG in names and CONFIG not in names
    if of_training or (TRAINING in names and not has_tokenizer(folder)):
        kind = "an adapter" if ADAPTER_CONFIG in names else "a trained model"
        raise BundleError(
            f"{folder}: is {kind} that is not yet merged into its base",
            f"merge it (`instructerc-train merge {folder} --base BASE --out BUNDLE`) and name the "
            "bundle instead (ERC_BUNDLE)",
        )
    if CONFIG in names and FILE not in names:
        raise BundleError(
            f"{folder}: is a model without {FILE}, so it is not a bundle",
            "train it (`instructerc-train train`) and name the folder that this command writes: "
            f"{_MERGE}",
        )
