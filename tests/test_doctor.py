"""What is wrong with a part is said, with what to do, before anybody starts the service."""

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text

from service.access.keys import Key, Scope, entry, hash_given, new_key
from service.conversation.labels import load_label_spaces
from service.demonstrations.corpus import edition_of, read_demonstrations
from service.demonstrations.encoder import IDENTITY
from service.demonstrations.qdrant_edge.store import open_edge
from service.doctor import machine as machine_module
from service.doctor.access import keys, port, rules
from service.doctor.database import database
from service.doctor.demonstrations import demonstrations
from service.doctor.disk import disk
from service.doctor.examination import examine
from service.doctor.findings import Check, as_json, as_text, check, is_well
from service.doctor.machine import machine, precision
from service.doctor.model import bundle, servers
from service.sessions.database import Database, open_database
from service.sessions.engines import transactional
from service.sessions.migrate import migrate
from service.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "build" / "bundles" / "erc-mini"
PARTS = [
    *("settings", "machine", "precision", "disk", "database", "encoder", "demonstrations"),
    *("bundle", "keys", "rules", "port"),
]

Set = Callable[..., Settings]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Set:
    """Settings of a service that keeps everything in the test's folder, with changes."""
    for name in [name for name in os.environ if name.startswith("ERC_")]:
        monkeypatch.delenv(name)
    usual = {
        "ERC_PORT": "0",
        "ERC_BUNDLE": str(BUNDLE),
        "ERC_DATABASE__URL": f"sqlite:///{tmp_path}/erc.sqlite3",
        "ERC_DEMONSTRATIONS__FOLDER": str(tmp_path / "index"),
    }

    def make(**changes: object) -> Settings:
        for name, value in (usual | changes).items():
            monkeypatch.setenv(name, str(value))
        return load_settings()

    return make


def looked_at(part: Callable[[Settings], str], settings: Settings) -> Check:
    return check("it", lambda: part(settings))


def everything_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def run(folder: Path, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`instructerc doctor` as a user runs it."""
    inherited = {name: value for name, value in os.environ.items() if name[:4] != "ERC_"}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "doctor", *options],
        cwd=folder,
        env=inherited
        | {"PYTHONPATH": str(ROOT), "ERC_BUNDLE": str(BUNDLE), "ERC_PORT": "0"}
        | changes,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_where_nothing_is_wrong_it_ends_with_status_0_and_leaves_nothing(tmp_path: Path) -> None:
    """One document on stdout, each part in its order; no table, index or folder is made."""
    done = run(tmp_path, "--json")

    rows = json.loads(done.stdout)
    assert [each["name"] for each in rows["checks"]] == PARTS
    assert [each["name"] for each in rows["checks"] if each["status"] == "failed"] == []
    assert rows["ok"] is True
    assert done.returncode == 0, done.stderr
    assert everything_in(tmp_path) == {}


def test_every_fault_is_told_and_no_secret(tmp_path: Path) -> None:
    """A part that fails hides none after it; the status is 1."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        done = run(
            tmp_path,
            ERC_PORT=str(taken.getsockname()[1]),
            ERC_DATABASE__URL="postgresql://ann:hunter2@127.0.0.1:1/erc",
            ERC_QDRANT__URL="http://ann:hunter2@127.0.0.1:1",
            ERC_QDRANT__API_KEY="hunter2",
            ERC_DIALOGUE_KEY="hunter2",
            ERC_BUNDLE="nowhere",
            ERC_KEYS_FILE="nowhere.toml",
            ERC_RULES__FILE="nowhere.toml",
        )

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    failed = [line.split()[1] for line in lines if line.startswith("failed")]
    assert failed == ["database", "demonstrations", "bundle", "keys", "rules", "port"]
    assert [line.strip()[:2] for line in lines].count("->") >= len(failed)
    assert "nothing listens at PostgreSQL at 127.0.0.1:1" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ERC_MOOD": "good"}, "unknown settings: ERC_MOOD"),
        ({"ERC_PORT": "hunter2"}, "ERC_PORT: Input should be a valid integer"),
        ({"ERC_DATABASE__URL": ""}, "ERC_DATABASE__URL: is empty: give it a value, or unset it"),
        ({"ERC_LIMITS__JOBS": "0", "ERC_TRACES": "so"}, "; ERC_LIMITS__JOBS: Input should be gr"),
    ],
)
def test_a_wrong_setting(
    given: Set, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], told: str
) -> None:
    """The machine is looked at all the same; the value is not told."""
    given()
    for name, value in changes.items():
        monkeypatch.setenv(name, value)

    findings = list(examine())

    assert [each.name for each in findings] == PARTS[:3]
    assert findings[0].status == "failed"
    assert told in findings[0].detail
    assert "hunter2" not in as_json(findings)
    assert findings[0].remedy.endswith("Checks that depend on settings were skipped")


