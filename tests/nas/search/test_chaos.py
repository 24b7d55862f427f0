"""What else can befall a search: it is suspended, another one starts beside it, its disk is full."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from nas.errors import RunError
from nas.search.records import SUPERSEDED
from tests.nas.search.postgres import execute
from tests.nas.search.small import ERROR, Small, child, evaluations, search_in_child, wait_until


def test_a_second_search_is_refused_and_the_first_one_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    small = Small(tmp_path, seconds=0.02, budget=30)
    first = child(search_in_child, small)
    wait_until(lambda: evaluations(tmp_path).total() >= 3)
    with pytest.raises(RunError, match=rf"is written by process {first.pid}: wait until that search ends, or stop it"):
        small.run()
    first.join(60)
    assert first.exitcode == 0
    assert set(evaluations(tmp_path).values()) == {1}
    assert small.run().evaluated == 30


def test_a_suspended_search_keeps_its_file_and_goes_on(tmp_path: Path) -> None:
    small = Small(tmp_path, seconds=0.02, budget=30)
    suspended = child(search_in_child, small)
    assert suspended.pid is not None
    wait_until(lambda: evaluations(tmp_path).total() >= 3)
    os.kill(suspended.pid, signal.SIGSTOP)
    with pytest.raises(RunError, match=rf"is written by process {suspended.pid}"):
        small.run()
    os.kill(suspended.pid, signal.SIGCONT)
    suspended.join(60)
    assert suspended.exitcode == 0
    assert set(evaluations(tmp_path).values()) == {1}


@pytest.mark.postgres
def test_a_suspended_search_that_another_one_took_over_commits_nothing_more(tmp_path: Path, postgres_url: str) -> None:
    whole = Small(tmp_path / "whole", budget=20)
    whole.folder.mkdir()
    whole.run()
    small = Small(tmp_path / str(uuid4()), url=postgres_url, budget=20, seconds=0.05)
    small.folder.mkdir()
    suspended = child(search_in_child, small)
    assert suspended.pid is not None
    wait_until(lambda: evaluations(small.folder).total() >= 3)
    os.kill(suspended.pid, signal.SIGSTOP)
    with pytest.raises(RunError, match=rf"is written by process \S+:{suspended.pid}: wait until that search ends"):
        small.run()
    # What a server does with the connections of a machine that no longer answers.
    sessions = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%:{suspended.pid}'"
    execute(postgres_url, sessions)
    wait_until(lambda: taken_over(small))
    before = (small.candidates(), small.front())
    os.kill(suspended.pid, signal.SIGCONT)
    suspended.join(60)
    assert suspended.exitcode == 1
    # Suspended between two transactions, or within one.
    sentence = (small.folder / ERROR).read_text()
    assert f":{os.getpid()} has taken over" in sentence or "nothing committed is lost" in sentence
    assert (small.candidates(), small.front()) == before == (whole.candidates(), whole.front())
    with small.ledger() as ledger:
        lives, attempts = ledger.lives(), ledger.attempts()
    assert [life.ending for life in lives] == [SUPERSEDED, "budget"]
    assert {attempt.ending for attempt in attempts} <= {"done", "abandoned"}
    assert sum(evaluations(small.folder).values()) <= 21, "the suspended one finished what it was evaluating"


def taken_over(small: Small) -> bool:
    try:
        return small.run().evaluated == small.budget
    except RunError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system with 256 KiB, None where this user may mount none."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_ends_a_search_with_a_sentence_and_room_lets_it_go_on(
    tmp_path: Path, small_disk: Path | None
) -> None:
    settings = {"budget": 150, "sampler": "random", "log_folder": tmp_path}
    small = Small(small_disk or tmp_path / "full", **settings)
    small.folder.mkdir(exist_ok=True)
    process = child(search_in_child, small, None, None if small_disk else 256 * 1024)
    process.join(120)
    assert process.exitcode == 1
    assert "cannot be written" in (tmp_path / ERROR).read_text()
    assert "nothing committed is lost; mend this and start the same command again" in (tmp_path / ERROR).read_text()

    roomy = Small(tmp_path / "roomy", **settings)
    shutil.copytree(small.folder, roomy.folder)
    committed = roomy.candidates()
    done = sum(state == "done" for _, state in committed)
    assert 3 <= done < 150
    assert evaluations(tmp_path).total() - done in {0, 1}, "but one evaluation was in hand when the disk was full"
    assert roomy.run().evaluated == 150
    assert [key for key, _ in roomy.candidates()[: len(committed)]] == [key for key, _ in committed]
    whole = Small(tmp_path / "whole", budget=150, sampler="random")
    whole.folder.mkdir()
    whole.run()
    assert (roomy.candidates(), roomy.front()) == (whole.candidates(), whole.front())
    assert evaluations(tmp_path).total() <= 151
