"""What a bundle can be asked for: label spaces, and forecasts."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from service.conversation.labels import AnyLabelSpace, LabelSpace
from service.decoding.bundle import Bundle
from service.errors import ForecastNotSupported, UnsupportedLabelSpace

Known = TypeVar("Known", bound=AnyLabelSpace)


def supported_label_space(
    bundle: Bundle, label_spaces: Mapping[str, LabelSpace], name: str, others: Sequence[str] = ()
) -> LabelSpace:
    """The label space called `name`, without regard to case, if the bundle was trained on it.

    Args:
        others: names of further label spaces, for the error message.

    Raises:
        UnsupportedLabelSpace: it is unknown, or the bundle was not trained on it.
    """
    key = name.casefold()
    if key in bundle.label_spaces:
        return label_spaces[key]
    if key in label_spaces:
        problem = f"bundle {bundle.name} was not trained on {key!r}"
    else:
        problem = f"there is no {name!r}"
    known = ", ".join([*bundle.label_spaces, *others])
    raise UnsupportedLabelSpace(f"label_space: {problem}; the bundle supports {known}")


def check_forecasts(bundle: Bundle) -> None:
    """Check that a bundle was trained on the prediction task.

    Raises:
        ForecastNotSupported: it was not.
    """
    if "prediction" not in bundle.tasks:
        raise ForecastNotSupported(
            f"bundle {bundle.name} was not trained to forecast; its tasks are "
            f"{', '.join(bundle.tasks)}"
        )


def known_label_space(label_spaces: Mapping[str, Known], name: str) -> Known:
    """The label space called `name`, without regard to case and whatever the bundle supports.

    Raises:
        UnsupportedLabelSpace: there is none.
    """
    label_space = label_spaces.get(name.casefold())
    if label_space is None:
        known = ", ".join(label_spaces)
        raise UnsupportedLabelSpace(f"unknown label space; known are {known}")
    return label_space
