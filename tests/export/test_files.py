"""Creating and locking folders."""

from pathlib import Path

import pytest

from distinct_async import ExportError
from distinct_async.export.files import FolderLock, Folders


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    FolderLock(tmp_path).release()
    lock = FolderLock(tmp_path)
    lock.release()
    lock.release()

    FolderLock(tmp_path).release()


def test_created_folders_are_removed_if_they_stay_empty(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    folders = Folders(tmp_path / "old" / "new" / "newer")
    folders.remove_empty()
    folders.create()
    folders.sync()
    assert (tmp_path / "old" / "new" / "newer").is_dir()

    (tmp_path / "old" / "new" / "file").touch()
    folders.remove_empty()
    assert not (tmp_path / "old" / "new" / "newer").exists()
    (tmp_path / "old" / "new" / "file").unlink()
    folders.remove_empty()
    assert not list((tmp_path / "old").iterdir())


def test_existing_folders_are_never_removed(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.create()
    folders.remove_empty()

    assert tmp_path.is_dir()


def test_a_folder_that_cannot_be_created_is_an_export_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ExportError, match=r"File exists|Not a directory"):
        Folders(tmp_path / "file").create()
    with pytest.raises(ExportError, match="Not a directory"):
        Folders(tmp_path / "file" / "below").create()
    with pytest.raises(ExportError, match="embedded null"):
        Folders(tmp_path / "\0").create()

    folders = Folders(tmp_path / "parent" / ("x" * 1_000))
    with pytest.raises(ExportError, match="name too long"):
        folders.create()
    folders.remove_empty()
    assert not (tmp_path / "parent").exists()