def test_the_log_is_as_the_settings_have_it(tmp_path: Path) -> None:
    """By whichever spelling of the variable's name; at any other level it is for errors alone."""
    look = (
        "import logging; from service import cli; from service.doctor import examination;"
        "examination.examine = lambda **_: iter(());"
        "cli.doctor(in_json=False, engine=False); print(logging.getLogger().level)"
    )
    levels = [
        subprocess.run(
            [sys.executable, "-c", look],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | changes,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for changes in (
            {"ERC_LOG_LEVEL": "debug"},
            {"erc_log_level": "debug"},
            {"ERC_LOG_LEVEL": "warning"},
            {"ERC_LOG_LEVEL": "debug", "ERC_PORT": "none"},
        )
    ]

    assert levels == ["10", "10", "40", "40"]


def test_the_settings_that_are_given_are_named(given: Set) -> None:
    given(ERC_QDRANT__API_KEY="hunter2")

    first = next(examine())

    assert first.detail == (
        "ERC_BUNDLE, ERC_DATABASE__URL, ERC_DEMONSTRATIONS__FOLDER, ERC_PORT, ERC_QDRANT__API_KEY"
    )


def test_a_machine_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a warning: somebody may have a smaller model."""
    monkeypatch.setattr(machine_module, "memory_bytes", lambda: 2**30)

    finding = check("machine", machine)

    assert finding.status == "warning"
    assert finding.detail.endswith("1.0 GiB of memory")
    assert finding.remedy.startswith("give it at least 3 GiB")


@pytest.mark.parametrize(
    ("processor", "but"),
    [
        ("riscv64", "nobody has tried another machine"),
        ("aarch64", "packages for this machine exist, but nobody has tried it"),
    ],
)
def test_another_kind_of_machine(monkeypatch: pytest.MonkeyPatch, processor: str, but: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: processor)

    finding = check("machine", machine)

    assert (finding.status, finding.remedy) == ("warning", f"run it on Linux (x86-64): {but}")


def test_a_processor_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computes in float32; told to compute in bfloat16 it emulates that."""
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"cpu_name": "Old One"})

    finding = check("precision", precision)
    told = check("precision", lambda: precision("bfloat16"))

    assert finding.status == "ok"
    assert finding.detail.endswith("on the CPU (Old One), float32, because bfloat16 is not native")
    assert (told.status, told.remedy) == ("warning", "unset ERC_ENGINE__DTYPE")
    assert told.detail.endswith("(Old One), bfloat16, which is emulated and slow")


