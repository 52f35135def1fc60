"""Creating and locking folders."""

from pathlib import Path

import pytest

from distinct_async import ExportError
from distinct_async.export.files import FolderLock, make_folders


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    FolderLock(tmp_path).release()
    lock = FolderLock(tmp_path)
    lock.release()
    lock.release()

    FolderLock(tmp_path).release()


def test_a_folder_that_cannot_be_created_is_an_export_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ExportError, match=r"File exists|Not a directory"):
        make_folders(tmp_path / "file")
    with pytest.raises(ExportError, match="Not a directory"):
        make_folders(tmp_path / "file" / "below")
    with pytest.raises(ExportError, match="embedded null"):
        make_folders(tmp_path / "\0")
