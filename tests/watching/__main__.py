"""Draws the dashboards for `docs/operations.md`, from eight minutes of a service at work."""

from pathlib import Path
from tempfile import TemporaryDirectory

from helm.grafana.files import DASHBOARDS
from helm.grafana.model import Dashboard
from tests.watching.drawing import picture
from tests.watching.recording import record


def path_of(dashboard: Dashboard) -> Path:
    """The picture's file."""
    folder = Path(__file__).resolve().parents[2] / "helm" / "pictures"
    return folder / f"{dashboard.name}.svg"


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        answers = record(Path(temporary), seconds=480)
    for each in DASHBOARDS:
        path_of(each).parent.mkdir(exist_ok=True)
        path_of(each).write_text(picture(each, answers[each.name]), encoding="utf-8")
