"""Which points an operation is about, independent of the client library.

That no dialogue of a test split is among demonstrations is for training to see to
(`training/datasets/leakage.py`).
"""

from dataclasses import dataclass

from service.demonstrations.points import CORRECTION, EDITION, KIND, LABEL_SPACE, TENANT


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one field of a payload.

    Attributes:
        value: the field's; None: the payload lacks the field.
    """

    field: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Matches the points that meet all of some conditions, at least one of others, none of others.

    Each of the three matches every point if it is empty.
    """

    all_of: tuple[Condition, ...] = ()
    any_of: tuple[Condition, ...] = ()
    none_of: tuple[Condition, ...] = ()


def within(label_space: str | None, tenant: str | None = None) -> Filter:
    """Match a label space and a tenant; None matches any."""
    wanted = {LABEL_SPACE: label_space, TENANT: tenant}
    return Filter(
        all_of=tuple(
            Condition(field, value) for field, value in wanted.items() if value is not None
        )
    )


def corrections(label_space: str, tenant: str) -> Filter:
    """Match the tenant's corrections."""
    return Filter((*within(label_space, tenant).all_of, Condition(KIND, CORRECTION)))


def seen(label_space: str | None, tenant: str | None) -> Filter:
    """Match shared demonstrations and the tenant's own."""
    own = () if tenant is None else (Condition(TENANT, tenant),)
    return Filter(within(label_space).all_of, any_of=(Condition(TENANT, None), *own))


def examples(label_space: str, tenant: str | None) -> Filter:
    """Match shared demonstrations and the tenant's own, except corrections."""
    among = seen(label_space, tenant)
    return Filter(among.all_of, among.any_of, none_of=(Condition(KIND, CORRECTION),))


def other_editions(edition: str) -> Filter:
    """Match the demonstrations of all editions but one, and none that people added."""
    return Filter(none_of=(Condition(EDITION, None), Condition(EDITION, edition)))
