"""What the service accepts as a model bundle."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.conversation.calibration import BiasCorrected, Isotonic, Knot, Temperature
from service.conversation.dialogue import HistoryWindow
from service.conversation.labels import LabelSpace
from service.conversation.prompts.default_v2 import V2
from service.decoding.bundle import (
    FILE,
    Base,
    Bundle,
    BundleError,
    TrainedLabels,
    Window,
    load_bundle,
    read_bundle,
    trained_labels,
    write_bundle,
)
from service.decoding.model_files import ModelFolderError
from tests.broken_folders import put, weights

MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")


@pytest.fixture
def bundle(spaces: Mapping[str, LabelSpace]) -> Bundle:
    return Bundle(
        format=1,
        name="mini",
        version="3",
        base=Base(name="base", revision="sha256:" + "0" * 64),
        template="v2",
        window=Window(lowest=12, highest=20),
        max_tokens=512,
        demonstrations=2,
        label_spaces={
            "meld": TrainedLabels(
                verbalizers=trained_labels(spaces["meld"]).verbalizers,
                temperature=1.25,
                development={"weighted_f1": 55.5},
            ),
            "unified": trained_labels(spaces["unified"]),
        },
        encoder="encoder@1",
        data={"meld/train.csv": "a" * 64},
        code_version="0.1.0",
    )


@pytest.fixture
def folder(bundle: Bundle, tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A folder that the service would serve."""
    write_bundle(bundle, tmp_path)
    for path in tokenizer_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    put("config.json", '{"architectures": ["OPTForCausalLM"]}')(tmp_path)
    put("model.safetensors", weights({"weight": (2, 2)}))(tmp_path)
    return tmp_path