def test_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before vLLM is asked for its GPU, which it would find and then not be able to use."""
    fault = ("the NVIDIA driver 550.54.15 is for CUDA 12.4", "install a driver of branch R580")
    monkeypatch.setattr("service.doctor.machine.driver_fault", lambda: fault)

    found = check("precision", precision)

    assert (found.status, found.detail, found.remedy) == ("failed", *fault)


def test_the_precision_is_the_settings(given: Set) -> None:
    given(ERC_ENGINE__DTYPE="float32")

    finding = {check.name: check for check in examine()}["precision"]

    assert (finding.status, finding.detail.endswith(", float32")) == ("ok", True)


def test_no_vllm(tmp_path: Path) -> None:
    """A library that is built for another machine cannot be imported either."""
    (tmp_path / "vllm.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    look = (
        "from service.doctor.findings import check; from service.doctor.machine import precision;"
        "print(check('precision', precision))"
    )

    done = subprocess.run(
        [sys.executable, "-c", look],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "vLLM cannot be imported: libcudart.so.12: cannot open" in done.stdout
    assert "install requirements/cpu.txt or, with a GPU, requirements/gpu.txt" in done.stdout


def test_a_folder_that_cannot_be_made(tmp_path: Path, given: Set) -> None:
    """Each place is looked at, and each variable named."""
    (tmp_path / "file").touch()

    finding = looked_at(
        disk,
        given(
            ERC_DATABASE__URL=f"sqlite:///{tmp_path}/file/erc.sqlite3",
            ERC_DEMONSTRATIONS__FOLDER=tmp_path / "file" / "index",
        ),
    )

    assert finding.status == "failed"
    assert finding.detail == f"{tmp_path}/file is not a folder"
    assert "set ERC_DATABASE__URL to another path" in finding.remedy
    assert "set ERC_DEMONSTRATIONS__FOLDER to another path" in finding.remedy


def test_a_disk_with_little_room(tmp_path: Path, given: Set) -> None:
    given()

    finding = on_a_file_system(tmp_path, "size=1m")

    assert finding["status"] == "failed"
    assert f"0.0 GiB free in {tmp_path}" in finding["detail"]
    assert finding["remedy"].startswith("free some space")


def test_a_disk_with_no_inode(tmp_path: Path, given: Set) -> None:
    given()

    finding = on_a_file_system(tmp_path, "nr_inodes=1")

    assert f"no file can be added in {tmp_path}: no inode is free" in finding["detail"]


def test_a_disk_that_is_read_only(tmp_path: Path, given: Set) -> None:
    given()

    finding = on_a_file_system(tmp_path, "ro")

    assert f"{tmp_path} is on a read-only file system" in finding["detail"]


def on_a_file_system(folder: Path, options: str) -> Any:
    """What is found of the disk where a folder is a file system of its own, for one process."""
    alone = ["unshare", "--mount", "sh", "-ec"]
    mounted = f"mount -t tmpfs -o {options} none {folder}"
    if subprocess.run([*alone, mounted], capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    look = (
        "from service.doctor.findings import check; from service.doctor.disk import disk;"
        "from service.settings import load_settings; import dataclasses, json;"
        "print(json.dumps(dataclasses.asdict(check('disk', lambda: disk(load_settings())))))"
    )
    done = subprocess.run(
        [*alone, f'{mounted} && cd "$0" && exec "$@"', str(ROOT), sys.executable, "-c", look],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


async def prepared(url: str, *statements: str, version: str | None = None) -> None:
    """A database with the tables, and what statements make of it."""
    opened = open_database(url)
    if version is None:
        await migrate(opened)
    else:
        await to_version(opened, version)
    async with transactional(opened.engine).begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await opened.close()


async def to_version(opened: Database, version: str) -> None:
    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", "service.sessions:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, version)

    async with transactional(opened.engine).begin() as connection:
        await connection.run_sync(upgrade)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/erc.sqlite3"
    server_url: str = request.getfixturevalue("postgres_url")
    return server_url


def newest() -> str:
    versions = (ROOT / "service" / "sessions" / "migrations" / "versions").glob("0*.py")
    return max(path.name for path in versions)[:4]


def test_a_new_database(given: Set, url: str, tmp_path: Path) -> None:
    """No fault, and nothing is made."""
    finding = looked_at(database, given(ERC_DATABASE__URL=url))

    assert finding.status == "ok"
    assert "yet: a start creates" in finding.detail
    assert everything_in(tmp_path) == {}


def test_a_database_with_the_newest_tables(given: Set, url: str) -> None:
    asyncio.run(prepared(url))

    finding = looked_at(database, given(ERC_DATABASE__URL=url))

    assert finding.status == "ok"
    assert finding.detail.endswith(f" has the newest tables ({newest()}) and can be written to")


def test_an_older_database(given: Set, url: str, tmp_path: Path) -> None:
    """It is a warning, as a start changes it; this does not."""
    asyncio.run(prepared(url, version="0006"))
    before = everything_in(tmp_path)

    finding = looked_at(database, given(ERC_DATABASE__URL=url))

    assert finding.status == "warning"
    assert finding.detail.endswith(f" has tables of an older version (0006, not {newest()})")
    assert finding.remedy == "make a backup, then run `instructerc migrate` or start the service"
    assert everything_in(tmp_path) == before


def test_a_newer_database(given: Set, url: str) -> None:
    asyncio.run(prepared(url, "UPDATE sessions_version SET version_num = '9999'"))

    finding = looked_at(database, given(ERC_DATABASE__URL=url))

    assert finding.status == "failed"
    assert f"of a newer version of this program (9999, not {newest()})" in finding.detail
    assert finding.remedy.startswith("start that version, or restore a backup")


def test_a_database_that_lacks_a_table(given: Set, url: str) -> None:
    asyncio.run(prepared(url, "DROP TABLE job_results"))

    finding = looked_at(database, given(ERC_DATABASE__URL=url))

    assert (finding.status, finding.remedy) == ("failed", "restore a backup")
    assert finding.detail.endswith("lacks the tables job_results")


def test_a_database_of_another_program(given: Set, url: str) -> None:
    opened = open_database(url)

    async def make() -> None:
        async with transactional(opened.engine).begin() as connection:
            await connection.execute(text("CREATE TABLE jobs (name TEXT)"))
        await opened.close()

    asyncio.run(make())

    finding = looked_at(database, given(ERC_DATABASE__URL=url))

    assert finding.status == "failed"
    assert finding.detail.endswith("has tables of another program: jobs")


def test_a_sqlite_file_that_is_locked(given: Set, tmp_path: Path) -> None:
    """For longer than two seconds."""
    url = f"sqlite:///{tmp_path}/erc.sqlite3"
    asyncio.run(prepared(url))
    with closing(sqlite3.connect(tmp_path / "erc.sqlite3")) as other:
        other.execute("BEGIN IMMEDIATE")
        finding = looked_at(database, given())

    assert finding.status == "failed"
    assert "erc.sqlite3 is locked by another process or a long transaction" in finding.detail
    assert finding.remedy == "find out who has it open (`fuser FILE`)"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: file.mkdir(), "is a folder"),
        (lambda file: file.write_text("not a database " * 100), "is not a SQLite database"),
        (lambda file: file.symlink_to(file.parent / "away" / "there"), "cannot be "),
    ],
)
def test_a_sqlite_file_that_is_none(
    given: Set, tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    make(tmp_path / "erc.sqlite3")

    finding = looked_at(database, given())

    assert finding.status == "failed"
    assert finding.detail.startswith(f"the SQLite file {tmp_path}/erc.sqlite3 {told}")
    assert "ERC_DATABASE__URL" in finding.remedy


@pytest.mark.parametrize(
    "url",
    ["hunter2", "mysql://ann:hunter2@db/erc", "sqlite:///:memory:", "postgresql://ann:hunter2@db",
     "sqlite:///a/b.sqlite3?mode=hunter2", "postgresql://ann:hunter2@db:hunter2/erc"],
)  # fmt: skip
def test_a_url_of_no_database(given: Set, url: str) -> None:
    finding = looked_at(database, given(ERC_DATABASE__URL=url))

    assert finding.status == "failed"
    assert finding.detail.startswith("ERC_DATABASE__URL: ")
    assert "ERC_DATABASE__URL" in finding.remedy or finding.remedy.startswith("write it as ")
    assert "hunter2" not in as_text(finding)


def test_a_role_that_may_not_write(postgres: Any, postgres_url: str, given: Set) -> None:
    """The tables are there, and another role's."""
    asyncio.run(prepared(postgres_url))
    postgres.psql("CREATE ROLE reader LOGIN")
    try:
        url = postgres_url.replace("//postgres:@", "//reader:@")
        assert "reader" in url
        finding = looked_at(database, given(ERC_DATABASE__URL=url))
    finally:
        postgres.psql("DROP ROLE reader")

    assert finding.status == "failed"
    assert (
        'denies role "reader" a privilege that it needs (permission denied for table'
        in finding.detail
    )


