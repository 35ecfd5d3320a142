"""Conditional requests (RFC 9110): `ETag`, `If-Match`, `If-None-Match` of a dialogue."""

import re
from typing import Annotated

from fastapi import Depends, Header

from service.api.problems.answers import invalid
from service.dialogue_format import Patterned
from service.sessions.versions import Expected, Version

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_TAGS = re.compile(rf"\s*(?:\*|{_TAG.pattern}(?:\s*,\s*{_TAG.pattern})*)\s*")
_ANY = "*"

_Tags = Annotated[str, Patterned(f"^{_TAGS.pattern}$")]


def etag(version: Version) -> str:
    """The header's value: a strong entity tag, which changes with every write."""
    return f'"{version}"'


async def _if_match(
    if_match: Annotated[
        _Tags | None,
        Header(
            alias="If-Match",
            description="The `ETag` of the dialogue as you know it, or `*`: the request is refused "
            "if the dialogue has changed since.",
        ),
    ] = None,
) -> Expected | None:
    if if_match is None:
        return None
    if if_match.strip() == _ANY:
        return Expected(None)
    # `If-Match` compares strongly: a weak tag matches nothing.
    return Expected(frozenset(tag for weak, tag in _tags("If-Match", if_match) if not weak))


async def _if_none_match(
    if_none_match: Annotated[
        _Tags | None,
        Header(
            alias="If-None-Match",
            description="The `ETag` that you have: while it is current, the response is 304.",
        ),
    ] = None,
) -> Expected | None:
    if if_none_match is None:
        return None
    if if_none_match.strip() == _ANY:
        return Expected(None)
    return Expected(frozenset(tag for _, tag in _tags("If-None-Match", if_none_match)))


def _tags(header: str, value: str) -> list[tuple[bool, str]]:
    if not _TAGS.fullmatch(value):
        raise invalid(header, detail='must be entity tags such as "5f.3", or *', source="header")
    return [(bool(weak), tag) for weak, tag in _TAG.findall(value)]


IfMatch = Annotated[Expected | None, Depends(_if_match)]
IfNoneMatch = Annotated[Expected | None, Depends(_if_none_match)]
