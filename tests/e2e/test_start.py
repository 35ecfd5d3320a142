"""What stands in the way of a start is said in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import BUNDLE, environment


def serve(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `instructerc serve` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "serve"],
        cwd=folder,
        env=environment(folder) | changes,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("variable", "value", "cause"),
    [
        ("ERC_MOOD", "good", "no such setting: ERC_MOOD"),
        ("ERC_PORT", "eighty", "ERC_PORT: "),
        ("ERC_BUNDLE", "nowhere", "nowhere/bundle.json: No such file"),
        ("ERC_DATABASE__URL", "mysql://user:hunter2@host/name", "ERC_DATABASE__URL: "),
        ("ERC_HOST", "0.0.0.0", "no keys: set ERC_KEYS_FILE"),
        ("ERC_KEYS_FILE", "nowhere.toml", "cannot read nowhere.toml: No such file"),
        ("ERC_DEMONSTRATIONS__FILE", "nowhere.jsonl", "nowhere.jsonl"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_its_cause(
    tmp_path: Path, variable: str, value: str, cause: str
) -> None:
    """Exit status 2, one line, no traceback and no password."""
    done = serve(tmp_path, **{variable: value})

    assert done.returncode == 2
    assert cause in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "hunter2" not in done.stderr + done.stdout


def test_a_bundle_without_weights_is_refused(tmp_path: Path) -> None:
    """The description alone is no model."""
    (tmp_path / "bundle.json").write_bytes((BUNDLE / "bundle.json").read_bytes())

    done = serve(tmp_path, ERC_BUNDLE=str(tmp_path))

    assert done.returncode == 2
    assert "holds no weights" in done.stderr
