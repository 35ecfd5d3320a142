"""The numbers of a service."""

from pathlib import Path
from typing import Any

import pytest

from service.conversation.labels import load_label_spaces
from service.decoding.bundle import Base, Bundle, TrainedLabels, Window, trained_labels
from service.decoding.engine import Reading, ServerState, ServerWork
from service.observability.drift import LEAST, WINDOW
from service.observability.metrics import Metrics

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
LABEL_SPACES = load_label_spaces(Path(__file__).parents[2] / "data" / "label_spaces")
# Of the predictions on a development split, in the order of MELD's labels.
SHARES = (0.5, 0.1, 0.05, 0.1, 0.15, 0.02, 0.08)


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def series(metrics: Metrics) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def bundle(meld: TrainedLabels) -> Bundle:
    return Bundle(
        format=1,
        name="erc-test",
        version="2",
        base=Base(name="none", revision="none"),
        template="v2",
        window=Window(lowest=4, highest=8),
        max_tokens=512,
        demonstrations=2,
        label_spaces={"meld": meld},
        encoder="none",
        data={},
        code_version="test",
    )


def test_servers_are_shown_as_they_are_and_leave_nothing_behind() -> None:
    """Addresses of pods come and go."""
    metrics, reads, work = Metrics(), {"answered": 3, "broken": 0}, ServerWork()
    there = [
        ServerState("gpu-1:8000", True, reads, 2, work),
        ServerState("gpu-2:8000", False, {}, 0, ServerWork()),
    ]
    metrics.show_servers(lambda: there)

    def shown(name: str, **labels: str) -> float | None:
        return value(metrics, name, **labels)

    assert shown("erc_engine_server_available", server="gpu-1:8000") == 1
    assert shown("erc_engine_server_available", server="gpu-2:8000") == 0
    counted = {"server": "gpu-1:8000", "outcome": "answered"}
    assert shown("erc_engine_server_reads_total", **counted) == 3
    reads["answered"] += 1
    assert shown("erc_engine_server_reads_total", **counted) == 4
    assert shown("erc_engine_server_open_reads", server="gpu-1:8000") == 2
    work.count((1, 2, 3), Reading((-0.5,), cached_tokens=2), 0.25)
    work.count((1, 2), Reading((-0.5,), cached_tokens=None), 0.5)
    assert shown("erc_engine_server_read_seconds_count", server="gpu-1:8000") == 2
    assert shown("erc_engine_server_read_seconds_sum", server="gpu-1:8000") == 0.75
    assert shown("erc_engine_server_prompt_tokens_total", server="gpu-1:8000") == 5
    assert shown("erc_engine_server_cached_tokens_total", server="gpu-1:8000") == 2
    assert shown("erc_engine_server_read_seconds_count", server="gpu-2:8000") == 0
    del there[0]
    assert not [name for name, labels in series(metrics) if ("server", "gpu-1:8000") in labels]


def expecting() -> Bundle:
    """A bundle that says what it predicted on its development split."""
    meld = trained_labels(LABEL_SPACES["meld"])
    shares = dict(zip(meld.verbalizers, SHARES, strict=True))
    return bundle(meld.model_copy(update={"predicted": shares}))


def answered(label: str = "joy", **more: Any) -> Any:
    """What numbers are made of, of an answer or a forecast."""
    emotion = {"label_space": "meld", "label": label, "confidence": 0.75, "label_mass": 0.97}
    return {
        "emotion": emotion,
        "model_alone": None,
        "demonstrations": [],
        "degraded": [],
        "truncated": False,
    } | more


def in_prompt(similarity: float) -> dict[str, Any]:
    return {"similarity": similarity, "shown": True}


def test_a_prediction_counts_its_label_and_each_part_that_was_missing() -> None:
    """And whether only the end was read. A part that answered is not counted."""
    metrics = Metrics()

    metrics.count_prediction(answered(truncated=True))
    metrics.count_prediction(answered(degraded=["demonstrations"]))

    assert value(metrics, "erc_predictions_total", label_space="meld", label="joy") == 2
    assert value(metrics, "erc_truncated_total") == 1
    assert value(metrics, "erc_degraded_total", part="demonstrations") == 1
    assert value(metrics, "erc_degraded_total", part="language") == 0


def test_a_prediction_tells_how_sure_it_is() -> None:
    """Confidence and label mass fall into the buckets that hold them."""
    metrics = Metrics()

    metrics.count_prediction(answered())

    confidence, mass = "erc_prediction_confidence", "erc_prediction_label_mass"
    assert value(metrics, f"{confidence}_sum", label_space="meld") == 0.75
    assert value(metrics, f"{confidence}_bucket", label_space="meld", le="0.7") == 0
    assert value(metrics, f"{confidence}_bucket", label_space="meld", le="0.8") == 1
    assert value(metrics, f"{mass}_sum", label_space="meld") == 0.97