def test_a_role_that_may_not_make_tables(postgres: Any, postgres_url: str, given: Set) -> None:
    """Of a new database: nothing is tried."""
    postgres.psql("CREATE ROLE reader LOGIN")
    try:
        url = postgres_url.replace("//postgres:@", "//reader:@")
        finding = looked_at(database, given(ERC_DATABASE__URL=url))
    finally:
        postgres.psql("DROP ROLE reader")

    assert finding.status == "failed"
    assert finding.detail.endswith('this role may not create tables in the schema "public"')
    assert finding.remedy.startswith("GRANT CREATE on it")


def test_a_database_that_is_read_only(postgres: Any, postgres_url: str, given: Set) -> None:
    """As a standby's is."""
    asyncio.run(prepared(postgres_url))
    name = make_url(postgres_url).database
    postgres.psql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    finding = looked_at(database, given(ERC_DATABASE__URL=postgres_url))

    assert finding.detail.endswith("cannot be written to, as on a standby")
    assert finding.remedy == "set ERC_DATABASE__URL to the primary"


def test_tables_that_are_locked(postgres_url: str, given: Set) -> None:
    settings = given(ERC_DATABASE__URL=postgres_url)

    async def hold() -> Check:
        await prepared(postgres_url)
        opened = open_database(postgres_url)
        async with transactional(opened.engine).begin() as connection:
            await connection.execute(text("LOCK TABLE dialogues IN EXCLUSIVE MODE"))
            finding = await asyncio.to_thread(looked_at, database, settings)
        await opened.close()
        return finding

    finding = asyncio.run(hold())

    assert finding.status == "failed"
    assert "could not get a statement's locks in time" in finding.detail


