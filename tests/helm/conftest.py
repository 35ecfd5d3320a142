"""The chart's installations, one after the other."""

import pytest

from tests.helm.rendering import INSTALLATIONS, Manifest, installation


@pytest.fixture(params=INSTALLATIONS)
def manifests(request: pytest.FixtureRequest) -> tuple[Manifest, ...]:
    """Every installation in turn."""
    return installation(request.param)
