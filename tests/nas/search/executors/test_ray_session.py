import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.errors import RunError
from nas.search.executors import ray_session
from nas.search.executors.ray_session import make_temp_dir


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_a_folder_is_new_and_locked(temporary: Path) -> None:
    folder, lock = make_temp_dir()
    with lock:
        assert folder.parent == temporary
        with (folder / "driver.lock").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_folders_of_dead_drivers_are_removed_and_those_of_living_ones_stay(temporary: Path) -> None:
    dead, dead_lock = make_temp_dir()
    (dead / "session").mkdir()
    living, living_lock = make_temp_dir()
    dead_lock.close()
    (temporary / "hwnas-ray-notes").write_text("not a folder")
    folder, lock = make_temp_dir()
    with lock, living_lock:
        assert sorted(temporary.iterdir()) == sorted([living, folder, temporary / "hwnas-ray-notes"])


def test_a_long_path_is_avoided_because_ray_puts_sockets_there(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = temporary / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder, lock = make_temp_dir()
    with lock:
        assert folder.parent in {Path("/tmp"), Path("/var/tmp")}
        socket = f"{folder}/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store.1"
        assert len(socket.encode()) <= 107
    shutil.rmtree(folder)


def test_no_short_path_is_told_with_what_to_do(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "_MAX_PARENT_BYTES", 3)
    with pytest.raises(RunError, match=r"at most 3 bytes: set TMPDIR to one, or use ray\.executor=serial"):
        make_temp_dir()