def shipped_edition() -> str:
    spaces = load_label_spaces(ROOT / "data" / "label_spaces")
    return edition_of(read_demonstrations(ROOT / "data" / "demonstrations.jsonl", spaces), IDENTITY)


async def index_in(
    folder: Path,
    encoder: str = IDENTITY,
    meanwhile: Callable[[], Check] | None = None,
    edition: str | None = None,
) -> Check | None:
    """Make an index, of no demonstration, and look at it while it is open."""
    store = await open_edge(folder, encoder)
    if edition is not None:
        await store.finish_edition(edition)
    finding = None if meanwhile is None else await asyncio.to_thread(meanwhile)
    await store.close()
    return finding


@pytest.mark.parametrize("exists", [False, True])
def test_no_index_yet(given: Set, tmp_path: Path, exists: bool) -> None:
    """An empty folder stays empty."""
    if exists:
        (tmp_path / "index").mkdir()
    before = everything_in(tmp_path)

    finding = looked_at(demonstrations, given())

    assert finding.status == "ok"
    assert "has no index yet: a start builds it" in finding.detail
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("name", ["shard-backup", "shards.txt", "shard.new"])
def test_a_folder_with_files_of_similar_names_is_no_index(
    given: Set, tmp_path: Path, name: str
) -> None:
    """What is no shard is left alone, and no card is written beside it."""
    (tmp_path / "index" / name).mkdir(parents=True)
    before = everything_in(tmp_path)

    finding = looked_at(demonstrations, given())

    assert (finding.status, "has no index yet" in finding.detail) == ("ok", True), finding
    assert everything_in(tmp_path) == before


def test_an_index_of_what_ships(given: Set, tmp_path: Path) -> None:
    asyncio.run(index_in(tmp_path / "index", edition=shipped_edition()))
    before = everything_in(tmp_path)

    finding = looked_at(demonstrations, given())

    assert finding.status == "ok"
    assert finding.detail.startswith(f"{tmp_path}/index has the index of ")
    assert everything_in(tmp_path) == before


def test_an_index_of_another_edition(given: Set, tmp_path: Path) -> None:
    asyncio.run(index_in(tmp_path / "index", edition="another"))

    finding = looked_at(demonstrations, given())

    assert finding.status == "ok"
    assert "has an index of another edition: a start" in finding.detail


def test_an_index_that_another_process_has_open(given: Set, tmp_path: Path) -> None:
    settings = given()

    finding = asyncio.run(
        index_in(tmp_path / "index", meanwhile=lambda: looked_at(demonstrations, settings))
    )

    assert finding is not None
    assert finding.status == "failed"
    assert f"{tmp_path}/index is open in another process" in finding.detail


def test_an_index_of_another_encoder(given: Set, tmp_path: Path) -> None:
    asyncio.run(index_in(tmp_path / "index", encoder="another@0"))

    finding = looked_at(demonstrations, given())

    assert finding.status == "failed"
    assert f"was built with another@0, but the encoder is {IDENTITY}" in finding.detail
    assert finding.remedy == f"delete {tmp_path}/index to build it again"