def test_the_nearest_demonstration_tells_how_near_it_is() -> None:
    """Of several only the nearest; without any nothing is observed."""
    metrics = Metrics()

    unshown = in_prompt(0.9) | {"shown": False}
    metrics.count_prediction(answered(demonstrations=[in_prompt(0.25), in_prompt(0.5), unshown]))
    metrics.count_prediction(answered())

    similarity = "erc_demonstration_similarity"
    assert value(metrics, f"{similarity}_sum", label_space="meld") == 0.5
    assert value(metrics, f"{similarity}_count", label_space="meld") == 1


def test_corrections_that_have_a_say_confirm_or_change_the_models_label() -> None:
    """Where none has, neither is counted."""
    metrics = Metrics()
    emotion = answered()["emotion"]

    metrics.count_prediction(answered())
    metrics.count_prediction(answered(model_alone=emotion))
    metrics.count_prediction(answered(model_alone=emotion | {"label": "anger"}))
    metrics.count_prediction(answered(model_alone=emotion | {"label": "fear"}))

    counted = {
        outcome: value(metrics, "erc_votes_total", label_space="meld", outcome=outcome)
        for outcome in ("confirmed", "changed")
    }
    assert counted == {"confirmed": 1, "changed": 2}


def test_a_forecast_is_no_prediction() -> None:
    """What was said and what might have been are counted apart."""
    metrics = Metrics()

    metrics.count_forecast(answered(label="joy"))

    assert value(metrics, "erc_forecasts_total", label_space="meld", label="joy") == 1
    assert value(metrics, "erc_predictions_total", label_space="meld", label="joy") is None


def test_people_agree_or_do_not() -> None:
    """Under the label that was predicted."""
    metrics = Metrics()

    metrics.count_correction("meld", "joy", agreed=True)
    metrics.count_correction("meld", "joy", agreed=False)
    metrics.count_correction("meld", "joy", agreed=False)

    labels = {"label_space": "meld", "label": "joy"}
    assert value(metrics, "erc_corrections_total", **labels, verdict="agreed") == 1
    assert value(metrics, "erc_corrections_total", **labels, verdict="disagreed") == 2


def test_what_a_bundle_can_answer_is_there_at_zero() -> None:
    """So that a rate sees the first one; and a bundle's answers then make no new series."""
    metrics = Metrics()
    metrics.show_bundle(expecting())
    before = series(metrics)

    metrics.count_prediction(answered(demonstrations=[in_prompt(0.5)]))
    metrics.count_prediction(answered(degraded=["demonstrations"]))
    metrics.count_correction("meld", "fear", agreed=False)

    assert series(metrics) == before
    assert value(metrics, "erc_predictions_total", label_space="meld", label="fear") == 0
    shown = {"name": "erc-test", "template": "v2", "version": "2"}
    assert value(metrics, "erc_bundle_info", **shown) == 1
    assert not any(name == "erc_forecasts_total" for name, _ in before)


def test_drift_is_none_while_labels_come_as_expected() -> None:
    """And is told only once there are enough of them."""
    metrics = Metrics()
    metrics.show_bundle(expecting())
    labels = [
        label
        for label, share in zip(LABEL_SPACES["meld"].names, SHARES, strict=True)
        for _ in range(round(share * LEAST))
    ]
    assert len(labels) == LEAST

    for label in labels[:-1]:
        metrics.count_prediction(answered(label))
    assert value(metrics, "erc_label_drift", label_space="meld") is None
    metrics.count_prediction(answered(labels[-1]))

    assert value(metrics, "erc_label_drift", label_space="meld") == pytest.approx(0)
    assert value(metrics, "erc_expected_label_share", label_space="meld", label="joy") == 0.15


def test_drift_is_the_share_of_labels_that_moved() -> None:
    """Where all are "fear", expected of 5%, all others have moved; old ones are forgotten."""
    metrics = Metrics()
    metrics.show_bundle(expecting())

    for _ in range(WINDOW):
        metrics.count_prediction(answered("fear"))
    assert value(metrics, "erc_label_drift", label_space="meld") == pytest.approx(0.95)
    for _ in range(WINDOW):
        metrics.count_prediction(answered("neutral"))

    assert value(metrics, "erc_label_drift", label_space="meld") == pytest.approx(0.5)


def test_a_bundle_that_expects_nothing_has_no_drift() -> None:
    """There is nothing to compare with."""
    metrics = Metrics()
    metrics.show_bundle(bundle(trained_labels(LABEL_SPACES["meld"])))

    for _ in range(LEAST):
        metrics.count_prediction(answered())

    names = {name for name, _ in series(metrics)}
    assert not names & {"erc_label_drift", "erc_expected_label_share"}


def test_two_services_in_one_process_count_apart() -> None:
    """Numbers are in a registry of their own, not in the library's."""
    one, other = Metrics(), Metrics()

    one.count_prediction(answered())

    assert value(other, "erc_predictions_total", label_space="meld", label="joy") is None


def test_every_family_is_documented() -> None:
    """Under the name that it has on the page."""
    table = OPERATIONS.read_text("utf-8")
    for family in Metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        assert f"`{family.name}{suffix}`" in table, family.name
