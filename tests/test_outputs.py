"""What a command may write: new things, what it made itself, and what a user says may go."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from service.files import OutputError
from service.outputs import (
    CONTENTS,
    Made,
    check_begun,
    check_file,
    check_files,
    check_folder,
    made_folder,
    rewritten,
)


def unlisted(folder: Path) -> Iterable[str]:
    return ("card.json", "weights") if (folder / "card.json").is_file() else ()


MADE = Made("program make", unlisted)


def tree(folder: Path) -> dict[str, str]:
    """All files by path, and what they hold; folders and links by what they are."""
    return {
        path.relative_to(folder).as_posix(): f"-> {path.readlink()}"
        if path.is_symlink()
        else path.read_text()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder as the command makes it."""
    with made_folder(tmp_path / "made", MADE) as folder:
        (folder / "weights").write_text("1 2 3")
        (folder / "inner").mkdir()
        (folder / "inner" / "more").write_text("4")
    return tmp_path / "made"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A user's folder."""
    folder = tmp_path / "notes"
    (folder / "drafts").mkdir(parents=True)
    (folder / "drafts" / "one.txt").write_text("mine")
    (folder / "todo.txt").write_text("mine")
    return folder


@pytest.mark.parametrize("name", ["new", "new/inner", "empty"])
def test_new_or_empty_folder_may_be_made(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    check_folder(tmp_path / name, MADE)


def test_folder_that_the_command_made_is_replaced(made: Path) -> None:
    check_folder(made, MADE)
    with made_folder(made, MADE) as folder:
        (folder / "weights").write_text("5")

    assert tree(made).keys() == {"weights", CONTENTS}


def test_users_folder_is_refused(notes: Path) -> None:
    """The error names the folder, something in it, and the way out."""
    before = tree(notes)

    with pytest.raises(OutputError) as refused:
        check_folder(notes, MADE)

    assert str(refused.value) == (
        f"{notes}: contains drafts/one.txt, which `program make` did not write; name another "
        "folder, or replace it with all its contents: --force"
    )
    assert tree(notes) == before


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "inner/notes.txt", "empty/", "link"])
def test_anything_added_to_what_the_command_made_is_a_users(name: str, made: Path) -> None:
    """A file, also a hidden one or one further down, an empty folder, a link."""
    path = made / name
    if name.endswith("/"):
        path.mkdir()
    elif name == "link":
        path.symlink_to("weights")
    else:
        path.write_text("mine")

    with pytest.raises(OutputError, match=f"contains {name.rstrip('/')}, which `program make` did"):
        check_folder(made, MADE)


def test_anything_changed_in_what_the_command_made_is_a_users(made: Path) -> None:
    """Even where its length is the same."""
    (made / "weights").write_text("3 2 1")

    with pytest.raises(
        OutputError, match="contains weights, which has changed since `program make`"
    ):
        check_folder(made, MADE)


def test_file_that_a_user_linked_to_is_a_users(made: Path) -> None:
    """Though it contains what the command wrote, as where it was moved to another disk."""
    (made / "weights").rename(made.parent / "weights")
    (made / "weights").symlink_to(made.parent / "weights")

    with pytest.raises(OutputError, match="contains weights, which"):
        check_folder(made, MADE)


def test_file_that_a_command_wrote_anew_is_the_commands(made: Path) -> None:
    (made / "weights").write_text("3 2 1")
    rewritten(made, "weights")

    check_folder(made, MADE)


def test_nothing_is_noted_where_no_contents_are_listed(notes: Path) -> None:
    before = tree(notes)

    rewritten(notes, "todo.txt")

    assert tree(notes) == before


def test_file_that_a_user_removed_is_not_missed(made: Path) -> None:
    (made / "weights").unlink()

    check_folder(made, MADE)


def test_what_another_command_made_is_refused(made: Path) -> None:
    problem = "contains what `program make` wrote; name another folder"
    with pytest.raises(OutputError, match=problem):
        check_folder(made, Made("program bake", unlisted))


@pytest.mark.parametrize(
    "contents", ["", "{", "[]", '{"by": "program make"}', '{"by": 1, "files": {"todo.txt": ""}}']
)
def test_users_file_of_the_same_name_is_no_list_of_contents(contents: str, notes: Path) -> None:
    (notes / CONTENTS).write_text(contents)

    with pytest.raises(OutputError, match="which `program make` did not write"):
        check_folder(notes, MADE)


def test_list_of_contents_is_read_as_data(notes: Path) -> None:
    """Hashes that are not those of the files show that the command did not write them."""
    files = {"todo.txt": 1, "drafts/one.txt": None, "../made/weights": "x"}
    (notes / CONTENTS).write_text(json.dumps({"by": "program make", "files": files}))

    with pytest.raises(OutputError, match="has changed since"):
        check_folder(notes, MADE)