@pytest.mark.parametrize("spoil", ["card", "lost card", "shard", "lost shard", "file"])
def test_an_index_that_is_broken(given: Set, tmp_path: Path, spoil: str) -> None:
    index = tmp_path / "index"
    asyncio.run(index_in(index, edition=shipped_edition()))
    match spoil:
        case "card":
            (index / "index.json").write_text("{")
        case "lost card":
            (index / "index.json").unlink()
        case "shard":
            (index / "shard").rename(index / f"shard-{uuid.uuid4()}")
        case "lost shard":
            shutil.rmtree(index / "shard")
        case _:
            shutil.rmtree(index)
            index.touch()

    finding = looked_at(demonstrations, given())

    assert finding.status == "failed"
    assert str(index) in finding.detail
    assert finding.remedy


def test_demonstrations_that_cannot_be_read(given: Set, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"id": 1}\n')

    finding = looked_at(demonstrations, given(ERC_DEMONSTRATIONS__FILE=tmp_path / "own.jsonl"))

    assert finding.detail.startswith(f"{tmp_path}/own.jsonl:1: id: must be text")
    assert finding.remedy == "correct the file, or ERC_DEMONSTRATIONS__FILE"


def test_a_file_of_demonstrations_that_is_a_folder(given: Set, tmp_path: Path) -> None:
    finding = looked_at(demonstrations, given(ERC_DEMONSTRATIONS__FILE=tmp_path))

    assert finding.detail == f"{tmp_path}: Is a directory"


def test_no_label_spaces(given: Set, tmp_path: Path) -> None:
    finding = looked_at(demonstrations, given(ERC_DATA=tmp_path))

    assert finding.detail == f"{tmp_path}/label_spaces has no unified.toml"
    assert finding.remedy == "set ERC_DATA to the data folder"


