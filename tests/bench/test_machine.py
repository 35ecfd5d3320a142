"""What results are said to be measured on."""

import pytest

from tests.bench.machine import describe


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_description_says_what_the_engine_computes_in(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Speeds in one type are not to be compared with speeds in the other."""
    monkeypatch.setenv("ERC_ENGINE__DTYPE", dtype)

    assert describe()["hardware"]["compute"] == dtype
