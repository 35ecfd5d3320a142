"""The numbers of a service."""

from service.observability.metrics import Metrics, new_metrics


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_prediction_counts_its_label_and_each_part_that_was_missing() -> None:
    """A part that answered is not counted."""
    metrics = new_metrics()

    metrics.count_prediction("meld", "joy", [])
    metrics.count_prediction("meld", "joy", ["demonstrations"])

    assert value(metrics, "erc_predictions_total", label_space="meld", label="joy") == 2
    assert value(metrics, "erc_degraded_total", part="demonstrations") == 1


def test_a_forecast_is_no_prediction() -> None:
    """What was said and what might have been are counted apart."""
    metrics = new_metrics()

    metrics.count_forecast("meld", "joy")

    assert value(metrics, "erc_forecasts_total", label_space="meld", label="joy") == 1
    assert value(metrics, "erc_predictions_total", label_space="meld", label="joy") is None


def test_one_bundle_is_shown_at_a_time() -> None:
    """Showing another one takes the place of the one before."""
    metrics = new_metrics()

    metrics.show_bundle("erc-mini", "1", "v2")
    metrics.show_bundle("erc-mini", "2", "v2")

    shown = {"name": "erc-mini", "template": "v2"}
    assert value(metrics, "erc_bundle_info", **shown, version="1") is None
    assert value(metrics, "erc_bundle_info", **shown, version="2") == 1


def test_two_services_in_one_process_count_apart() -> None:
    """Numbers are in a registry of their own, not in the library's."""
    one, other = new_metrics(), new_metrics()

    one.count_prediction("meld", "joy", [])

    assert value(other, "erc_predictions_total", label_space="meld", label="joy") is None