@contextmanager
def qdrant(status: int, *answers: object) -> Iterator[str]:
    """A server that gives these answers to one request after the other."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = json.dumps(left.pop(0) if left else {}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def held(payload: object) -> dict[str, object]:
    return {"result": payload, "status": "ok", "time": 0.0}


def collection(**metadata: str) -> dict[str, object]:
    """As Qdrant describes one."""
    params = {"vectors": {"size": 384, "distance": "Cosine"}}
    config = {
        "params": params,
        "metadata": metadata,
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "flush_interval_sec": 5,
        },
    }
    return held(
        {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "config": config,
            "payload_schema": {},
        }
    )


@pytest.mark.parametrize(
    ("status", "answers", "told", "remedy"),
    [
        (200, [held({"exists": False})], "has no collection demonstrations yet", ""),
        (
            200,
            [held({"exists": True}), collection(encoder=IDENTITY, edition="{edition}")],
            f"demonstrations, built with {IDENTITY}",
            "",
        ),
        (
            200,
            [held({"exists": True}), collection(encoder=IDENTITY)],
            "of another edition: a start indexes",
            "",
        ),
        (
            200,
            [held({"exists": True}), collection(encoder="another@0")],
            f"was built with another@0, but the encoder is {IDENTITY}",
            "set ERC_QDRANT__COLLECTION to another collection",
        ),
        (
            200,
            [held({"exists": True}), collection()],
            "was built with an unknown encoder",
            "set ERC_QDRANT__COLLECTION to another collection",
        ),
        (401, [], "refuses the key", "check ERC_QDRANT__API_KEY"),
        (403, [], "refuses the key", "check ERC_QDRANT__API_KEY"),
        (500, [], "answers with status 500", "see its log; check ERC_QDRANT__URL"),
        (
            200,
            [{"a": "web page"}],
            "cannot be reached: ",
            "check that it is running; check ERC_QDRANT__URL",
        ),
    ],
)
def test_a_qdrant_server(
    given: Set, status: int, answers: list[Any], told: str, remedy: str
) -> None:
    """Where the collection is not there, a start makes it."""
    written = json.dumps(answers).replace("{edition}", shipped_edition())
    with qdrant(status, *json.loads(written)) as url:
        finding = looked_at(demonstrations, given(ERC_QDRANT__URL=url))

    assert told in finding.detail
    assert url.removeprefix("http://") in finding.detail
    assert finding.status == ("failed" if remedy else "ok")
    assert finding.remedy.startswith(remedy)


@pytest.mark.parametrize("grpc", ["true", "false"])
def test_a_qdrant_server_that_is_away(given: Set, grpc: str) -> None:
    finding = looked_at(
        demonstrations,
        given(ERC_QDRANT__URL="http://ann:hunter2@127.0.0.1:1", ERC_QDRANT__PREFER_GRPC=grpc),
    )

    assert finding.status == "failed"
    assert finding.detail.startswith("Qdrant at 127.0.0.1:1 cannot be reached: ")
    assert "hunter2" not in as_text(finding)


def test_what_a_client_says_of_a_qdrant_server_holds_no_secret(
    given: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries repeat the address that they were given, and what was sent along."""

    async def fails(*_: object) -> bool:
        raise RuntimeError("http://ann:hunter2@db:1 with api-key: hunter2")

    monkeypatch.setattr("qdrant_client.AsyncQdrantClient.collection_exists", fails)

    finding = looked_at(demonstrations, given(ERC_QDRANT__URL="http://127.0.0.1:1"))

    assert "cannot be reached: http://***@db:1 with api-key: ***" in finding.detail


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A bundle to spoil."""
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


def test_a_bundle_that_is_whole(given: Set) -> None:
    finding = looked_at(bundle, given())

    assert finding.status == "ok"
    assert finding.detail.startswith(f"erc-mini 5 in {BUNDLE}, ")


def test_a_bundle_whose_weights_servers_have(given: Set, copied: Path) -> None:
    """Everything else of it is needed here."""
    (copied / "model.safetensors").unlink()
    settings = given(ERC_BUNDLE=copied, ERC_ENGINE__URLS="http://127.0.0.1:9")

    assert looked_at(bundle, settings).status == "ok"
    (copied / "tokenizer.json").unlink()
    assert looked_at(bundle, settings).status == "failed"


def test_servers_that_are_away(given: Set) -> None:
    """Each is named, and the precision of this machine does not matter."""
    settings = given(ERC_ENGINE__URLS="http://127.0.0.1:9,http://127.0.0.2:9")

    found = looked_at(servers, settings)

    assert found.status == "failed"
    assert "127.0.0.1:9 cannot be reached; 127.0.0.2:9 cannot be reached" in found.detail
    assert found.remedy == "see docs/engines.md"
    names = [each.name for each in examine()]
    assert "servers" in names
    assert "precision" not in names


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: shutil.rmtree(folder), "bundle: there is no such folder"),
        (lambda folder: (folder / "bundle.json").write_text("{}"), "bundle.json: format: Field re"),
        (lambda folder: (folder / "model.safetensors").unlink(), "bundle: contains no weights"),
        (
            lambda folder: os.truncate(folder / "model.safetensors", 1_000_000),
            "bundle/model.safetensors: has 1000000 bytes of ",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs"),
            "bundle/model.safetensors: is a git-lfs pointer",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model-2.safetensors"}}'
            ),
            "bundle/model-2.safetensors: No such file",
        ),
        (lambda folder: (folder / "config.json").unlink(), "bundle/config.json: No such file"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: is not JSON"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "er.json: is not JSON"),
        (
            lambda folder: (folder / "bundle.json").write_text(
                (folder / "bundle.json").read_text().replace(IDENTITY, "another@0")
            ),
            f"was trained with encoder another@0, but the service has {IDENTITY}",
        ),
        (
            lambda folder: (folder / "bundle.json").write_text(
                (folder / "bundle.json").read_text().replace('"meld"', '"weld"')
            ),
            "label space 'weld' is not one of",
        ),
    ],
)
def test_a_bundle_that_is_broken(
    given: Set, copied: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(copied)

    finding = looked_at(bundle, given(ERC_BUNDLE=copied))

    assert finding.status == "failed"
    assert told in finding.detail
    assert finding.remedy.endswith("set ERC_BUNDLE to another bundle")


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        ("rules = []\n[endpoints]\n", "ok", "0 rules and 0 endpoints in "),
        ('[[rules]]\nname = "a"\nlabel = 1', "failed", "rules.a.label: "),
        ('"""hunter2', "failed", "rules.toml is not TOML"),
        (None, "ok", "none"),
    ],
)
def test_a_file_of_rules(
    given: Set, tmp_path: Path, content: str | None, status: str, told: str
) -> None:
    changes = {}
    if content is not None:
        changes["ERC_RULES__FILE"] = tmp_path / "rules.toml"
        (tmp_path / "rules.toml").write_text(content)

    finding = looked_at(rules, given(**changes))

    assert finding.status == status
    assert told in finding.detail
    assert '"hunter2' not in as_text(finding)


