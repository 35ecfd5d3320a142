"""The dashboard Conversation quality: what is answered, how surely, and what people say to it."""

from helm.grafana.model import EACH, OURS, Dashboard, Panel, Query, Row, Variable, ours

_SPACE = ours('label_space=~"$label_space"')
_AGREED = ours('label_space=~"$label_space"', 'verdict="agreed"')
_PART = ours('part!="language"')
_LANGUAGE = ours('part="language"')
_RECORDED = '{job=~"$job", label_space=~"$label_space"}'


def _quantiles(family: str) -> tuple[Query, ...]:
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by (le) (rate({family}_bucket{_SPACE}{EACH})))", name
        )
        for share, name in ((0.1, "10th percentile"), (0.5, "median"), (0.9, "90th percentile"))
    )


def _share_below(bound: str, family: str) -> str:
    below = ours('label_space=~"$label_space"', f'le="{bound}"')
    return (
        f"sum(rate({family}_bucket{below}{EACH})) / (sum(rate({family}_count{_SPACE}{EACH})) > 0)"
    )


_PREDICTIONS = Row(
    "Predictions",
    (
        Panel(
            "Labels",
            "Share of each label among the predictions.",
            "percentunit",
            (
                Query(
                    f"sum by (label) (rate(erc_predictions_total{_SPACE}{EACH})) / on () "
                    f"group_left () (sum(rate(erc_predictions_total{_SPACE}{EACH})) > 0)",
                    "{{label}}",
                ),
            ),
            most=1,
            stacked=True,
            width=12,
            height=12,
        ),
        Panel(
            "Labels in 6 h",
            "Share of each label among the predictions of the last 6 hours, and among those on "
            "the bundle's development split.",
            "percentunit",
            (
                Query(
                    f"sum by (label) (increase(erc_predictions_total{_SPACE}[6h])) / on () "
                    f"group_left () (sum(increase(erc_predictions_total{_SPACE}[6h])) > 0)",
                    "{{label}}",
                ),
                Query(f"max by (label) (erc_expected_label_share{_SPACE})", "{{label}}, expected"),
            ),
            kind="bargauge",
            most=1,
            width=12,
            height=12,
        ),
        Panel(
            "Drift in 6 h",
            "Total variation distance between the labels of all processes and the shares that "
            "the bundle expects, from 200 predictions on. An alert fires at 0.25.",
            "percentunit",
            (
                Query(
                    f"namespace_job_label_space:erc_label_drift:distance6h{_RECORDED}",
                    "{{label_space}}",
                ),
            ),
            lines=(0.25,),
            most=1,
        ),
        Panel(
            "Recent drift",
            "The same for the last 1000 predictions of each process.",
            "percentunit",
            (Query(f"max by (instance) (erc_label_drift{_SPACE})", "{{instance}}"),),
            most=1,
        ),
        Panel(
            "Utterances by label space",
            "Utterances answered per second.",
            "suffix:/s",
            (
                Query(
                    f"sum by (label_space) (rate(erc_predictions_total{OURS}{EACH}))",
                    "{{label_space}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Forecasts by label",
            "Forecasts answered per second, if the bundle was trained to forecast.",
            "suffix:/s",
            (Query(f"sum by (label) (rate(erc_forecasts_total{_SPACE}{EACH}))", "{{label}}"),),
            stacked=True,
            width=24,
        ),
    ),
)

_CERTAINTY = Row(
    "Certainty",
    (
        Panel(
            "Confidence",
            "Calibrated probability of the predicted label.",
            "percentunit",
            _quantiles("erc_prediction_confidence"),
            most=1,
        ),
        Panel(
            "Distribution of confidence",
            "Number of predictions by confidence.",
            "percentunit",
            (
                Query(
                    f"sum by (le) (increase(erc_prediction_confidence_bucket{_SPACE}{EACH}))",
                    "{{le}}",
                ),
            ),
            kind="heatmap",
        ),
        Panel(
            "Similarity of demonstrations",
            "Cosine similarity of an utterance to the nearest demonstration in its prompt.",
            "none",
            _quantiles("erc_demonstration_similarity"),
            most=1,
        ),
        Panel(
            "Label mass",
            "Share of the predictions in which the labels together have less than this "
            "probability over the vocabulary. An alert fires at 5 % below one half.",
            "percentunit",
            tuple(
                Query(_share_below(bound, "erc_prediction_label_mass"), f"below {bound}")
                for bound in ("0.5", "0.9", "0.99")
            ),
            lines=(0.05,),
            width=24,
        ),
    ),
)

_DEGRADATION = Row(
    "Degradation",
    (
        Panel(
            "Degraded",
            "Share of the utterances of all label spaces that are answered without an "
            "unavailable part, or that are in a language that the bundle was not trained on.",
            "percentunit",
            (
                Query(
                    f"sum by (part) (rate(erc_degraded_total{_PART}{EACH})) / on () group_left () "
                    f"(sum(rate(erc_predictions_total{OURS}{EACH})) > 0)",
                    "without {{part}}",
                ),
                Query(
                    f"sum(rate(erc_degraded_total{_LANGUAGE}{EACH})) / "
                    f"(sum(rate(erc_predictions_total{OURS}{EACH})) > 0)",
                    "in another language",
                ),
            ),
            lines=(0.05,),
            width=12,
        ),
        Panel(
            "Undelivered corrections",
            "Corrections in the database that are not yet in the index of demonstrations.",
            "short",
            (Query(f"max(erc_deliveries_pending{OURS})", "pending"),),
            width=12,
        ),
    ),
)

_PEOPLE = Row(
    "What people say",
    (
        Panel(
            "Agreement in 6 h",
            "Share of the predictions that people confirmed, among those that they confirmed or "
            "corrected. People correct what they notice, so changes are more meaningful than the "
            "level.",
            "percentunit",
            (
                Query(
                    f"sum(increase(erc_corrections_total{_AGREED}[6h])) / "
                    f"(sum(increase(erc_corrections_total{_SPACE}[6h])) > 0)",
                    "agreed",
                ),
            ),
            most=1,
        ),
        Panel(
            "Agreement by label in 6 h",
            "The same for each predicted label.",
            "percentunit",
            (
                Query(
                    f"sum by (label) (increase(erc_corrections_total{_AGREED}[6h])) / "
                    f"(sum by (label) (increase(erc_corrections_total{_SPACE}[6h])) > 0)",
                    "{{label}}",
                ),
            ),
            kind="bargauge",
            most=1,
        ),
        Panel(
            "Corrections",
            "Predictions per second that people agree or disagree with.",
            "suffix:/s",
            (
                Query(
                    f"sum by (verdict) (rate(erc_corrections_total{_SPACE}{EACH}))", "{{verdict}}"
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Votes of corrections",
            "Share of the predictions in which corrections of similar utterances have a weight, "
            "by whether they confirm or change the model's label.",
            "percentunit",
            (
                Query(
                    f"sum by (outcome) (rate(erc_votes_total{_SPACE}{EACH})) / on () "
                    f"group_left () (sum(rate(erc_predictions_total{_SPACE}{EACH})) > 0)",
                    "{{outcome}}",
                ),
            ),
            most=1,
            stacked=True,
        ),
    ),
)

_SERVED = Row(
    "Served",
    (
        Panel(
            "Bundles",
            "The model bundles that the processes serve; more than one during an upgrade.",
            "none",
            (
                Query(
                    f"count by (name, version, template) (erc_bundle_info{OURS})",
                    "{{name}} {{version}}",
                ),
            ),
            kind="table",
            columns=("name", "version", "template", "Value"),
            width=24,
            height=5,
        ),
    ),
)

QUALITY = Dashboard(
    "instructerc-quality",
    "InstructERC: Conversation quality",
    "Labels over time, certainty, drift, degradation and agreement with people.",
    (
        Variable(
            "label_space",
            "Label space",
            "The label space whose labels are shown.",
            'label_values(erc_predictions_total{job=~"$job"}, label_space)',
            value="unified",
        ),
    ),
    (_PREDICTIONS, _CERTAINTY, _DEGRADATION, _PEOPLE, _SERVED),
)
