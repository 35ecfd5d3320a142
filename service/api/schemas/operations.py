"""Schemas of probe responses."""

from typing import Literal

from pydantic import BaseModel, Field


class Alive(BaseModel):
    """The process makes progress."""

    status: Literal["alive"]
    event_loop_lag_s: float = Field(
        description="the delay of the event loop, in seconds", examples=[0.001]
    )
    engine_silent_s: float = Field(
        description="for how long the label engine has not responded to a request", examples=[0]
    )


class Ready(BaseModel):
    """Every required part works."""

    status: Literal["ready"]
    checks: dict[str, str] = Field(
        examples=[{"engine": "ok", "database": "ok", "demonstrations": "ok"}]
    )
    degraded: list[str] = Field(description="Unavailable parts that the service works without.")