def described(folder: Path, **changes: Any) -> None:
    """Change fields of the folder's description; None takes one away."""
    values = json.loads((folder / FILE).read_text()) | changes
    (folder / FILE).write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def test_bundle_is_read_as_it_was_written(
    bundle: Bundle, folder: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """The order of verbalizers too: it is the order prompts list them in."""
    loaded = load_bundle(folder, spaces)

    assert loaded == bundle
    assert list(loaded.label_spaces["meld"].verbalizers.items()) == [
        ("neutral", "neutral"),
        ("surprise", "surprise"),
        ("fear", "fear"),
        ("sadness", "sad"),
        ("joy", "joyful"),
        ("disgust", "disgust"),
        ("anger", "angry"),
    ]


def test_bundle_says_how_prompts_are_made(bundle: Bundle) -> None:
    assert bundle.prompt_template == V2()
    assert bundle.history_window == HistoryWindow(12, 20)


def test_bundle_that_names_no_tasks_has_the_main_one(
    folder: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """As those have that were made before there was another."""
    described(folder, tasks=None)

    assert load_bundle(folder, spaces).tasks == ("main",)


def test_bundle_may_name_the_languages_it_was_trained_on(
    folder: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Those that were made before name none."""
    assert load_bundle(folder, spaces).languages == ()
    described(folder, languages=["en", "de"])
    bundle = load_bundle(folder, spaces)

    write_bundle(bundle, folder)

    assert load_bundle(folder, spaces).languages == bundle.languages == ("en", "de")


def test_bundle_names_the_tasks_it_was_trained_on(
    folder: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Written and read again, too."""
    described(folder, tasks=["main", "prediction"])
    bundle = load_bundle(folder, spaces)

    write_bundle(bundle, folder)

    assert load_bundle(folder, spaces).tasks == bundle.tasks == ("main", "prediction")


def test_label_space_that_was_not_calibrated_has_temperature_1(bundle: Bundle) -> None:
    assert bundle.label_spaces["unified"].temperature == 1.0


SHARES = dict(zip(MELD, (0.5, 0.1, 0.05, 0.1, 0.15, 0.02, 0.08), strict=True))


def test_shares_of_the_labels_are_read_as_they_were_written(bundle: Bundle, folder: Path) -> None:
    """A bundle from before there were any says nothing of them."""
    assert bundle.label_spaces["meld"].predicted == {}
    meld = bundle.label_spaces["meld"].model_copy(update={"predicted": SHARES})
    spaces = {**bundle.label_spaces, "meld": meld}

    write_bundle(bundle.model_copy(update={"label_spaces": spaces}), folder)

    assert read_bundle(folder).label_spaces["meld"].predicted == SHARES


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"joy": 1.0}, "share of each label, and of nothing else"),
        (SHARES | {"joyful": 0.0}, "share of each label, and of nothing else"),
        (SHARES | {"joy": 0.2}, "shares that sum to 1"),
        (SHARES | {"joy": -0.15}, "greater than or equal to 0"),
    ],
)
@pytest.mark.parametrize("kind", ["predicted", "trained"])
def test_shares_that_are_no_distribution_are_refused(
    kind: str, shares: dict[str, float], message: str, bundle: Bundle, folder: Path
) -> None:
    """Answers could not be compared with them, nor calibrations fitted to them."""
    spaces = bundle.model_dump(mode="json")["label_spaces"]
    spaces["meld"][kind] = shares
    described(folder, label_spaces=spaces)

    with pytest.raises(BundleError, match=message):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"template": "v9"},
            "template 'v9' is not one of instructerc-v1, .*v2",
        ),
        (
            {"template": "instructerc-plain-v1", "tasks": ["main", "prediction"]},
            "template 'instructerc-plain-v1' has no prediction task",
        ),
        ({"template": None}, "template: Field required"),
        ({"format": 2}, "format: Input should be 1"),
        ({"formt": 1}, "formt: Extra inputs are not permitted"),
        ({"tasks": []}, "tasks: .*need 'main'"),
        ({"tasks": ["prediction"]}, "tasks: .*need 'main', .* got .'prediction'"),
        ({"tasks": ["main", "main"]}, "tasks: .*need 'main', and each task once"),
        ({"tasks": ["main", "speaker"]}, "tasks.1: Input should be 'main' or 'prediction'"),
        ({"tasks": "main"}, "tasks: Input should be a valid"),
        ({"languages": ["English"]}, "languages.0: .*pattern"),
        (
            {"tasks": ["main", "prediction"], "window": {"lowest": 0, "highest": 4}},
            "file: .*the task prediction needs a window.lowest of at least 1",
        ),
        ({"max_tokens": 0}, "max_tokens: .*greater than 0"),
        ({"window": {"lowest": 1}}, "window.highest: Field required"),
        ({"window": {"lowest": 3, "highest": 2}}, "window: .*lowest <= highest"),
        ({"label_spaces": {}}, "label_spaces: .*at least 1 item"),
        ({"data": {"train.csv": "abc"}}, "data.train.csv: .*pattern"),
        (
            {"label_spaces": {"moods": {"verbalizers": {"up": "up", "down": "down"}}}},
            "label space 'moods' is not one of dailydialog, emorynlp, iemocap, meld",
        ),
        (
            {"label_spaces": {"meld": {"verbalizers": {}, "temperature": 0}}},
            "label_spaces.meld.temperature: .*greater than 0",
        ),
    ],
)
def test_bundle_that_cannot_be_served_is_refused(
    changes: dict[str, Any], message: str, folder: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """The error names the file and the field."""
    described(folder, **changes)

    with pytest.raises(BundleError, match=rf"bundle\.json: {message}"):
        load_bundle(folder, spaces)


def curves(bundle: Bundle, *knots: Knot) -> dict[str, tuple[Knot, ...]]:
    """The same curve for each label of MELD."""
    return dict.fromkeys(bundle.label_spaces["meld"].verbalizers, knots)


def test_label_space_is_calibrated_by_temperature_biases_or_curves(bundle: Bundle) -> None:
    """In the order of its labels, and by one of them at a time."""
    meld = bundle.label_spaces["meld"]
    isotonic = Isotonic(tuple(((0.0, 0.1 * (n + 1)), (1.0, 1.0)) for n in range(7)))

    biased = BiasCorrected(Temperature(0.8), tuple(0.1 * n for n in range(7)))

    changed = meld.calibrated(isotonic)

    assert meld.calibration() == Temperature(1.25)
    assert meld.calibrated(biased).calibration() == biased
    assert meld.calibrated(biased).calibrated(isotonic) == changed
    assert changed.calibration() == isotonic
    assert changed.temperature == 1.0
    assert changed.calibrated(Temperature(1.25)) == meld


def test_forecasts_are_calibrated_apart_from_predictions(bundle: Bundle, folder: Path) -> None:
    """And not at all before a calibration of forecasts was fitted."""
    meld = bundle.label_spaces["meld"]
    biased = BiasCorrected(Temperature(0.8), tuple(0.1 * n for n in range(7)))

    changed = meld.calibrated(biased, "prediction")
    write_bundle(bundle.model_copy(update={"label_spaces": {"meld": changed}}), folder)

    assert meld.calibration("prediction") == Temperature()
    assert changed.calibration("prediction") == biased
    assert changed.calibration() == meld.calibration()
    assert read_bundle(folder).label_spaces["meld"] == changed


def test_curves_are_read_as_they_were_written(bundle: Bundle, folder: Path) -> None:
    """To the last bit, also where the labels stand in another order."""
    meld = TrainedLabels(
        verbalizers=bundle.label_spaces["meld"].verbalizers,
        isotonic=dict(reversed(curves(bundle, (0.1, 1 / 3), (2 / 3, 0.9)).items())),
    )
    write_bundle(bundle.model_copy(update={"label_spaces": {"meld": meld}}), folder)

    assert read_bundle(folder).label_spaces["meld"] == meld
    assert meld.calibration() == Isotonic((((0.1, 1 / 3), (2 / 3, 0.9)),) * 7)


def test_biases_are_read_as_they_were_written(bundle: Bundle, folder: Path) -> None:
    """To the last bit, also where the labels stand in another order."""
    verbalizers = bundle.label_spaces["meld"].verbalizers
    biases = {name: place / 3 for place, name in reversed(list(enumerate(verbalizers)))}
    meld = TrainedLabels(verbalizers=verbalizers, temperature=0.8, biases=biases)
    write_bundle(bundle.model_copy(update={"label_spaces": {"meld": meld}}), folder)

    assert read_bundle(folder).label_spaces["meld"] == meld
    assert meld.calibration() == BiasCorrected(Temperature(0.8), tuple(n / 3 for n in range(7)))


def test_bundle_without_curves_or_biases_says_nothing_of_them(folder: Path) -> None:
    """Only the calibration that there is stands in the file."""
    text = (folder / FILE).read_text()
    assert "isotonic" not in text
    assert "biases" not in text


@pytest.mark.parametrize(
    ("biases", "message"),
    [
        ({"joy": 0.5}, "a bias for each label, and for nothing else"),
        ({}, "a bias for each label, and for nothing else"),
        ({"joy": math.nan}, r"biases\.joy: .*finite number"),
        ({"joy": "0.5"}, r"biases\.joy: .*valid number"),
    ],
)
def test_biases_that_are_none_are_refused(
    biases: dict[str, Any], message: str, bundle: Bundle, folder: Path
) -> None:
    """The error names the label."""
    verbalizers = bundle.label_spaces["meld"].verbalizers
    for calibrated in ({"biases": biases}, {"forecasts": {"biases": biases}}):
        described(folder, label_spaces={"meld": {"verbalizers": verbalizers, **calibrated}})

        with pytest.raises(BundleError, match=rf"label_spaces\.meld.*{message}"):
            read_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 1.5}, "a temperature or biases and isotonic curves"),
        ({"biases": {"joy": 0.5}}, "a temperature or biases and isotonic curves"),
        ({"verbalizers": {"joy": "joyful"}}, "curve for each label, and for nothing else"),
        ({"isotonic": {}}, "curve for each label, and for nothing else"),
        ({"isotonic": {"joy": []}}, r"isotonic\.joy: .*needs a knot"),
        ({"isotonic": {"joy": [[0.5, 0.5], [0.4, 0.6]]}}, r"isotonic\.joy: .*shares must rise"),
        ({"isotonic": {"joy": [[0.4, 0.6], [0.5, 0.5]]}}, r"isotonic\.joy: .*must not fall"),
        ({"isotonic": {"joy": [[0.4, 0.0]]}}, r"isotonic\.joy: .*truths above 0"),
        ({"isotonic": {"joy": [[0.4, 1.5]]}}, r"isotonic\.joy\.0\.1: .*less than or equal to 1"),
        ({"isotonic": {"joy": [["0.4", 0.5]]}}, r"isotonic\.joy\.0\.0: .*valid number"),
        ({"isotonic": {"joy": [[math.nan, 0.5]]}}, r"isotonic\.joy\.0\.0: .*finite number"),
        (
            {"isotonic": {"joy": [[n / 200, 0.5] for n in range(129)]}},
            r"isotonic\.joy: .*at most 128 items",
        ),
    ],
)
def test_curves_that_are_none_are_refused(
    changes: dict[str, Any], message: str, bundle: Bundle, folder: Path
) -> None:
    """The error names label and knot."""
    meld = {"verbalizers": bundle.label_spaces["meld"].verbalizers}
    described(
        folder, label_spaces={"meld": meld | {"isotonic": curves(bundle, (0.5, 0.5))} | changes}
    )

    with pytest.raises(BundleError, match=rf"label_spaces\.meld.*{message}"):
        read_bundle(folder)


