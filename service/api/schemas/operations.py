"""Schemas of probe responses."""

from typing import Literal

from pydantic import BaseModel, Field


class Alive(BaseModel):
    """The process makes progress."""

    status: Literal["alive"]
    event_loop_lag_s: float = Field(
        description="how much later than planned the event loop goes on", examples=[0.001]
    )
    engine_silent_s: float = Field(
        description="for how long the label engine has been asked without an answer", examples=[0]
    )


class Ready(BaseModel):
    """Every part that answers need does its work."""

    status: Literal["ready"]
    checks: dict[str, str] = Field(
        examples=[{"engine": "ok", "database": "ok", "demonstrations": "ok"}]
    )
    degraded: list[str] = Field(description="Parts that do not answer and are done without.")
