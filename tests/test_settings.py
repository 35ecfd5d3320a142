"""Settings come from the environment; a wrong one is an error before anything starts."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import UnknownSetting, load_settings, settings_table

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_readme_shows_the_settings_there_are() -> None:
    """Paste what `instructerc settings` prints between the two marks."""
    found = re.search(
        r"<!-- settings -->\n(.*?)\n<!-- end of settings -->", README.read_text("utf-8"), re.DOTALL
    )

    assert found is not None
    assert found[1] == settings_table()


def test_a_nested_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two underscores step into a section; an empty value counts as unset."""
    monkeypatch.setenv("ERC_LIMITS__TEXT_CHARACTERS", "10")
    monkeypatch.setenv("ERC_QDRANT__URL", "")

    settings = load_settings()

    assert settings.limits.text_characters == 10
    assert settings.qdrant.url is None


def test_demonstrations_are_shown_unless_they_are_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Retrieval off, not away: nothing is degraded."""
    assert load_settings().demonstrations.shown

    monkeypatch.setenv("ERC_DEMONSTRATIONS__SHOWN", "false")

    assert not load_settings().demonstrations.shown


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the top level by its name."""
    monkeypatch.setenv("ERC_MOOD", "good")

    with pytest.raises(UnknownSetting, match="ERC_MOOD"):
        load_settings()


def test_a_misspelt_nested_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a section too."""
    monkeypatch.setenv("ERC_LIMITS__TEXT_CHARS", "10")

    with pytest.raises(ValidationError, match="text_chars"):
        load_settings()


def test_an_error_never_shows_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password may stand in a variable that is refused."""
    monkeypatch.setenv("ERC_PORT", "hunter2")

    with pytest.raises(ValidationError) as refused:
        load_settings()

    assert "hunter2" not in str(refused.value)
