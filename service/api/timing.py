"""The `Server-Timing` header: where the time of an answer went."""

from service.observability.metrics import Metrics
from service.stages import Stage


class StageTimes:
    """Adds up the seconds of each stage of one request, and passes them on to the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds: dict[Stage, float] = {}

    def __call__(self, stage: Stage, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
        self._metrics.observe_stage(stage, seconds)

    @property
    def header(self) -> str:
        """As the header's value says it, in milliseconds (W3C Server Timing)."""
        return ", ".join(
            f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in self._seconds.items()
        )
