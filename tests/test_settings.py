"""Settings come from the environment; a wrong one is an error before anything starts."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from service.app import create_app
from service.settings import (
    OWN,
    Settings,
    UnknownSetting,
    faults_of,
    load_settings,
    settings_table,
)

SETTINGS_PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"


def test_the_documents_show_the_settings_there_are() -> None:
    """Paste what `instructerc settings` prints between the two marks."""
    page = SETTINGS_PAGE.read_text("utf-8")
    table = re.search(r"<!-- settings -->\n(.*?)\n<!-- end of settings -->", page, re.DOTALL)

    assert table is not None
    assert table[1] == settings_table()


def test_a_nested_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two underscores step into a section."""
    monkeypatch.setenv("ERC_LIMITS__TEXT_CHARACTERS", "10")

    assert load_settings().limits.text_characters == 10


def variables() -> Iterator[tuple[str, object]]:
    """Every variable, and what is set where it is unset."""
    yield from re.findall(r"`(ERC_\w+)` \| (\S*)", settings_table())


MAY_BE_EMPTY = [name for name, default in variables() if not default and name != "ERC_KEYS_FILE"]
MAY_NOT = [name for name, _ in variables() if name not in MAY_BE_EMPTY]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("name", MAY_BE_EMPTY)
def test_an_empty_setting_that_may_be_unset_is_unset(
    monkeypatch: pytest.MonkeyPatch, name: str, empty: str
) -> None:
    """Compose files and charts give the ones that somebody did not fill in."""
    monkeypatch.setenv(name, empty)

    assert load_settings() == Settings.model_construct()


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("name", MAY_NOT)
def test_an_empty_setting_that_has_a_default_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, empty: str
) -> None:
    """Who gives it means something by it, such as another database; so with the file of keys, or
    the service would be open by oversight.
    """
    monkeypatch.setenv(name, empty)

    with pytest.raises(ValidationError) as refused:
        load_settings()

    assert faults_of(refused.value) == [f"{name}: is empty: give it a value, or unset it"]


@pytest.mark.parametrize(
    "name", ["ERC_BUNDLE", "ERC_DATA", "ERC_KEYS_FILE", "ERC_DEMONSTRATIONS__FOLDER",
             "ERC_DEMONSTRATIONS__FILE"],
)  # fmt: skip
def test_a_tilde_in_a_path_is_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Files of variables are read without a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, "~/erc/it")

    settings = load_settings()

    held = {
        "ERC_BUNDLE": settings.bundle,
        "ERC_DATA": settings.data,
        "ERC_KEYS_FILE": settings.keys_file,
        "ERC_DEMONSTRATIONS__FOLDER": settings.demonstrations.folder,
        "ERC_DEMONSTRATIONS__FILE": settings.demonstrations.file,
    }
    assert held[name] == tmp_path / "erc" / "it"


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
def test_a_tilde_in_the_database_is_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ERC_DATABASE__URL", f"{scheme}:///~/erc.sqlite3")

    url = load_settings().database.url.get_secret_value()

    assert url == f"{scheme}:///{tmp_path}/erc.sqlite3"


@pytest.mark.parametrize("name", ["ERC_BUNDLE", "ERC_DATABASE__URL"])
def test_a_tilde_of_nobody_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Rather than that a folder of that name is made."""
    value = {"ERC_BUNDLE": "~nobody-here/x", "ERC_DATABASE__URL": "sqlite:///~nobody-here/x"}
    monkeypatch.setenv(name, value[name])

    with pytest.raises(ValidationError) as refused:
        load_settings()

    (fault,) = faults_of(refused.value)
    assert fault == f"{name}: its ~ has no home folder to stand for: write the full path"


@pytest.mark.parametrize("value", ["", "hunter2", "[]"])
def test_a_section_by_itself_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """It has settings and is none; its value is not shown."""
    monkeypatch.setenv("ERC_DATABASE", value)

    with pytest.raises(
        (UnknownSetting, ValidationError), match=r"ERC_DATABASE|database"
    ) as refused:
        load_settings()

    assert "hunter2" not in str(refused.value)


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

    with pytest.raises(UnknownSetting, match=r"^unknown settings: ERC_MOOD$"):
        load_settings()


def test_a_refused_setting_is_told_with_the_one_that_it_resembles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ERC_DATABASE_URL", "sqlite:///a")

    with pytest.raises(UnknownSetting) as refused:
        load_settings()

    assert str(refused.value) == (
        "unknown settings: ERC_DATABASE_URL (did you mean ERC_DATABASE__URL?)"
    )


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


def test_a_section_as_a_whole_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is JSON is no fault."""
    monkeypatch.setenv("ERC_DATABASE", '{"url": "sqlite:///a"}')
    monkeypatch.setenv("ERC_LIMITS", "hunter2")

    with pytest.raises(UnknownSetting) as refused:
        load_settings()

    assert (
        str(refused.value)
        == "ERC_LIMITS is not a setting by itself: the settings in it are ERC_LIMITS__..."
    )


