"""What a file of keys says, and what a broken one does not tell."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.access.keys import (
    Key,
    KeysError,
    Quota,
    Scope,
    digest,
    entry,
    hash_given,
    new_key,
    read_keys,
)

HASH = "ab" * 32
SECRET = "erc_" + "s3cret" * 8


def key(name: str = "one", **more: object) -> dict[str, object]:
    return {"id": name, "tenant": "acme", "scopes": ["read"], "sha256": HASH} | more


def written(folder: Path, *keys: dict[str, object]) -> Path:
    file = folder / "keys.json"
    file.write_text(json.dumps({"keys": list(keys)}))
    return file


def command(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "keys", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ,
    )


def test_a_key_has_256_random_bits() -> None:
    """In 43 characters that need no escape in a header."""
    made = {new_key() for _ in range(100)}

    assert len(made) == 100
    assert {len(each.removeprefix("erc_")) for each in made} == {43}


def test_what_is_printed_for_a_key_is_read_from_toml(tmp_path: Path) -> None:
    """Entries are put one after the other."""
    first = Key.model_validate(key())
    second = Key.model_validate(
        key("two", sha256="cd" * 32, scopes=["write", "admin"], not_after="2030-01-02T03:04:05Z")
    )
    file = tmp_path / "keys.toml"
    file.write_text(f"{entry(first)}\n\n{entry(second)}\n")

    assert read_keys(file) == (first, second)


def test_a_key_may_have_quotas_and_an_end(tmp_path: Path) -> None:
    """TOML has tables and moments for them."""
    file = tmp_path / "keys.toml"
    file.write_text(
        entry(Key.model_validate(key()))
        + """
not_after = 2030-01-01T00:00:00Z
[keys.quota]
requests_per_s = 0.5
burst = 10
utterances_per_min = 600
batch_utterances = 100
"""
    )

    (key_read,) = read_keys(file)

    assert key_read.scopes == {Scope.READ}
    assert key_read.not_after == datetime(2030, 1, 1, tzinfo=UTC)
    assert key_read.quota == Quota(
        requests_per_s=0.5, burst=10, utterances_per_min=600, batch_utterances=100
    )


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ([], "keys: Tuple should have at least 1 item"),
        ([key(sha256=SECRET)], "keys.0.sha256: String should match"),
        ([key(scope=["read"])], "keys.0.scope: Extra inputs are not permitted"),
        ([key() | {SECRET: 1}], "keys.0....: Extra inputs are not permitted"),
        ([key(scopes=[SECRET])], "keys.0.scopes.0: Input should be 'read', 'write' or 'admin'"),
        ([key(scopes=[])], "keys.0.scopes: "),
        ([key(tenant=f"a b {SECRET}")], "keys.0.tenant: String should match"),
        ([key(not_after="2030-01-01T00:00:00")], "keys.0.not_after: Input should have timezone"),
        ([key(quota={"burst": 5})], "burst has no effect without requests_per_s"),
        ([key(quota={"requests_per_s": 0})], "keys.0.quota.requests_per_s: "),
        ([key(), key(sha256="cd" * 32)], "two keys have the same id"),
        ([key(), key("two")], "two keys have the same sha256"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(
    tmp_path: Path, keys: list[dict[str, object]], cause: str
) -> None:
    """It may be a key, put in the place of its hash."""
    with pytest.raises(KeysError) as refused:
        read_keys(written(tmp_path, *keys))

    assert cause in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("keys.toml", f"key = {SECRET}", "keys.toml is not TOML at line 1, column 7"),
        ("keys.json", f'{{"{SECRET}" 1}}', "keys.json is not JSON at line 1 column"),
        ("keys.toml", b"\xff\xfe", "keys.toml is not TOML"),
        ("keys.json", "[" * 10_000, "keys.json is not JSON"),
        ("keys.json", f'{{"keys": [{{"{SECRET}": 1, "{SECRET}": 2}}]}}', "has a name twice"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, name: str, content: str | bytes, cause: str
) -> None:
    """With the place, not with what stands there."""
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(KeysError) as refused:
        read_keys(file)

    assert cause in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(KeysError, match=r"cannot read .*keys\.toml: No such file"):
        read_keys(tmp_path / "keys.toml")


@pytest.mark.parametrize("given", ["", "short", "ä" * 40, "a b" * 20])
def test_no_hash_is_made_of_what_can_be_no_random_key(given: str) -> None:
    """A password's hash would be found by trying."""
    with pytest.raises(KeysError):
        hash_given(given)


def test_the_command_makes_a_key_whose_entry_goes_into_the_file(tmp_path: Path) -> None:
    """The key itself is on stderr alone, so that `>>` adds the entry and nothing else."""
    made = command("new", "--tenant", "acme", "--scope", "read", "--scope", "write", "--days", "9")
    assert made.returncode == 0, made.stderr
    file = tmp_path / "keys.toml"
    file.write_text(made.stdout)
    shown = made.stderr.split()[-1]

    (key_read,) = read_keys(file)

    assert key_read.tenant == "acme"
    assert key_read.scopes == {Scope.READ, Scope.WRITE}
    assert key_read.sha256 == digest(shown).hex()
    assert key_read.not_after is not None
    assert (key_read.not_after - datetime.now(UTC)).days == 8
    assert shown not in made.stdout
    assert command("hash", given=f"{shown}\n").stdout.strip() == key_read.sha256


def test_the_command_refuses_a_name_that_a_file_would_not_take() -> None:
    """Nothing is printed that could not be read again."""
    made = command("new", "--tenant", 'a"b', "--scope", "read")

    assert made.returncode == 2
    assert "--tenant" in made.stderr
    assert made.stdout == ""
