"""What Grafana makes of the dashboards' expressions before it asks."""

from collections.abc import Mapping

ALL = ".+"


def chosen(rate_interval_s: int) -> Mapping[str, str]:
    """What every variable is when nothing was chosen.

    Args:
        rate_interval_s: four times that between two scrapes, where the panel has many points.
    """
    return {
        "$__rate_interval": f"{rate_interval_s}s",
        "$job": ALL,
        "$instance": ALL,
        "$label_space": "unified",
        "$gpu": ALL,
        "$cost_per_hour": "3",
    }


def as_asked(expression: str, variables: Mapping[str, str]) -> str:
    """An expression without variables.

    Raises:
        ValueError: it has one that nobody chose.
    """
    for variable, value in variables.items():
        expression = expression.replace(variable, value)
    if "$" in expression:
        raise ValueError(f"nobody chose what {expression} names")
    return expression