def test_another_setting_that_cannot_be_read_is_told_of_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the library says of it, which may hold the value."""

    def refuse(*_: object) -> None:
        raise SettingsError("hunter2")

    monkeypatch.setattr("service.settings.Settings.__init__", refuse)

    with pytest.raises(UnknownSetting, match=r"^a setting cannot be read$"):
        load_settings()


@pytest.mark.parametrize(
    "url",
    [
        *("qdrant", "qdrant:6333", "http://", "ftp://a", "http://a:hunter2", "http://a b:1"),
        *("http://ä_b:1", "http://1.2.3.400:1", "http://a:1/\x01", "http://a%zz:1"),
    ],
)
def test_a_url_of_no_server_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Before anything starts, and without showing it: a password may be in it."""
    monkeypatch.setenv("ERC_QDRANT__URL", url)

    with pytest.raises(ValidationError) as refused:
        load_settings()

    (fault,) = faults_of(refused.value)
    assert fault.startswith("ERC_QDRANT__URL: is not the URL of a server: write http://host:6333")


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ("/emotions", "/emotions"),
        ("/emotions/", "/emotions"),
        ("/v1/erc_2.0-b~", "/v1/erc_2.0-b~"),
        ("/", ""),
        ("", None),
    ],
)
def test_a_prefix_is_a_path(given: str, prefix: str | None) -> None:
    """With or without the slash at its end."""
    assert Settings(root_path=given).root_path == prefix


@pytest.mark.parametrize(
    "given",
    [
        *("emotions", "//emotions", "/a//b", "/a/../b", "/.", "/a b", "/a?b", "/%61", "/é", "/a//"),
        *("https://erc.example.org/emotions", "/" + 300 * "a", "/dialogues", "/docs/erc"),
    ],
)
def test_what_is_no_prefix_is_refused(given: str) -> None:
    """It stands in every link; one of the service's own could not be told from what follows it."""
    with pytest.raises(ValidationError, match="write a path such as /emotions"):
        Settings(root_path=given)


def test_no_prefix_begins_as_a_path_of_the_service() -> None:
    """The settings know the first segments of all routes."""
    routes = create_app(Settings()).api.routes
    paths = {str(getattr(route, "path", "")) for route in routes}

    assert {path.split("/")[1] for path in paths} == set(OWN)


def test_proxies_are_addresses_and_networks() -> None:
    """Or anybody, where that is said."""
    given = Settings(forwarded_allow_ips="10.0.0.0/8, ::1,192.0.2.7").forwarded_allow_ips

    assert given == ("10.0.0.0/8", "::1", "192.0.2.7")
    assert Settings(forwarded_allow_ips="*").forwarded_allow_ips == ("*",)
    assert Settings().forwarded_allow_ips is None


@pytest.mark.parametrize("given", ["proxy", "10.0.0.1/8", "10.0.0", "**", "10.0.0.0/33", "::1,a"])
def test_what_is_no_address_of_a_proxy_is_refused(given: str) -> None:
    """A name could lead anywhere; a network with bits beyond its length is a slip."""
    with pytest.raises(ValidationError, match="is not an address"):
        Settings(forwarded_allow_ips=given)


def test_origins_are_as_browsers_send_them() -> None:
    """Scheme, host and port; compared as they are."""
    given = "https://app.example.org, http://localhost:3000,http://[::1]:8080,https://10.0.0.7"

    assert Settings(cors_origins=given).cors_origins == (
        "https://app.example.org",
        "http://localhost:3000",
        "http://[::1]:8080",
        "https://10.0.0.7",
    )


@pytest.mark.parametrize(
    "given",
    [
        *("*", "null", "app.example.org", "https://", "https://app.example.org/", "//a.example"),
        *("https://App.example.org", "HTTPS://app.example.org", "https://app.example.org:443"),
        *("http://localhost:80", "https://*.example.org", "https://a@b.example", "ftp://a.example"),
        *("https://a.example?b", "https://a.example#b", "https://a.example:x", "https://a b"),
        *("https://a.example\\@evil.com", "https://a.example:0", "https://ä.example"),
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(given: str) -> None:
    """It would allow nobody, or everybody."""
    with pytest.raises(ValidationError, match="is not an origin as browsers send it"):
        Settings(cors_origins=given)


@pytest.mark.parametrize("weights", ["models/erc", "http://models/erc", "s3://", "s3://a b"])
def test_weights_elsewhere_are_in_an_object_store(
    monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    monkeypatch.setenv("ERC_ENGINE__WEIGHTS", weights)

    with pytest.raises(ValidationError) as refused:
        load_settings()

    assert faults_of(refused.value) == [
        "ERC_ENGINE__WEIGHTS: is no folder of an object store: write it as s3://models/erc"
    ]


def test_weights_in_an_object_store_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM would look for safetensors in a folder of that name."""
    monkeypatch.setenv("ERC_ENGINE__WEIGHTS", "s3://models/erc-70b")
    assert load_settings().engine.weights == "s3://models/erc-70b"

    monkeypatch.setenv("ERC_ENGINE__LOAD_FORMAT", "safetensors")
    with pytest.raises(ValidationError):
        load_settings()


def test_further_arguments_are_an_object_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERC_ENGINE__ARGUMENTS", '{"num_gpu_blocks_override": 512}')
    assert load_settings().engine.arguments == {"num_gpu_blocks_override": 512}

    monkeypatch.setenv("ERC_ENGINE__ARGUMENTS", "num_gpu_blocks_override=512")
    with pytest.raises(ValidationError) as refused:
        load_settings()
    assert faults_of(refused.value)[0].startswith("ERC_ENGINE__ARGUMENTS: ")
