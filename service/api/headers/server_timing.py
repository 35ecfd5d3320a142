"""The `Server-Timing` header: the time spent in each stage of a response."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.observability.metrics import Metrics
from service.tracing import Stage, listening


class StageTimes:
    """The seconds that one utterance spends in each stage; a stage may be entered twice."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = {}

    def __call__(self, stage: Stage, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def header(self) -> str:
        """The header's value, in milliseconds (W3C Server Timing)."""
        return ", ".join(
            f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in self.seconds.items()
        )


@contextmanager
def timed(metrics: Metrics) -> Iterator[StageTimes]:
    """Time the stages of the utterance handled in the block, and record them in the metrics."""
    times = StageTimes()
    try:
        with listening(times):
            yield times
    finally:
        for stage, seconds in times.seconds.items():
            metrics.observe_stage(stage, seconds)
