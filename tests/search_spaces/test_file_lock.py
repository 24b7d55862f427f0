import multiprocessing
import os
import signal
import threading

import pytest

from search_spaces.file_lock import FileHeldError, hold


def _hold_until_killed(path, held):
    with hold(path):
        held.set()
        signal.pause()


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_hold_until_killed, args=(tmp_path / "lock", held))
    holder.start()
    assert held.wait(30)
    with pytest.raises(FileHeldError, match=f"held by process {holder.pid}") as refused:
        hold(tmp_path / "lock")
    assert refused.value.holder == str(holder.pid)
    holder.kill()
    holder.join()
    with hold(tmp_path / "lock"), pytest.raises(FileHeldError, match=f"held by process {os.getpid()}"):
        hold(tmp_path / "lock")


def test_whoever_waits_gets_the_lock_when_it_is_let_go(tmp_path):
    got = threading.Event()

    def wait():
        with hold(tmp_path / "lock", wait=True):
            got.set()

    waiting = threading.Thread(target=wait)
    with hold(tmp_path / "lock"):
        waiting.start()
        assert not got.wait(0.1)
    assert got.wait(30)
    waiting.join()


def test_a_long_earlier_number_leaves_nothing_behind(tmp_path):
    (tmp_path / "lock").write_text("123456789012345")
    with hold(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())
