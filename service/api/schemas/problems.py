"""Schemas of the listed kinds of problems."""

from pydantic import BaseModel, Field


class ProblemKindOut(BaseModel):
    """A kind of problem: what all its documents have in common."""

    type: str = Field(examples=["/problems/dialogue-not-found"])
    status: int
    title: str
    cause: str = Field(description="why a request gets this response")
    remedy: str = Field(description="what to do about it")


class ProblemKindsOut(BaseModel):
    """Every kind of problem."""

    problems: list[ProblemKindOut]