def a_key(**changes: Any) -> str:
    held = {"id": "a", "tenant": "a", "scopes": {Scope.READ}, "sha256": hash_given(new_key())}
    return entry(Key.model_validate(held | changes))


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (a_key(), "ok", "1 of 1 in "),
        (a_key() + "\n" + a_key(id="b", not_after="2020-01-01T00:00:00Z"), "ok", "1 of 2 in "),
        (a_key(not_after="2020-01-01T00:00:00Z"), "warning", "all of the 1 keys in "),
        ("", "failed", "keys: Field required"),
        ("[[keys]", "failed", "keys.toml is not TOML at line 1"),
        ('[[keys]]\nid = "erc_hunter2"\n', "failed", "tenant: Field required"),
    ],
)
def test_a_file_of_keys(given: Set, tmp_path: Path, content: str, status: str, told: str) -> None:
    (tmp_path / "keys.toml").write_text(content)

    finding = looked_at(keys, given(ERC_KEYS_FILE=tmp_path / "keys.toml"))

    assert finding.status == status
    assert told in finding.detail
    assert bool(finding.remedy) == (status != "ok")
    assert "hunter2" not in as_text(finding)


@pytest.mark.parametrize(
    ("mode", "folder_mode", "remedy"),
    [
        (0o644, 0o775, ""),
        (0o664, 0o775, ""),
        (0o666, 0o755, "chmod o-w {folder}/keys.toml"),
        (0o644, 0o777, "chmod o-w {folder}"),
    ],
)
def test_a_file_of_keys_that_anybody_may_write(
    given: Set, tmp_path: Path, mode: int, folder_mode: int, remedy: str
) -> None:
    """Who may write to it makes a key for himself; the start warns of the very same files."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "keys.toml").write_text(a_key())
    (folder / "keys.toml").chmod(mode)
    folder.chmod(folder_mode)

    finding = looked_at(keys, given(ERC_KEYS_FILE=folder / "keys.toml"))

    assert finding.status == ("warning" if remedy else "ok")
    assert finding.remedy == remedy.format(folder=folder)


@pytest.mark.parametrize(
    ("changes", "status", "told", "remedy"),
    [
        ({}, "ok", "none needed: only this machine can reach 127.0.0.1", ""),
        ({"ERC_HOST": "0.0.0.0"}, "failed", "there are no keys", "set ERC_KEYS_FILE (`instruct"),
        (
            {"ERC_HOST": "0.0.0.0", "ERC_ALLOW_ANONYMOUS": "true"},
            "warning",
            "anybody who can reach 0.0.0.0 may do anything",
            "set ERC_KEYS_FILE instead of",
        ),
        ({"ERC_KEYS_FILE": "away.toml"}, "failed", "cannot read away.toml: No such f", "correct"),
    ],
)
def test_no_keys(given: Set, changes: dict[str, str], status: str, told: str, remedy: str) -> None:
    finding = looked_at(keys, given(**changes))

    assert (finding.status, told in finding.detail) == (status, True), finding
    assert finding.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1", "Address already in use"),
        ("203.0.113.1", "Cannot assign requested address"),
        ("away.invalid", "cannot listen on away.invalid:"),
        ("ä" * 70, "not a host name"),
    ],
)
def test_a_port_that_cannot_be_had(given: Set, host: str, told: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        number = taken.getsockname()[1]
        finding = looked_at(port, given(ERC_HOST=host, ERC_PORT=number))

    assert finding.status == "failed"
    assert told in finding.detail
    assert f"cannot listen on {host}:{number}: " in finding.detail


def test_a_part_that_nobody_foresaw_to_fail_so() -> None:
    """The others are looked at all the same; what it said may be anything."""

    def look() -> str:
        raise TypeError("hunter2")

    finding = check("it", look)

    assert finding.detail == "the check itself failed (builtins.TypeError)"
    assert finding.remedy == "set ERC_LOG_LEVEL=debug and see the whole error in the log"


def test_warnings_keep_nothing_from_starting() -> None:
    assert is_well([Check("a", "ok", ""), Check("b", "warning", "")])
    assert not is_well([Check("a", "failed", ""), Check("b", "ok", "")])