def test_folder_without_a_list_is_known_by_its_files(tmp_path: Path) -> None:
    """As long as nothing else is in it."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    for name in ("card.json", "weights"):
        (folder / name).touch()

    check_folder(folder, MADE)
    (folder / "notes.txt").touch()

    with pytest.raises(OutputError, match=r"contains notes\.txt"):
        check_folder(folder, MADE)


def test_force_replaces_and_says_what(notes: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_folder(notes, MADE, force=True)
    with made_folder(notes, MADE, force=True) as folder:
        (folder / "weights").touch()

    assert f"{notes}: will be replaced because of --force, with drafts/, todo.txt" in caplog.text
    assert tree(notes).keys() == {"weights", CONTENTS}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("target", "read", "why"),
    [
        ("made", "made", "is read by this command"),
        ("made", "made/../made", "is read by this command"),
        ("notes/..", "made", "contains .*made, which"),
        ("made", "made/weights", "contains .*weights, which"),
        ("made", "made/inner", "contains .*inner, which"),
        ("made", "linked", "is read by this command"),
        ("made", "linked/inner", "contains .*linked/inner, which"),
    ],
)
def test_what_is_read_is_never_replaced(
    force: bool, target: str, read: str, why: str, made: Path, notes: Path, tmp_path: Path
) -> None:
    """Nor a folder that holds it, under whatever names, and whatever a user says."""
    (tmp_path / "linked").symlink_to("made")
    before = tree(tmp_path)

    with pytest.raises(OutputError, match=why):
        check_folder(tmp_path / target, MADE, [tmp_path / read, notes], force=force)

    assert tree(tmp_path) == before


def test_part_of_what_is_read_is_not_replaced_by_force(notes: Path) -> None:
    """But a new folder may be made in it."""
    check_folder(notes / "made", MADE, [notes], force=True)
    with pytest.raises(OutputError, match=r"is part of .*notes, which this"):
        check_folder(notes / "drafts", MADE, [notes], force=True)


def test_folder_that_somebody_stands_in_is_not_replaced(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their shell would be in one that is no more."""
    monkeypatch.chdir(made)

    for target in (Path(), Path("../made"), made):
        with pytest.raises(OutputError, match="is the folder in which this command was started"):
            check_folder(target, MADE, force=True)


def test_what_is_mounted_is_not_replaced() -> None:
    with pytest.raises(OutputError, match="/proc: is a mount point"):
        check_folder(Path("/proc"), MADE, force=True)


def test_what_a_user_adds_meanwhile_stays(made: Path) -> None:
    """A merge takes minutes."""
    check_folder(made, MADE)

    with (  # noqa: PT012, the block is what fails
        pytest.raises(OutputError, match=r"contains notes\.txt, .*; nothing is replaced"),
        made_folder(made, MADE) as folder,
    ):
        (folder / "weights").touch()
        (made / "notes.txt").write_text("mine")

    assert (made / "notes.txt").read_text() == "mine"
    assert (made / "weights").read_text() == "1 2 3"


def test_new_file_may_be_written(tmp_path: Path) -> None:
    check_file(tmp_path / "new.txt", [tmp_path])


def test_file_that_is_there_is_refused(notes: Path) -> None:
    """The error names the way out, where there is one."""
    with pytest.raises(OutputError) as refused:
        check_file(notes / "todo.txt")
    with pytest.raises(OutputError) as never:
        check_file(notes / "todo.txt", force=None)

    message = f"{notes / 'todo.txt'}: already exists; name another file, or"
    assert str(refused.value) == f"{message} replace it: --force"
    assert str(never.value) == f"{message} move it away"


def test_force_replaces_a_file_and_says_so(notes: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_file(notes / "todo.txt", force=True)

    assert f"{notes / 'todo.txt'}: will be replaced because of --force" in caplog.text


@pytest.mark.parametrize(
    "read", ["notes/todo.txt", "notes/../notes/todo.txt", "notes", "linked", "same"]
)
def test_file_that_is_read_is_never_replaced(read: str, notes: Path, tmp_path: Path) -> None:
    """Nor one in a folder that is read, or under another name."""
    (tmp_path / "linked").symlink_to("notes/todo.txt")
    os.link(notes / "todo.txt", tmp_path / "same")

    with pytest.raises(OutputError, match=r"todo\.txt: is (read|part)"):
        check_file(notes / "todo.txt", [tmp_path / read], force=True)


def test_file_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*none"):
        check_file(tmp_path / "none" / "new.txt")


@pytest.mark.parametrize(("name", "why"), [("notes", "is a folder"), ("linked", "is a link to")])
def test_only_a_file_is_replaced_by_force(name: str, why: str, notes: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to("notes/todo.txt")

    with pytest.raises(OutputError, match=why):
        check_file(tmp_path / name, force=True)


def test_several_files_may_be_written_into_one_folder(notes: Path, tmp_path: Path) -> None:
    """Where none of them is there; the folder may be new, or linked to."""
    (tmp_path / "linked").symlink_to("notes")

    for folder in (notes, tmp_path / "linked", tmp_path / "new" / "folder"):
        check_files(folder, ["one.txt", "two.txt"])
    with pytest.raises(OutputError, match=r"linked/todo\.txt: already exists"):
        check_files(tmp_path / "linked", ["one.txt", "todo.txt"])
    with pytest.raises(OutputError, match=r"todo\.txt: is a file; name a folder"):
        check_files(notes / "todo.txt", ["one.txt"])


def test_folder_of_work_that_was_begun_is_gone_on_with(notes: Path, tmp_path: Path) -> None:
    """If it is that work's, or empty, and nothing that is read."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").symlink_to("notes")

    for folder in (tmp_path / "empty", tmp_path / "new"):
        check_begun(folder, lambda _: "is a stranger's")
    check_begun(notes, lambda _: None, [tmp_path])
    with pytest.raises(OutputError, match="notes: is a stranger's; name another folder"):
        check_begun(notes, lambda _: "is a stranger's")
    with pytest.raises(OutputError, match="linked: is read by this command"):
        check_begun(tmp_path / "linked", lambda _: None, [notes])