@pytest.mark.parametrize("temperature", ["Infinity", "NaN"])
def test_temperature_that_is_no_number_is_refused(temperature: str, folder: Path) -> None:
    """It would turn every answer into noise, or into none."""
    text = (folder / FILE).read_text()
    (folder / FILE).write_text(text.replace("1.25", temperature))

    with pytest.raises(BundleError, match=r"label_spaces\.meld\.temperature"):
        read_bundle(folder)


@pytest.mark.parametrize(
    "verbalizers",
    [
        {"joy": "happy"},
        {"hope": "hope"},
        {"anger": None},
    ],
    ids=["another-verbalizer", "another-label", "a-label-less"],
)
def test_label_space_trained_otherwise_is_refused(
    verbalizers: dict[str, str | None],
    folder: Path,
    spaces: Mapping[str, LabelSpace],
) -> None:
    """The model would be asked for words it was never taught."""
    changed = {**trained_labels(spaces["meld"]).verbalizers, **verbalizers}
    kept = {name: word for name, word in changed.items() if word is not None}
    described(folder, label_spaces={"meld": {"verbalizers": kept}})

    with pytest.raises(BundleError, match=r"bundle\.json: label space 'meld' was trained with"):
        load_bundle(folder, spaces)


def test_label_space_trained_in_another_order_is_refused(
    folder: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Another order of labels is another prompt."""
    turned = dict(reversed(trained_labels(spaces["meld"]).verbalizers.items()))
    described(folder, label_spaces={"meld": {"verbalizers": turned}})

    with pytest.raises(BundleError, match=r"bundle\.json: label space 'meld' was trained with"):
        load_bundle(folder, spaces)


def test_weights_must_be_safetensors(folder: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """A pickle runs code when it is loaded."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(
        ModelFolderError, match=rf"{folder}: contains no weights \(\*\.safetensors\)"
    ):
        load_bundle(folder, spaces)


def test_missing_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json: No such file"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff\xfe{}"])
def test_description_that_is_no_json_object_is_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(text)

    with pytest.raises(BundleError, match=r"bundle\.json: file: "):
        read_bundle(tmp_path)


def test_weights_may_be_elsewhere(folder: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """In an object store, which vLLM streams them from; all else is looked at."""
    (folder / "model.safetensors").unlink()

    with pytest.raises(ModelFolderError, match=r"contains no weights"):
        load_bundle(folder, spaces)
    assert load_bundle(folder, spaces, weights=False) == read_bundle(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"config\.json"):
        load_bundle(folder, spaces, weights=False)
