"""Real kills: whatever a process dies of, the same search started again ends as if nothing had happened."""

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from nas.errors import RunError
from nas.search.executors.ray_session import make_temp_dir
from nas.search.transaction import FAULT_POINTS
from tests.nas.search.small import Small, child, evaluations, search_in_child, wait_until


def assert_nothing_lost_or_doubled(small: Small, kills: int, workers: int) -> None:
    """Every evaluation beyond the first of an architecture is explained by an attempt that a kill cut off."""
    with small.ledger() as ledger:
        candidates, attempts = ledger.candidates(), ledger.attempts()
    done = [candidate for candidate in candidates if candidate.state == "done"]
    assert len(done) == small.budget
    assert [candidate.number for candidate in candidates] == list(range(len(candidates)))
    assert all(attempt.ending is not None for attempt in attempts), "none is left running"
    abandoned = Counter(attempt.candidate for attempt in attempts if attempt.ending == "abandoned")
    assert abandoned.total() <= kills * workers
    for candidate in done:
        times = evaluations(small.folder)[candidate.architecture.key]
        assert 1 <= times <= 1 + abandoned[candidate.number]
        assert sum(a.ending == "done" for a in attempts if a.candidate == candidate.number) == 1


@pytest.mark.slow
def test_a_kill_at_any_fault_point_changes_nothing(tmp_path: Path) -> None:
    # One candidate of this search fails three times and is given up, and one breaks a constraint, so that every
    # transaction happens; and every outcome comes twice.
    settings = {"sampler": "nsga2", "population": 4, "budget": 5, "seed": 6, "fails_for": "c", "answers": 2}
    settings["constraints"] = ("parameters <= 30000",)
    whole = Small(tmp_path / "whole", **settings)
    whole.folder.mkdir()
    passed: list[str] = []
    whole.run(fault=passed.append)
    expected, front = whole.candidates(), whole.front()
    assert {state for _, state in expected} == {"done", "failed", "infeasible"}
    assert set(passed) == set(FAULT_POINTS)
    assert len(FAULT_POINTS) >= 40

    last = {point: position for position, point in enumerate(passed)}
    for position in sorted({passed.index(point) for point in FAULT_POINTS} | set(last.values())):
        point = passed[position]
        small = Small(tmp_path / str(position), **settings)
        small.folder.mkdir()
        process = child(search_in_child, small, position)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, point
        small.run()
        assert small.candidates() == expected, f"after a kill at {point}, passage {position}"
        assert small.front() == front, point
        with small.ledger() as ledger:
            assert all(attempt.ending is not None for attempt in ledger.attempts()), "none is left running"
        before = evaluations(whole.folder)
        # A result is evaluated again only where the kill came between the evaluation's end and its commit.
        repeated = evaluations(small.folder) - before
        uncommitted = point.startswith(("result:", "failure:")) and not point.endswith(("committed", "told"))
        assert repeated.total() <= uncommitted, point
        assert not before - evaluations(small.folder)


KILLED_ON_A_SERVER = tuple(point for point in FAULT_POINTS if point.startswith(("begin:", "propose:", "result:")))


@pytest.mark.slow
@pytest.mark.postgres
def test_a_kill_at_any_fault_point_changes_nothing_on_a_server_either(tmp_path: Path, postgres_url: str) -> None:
    whole = Small(tmp_path / "whole", budget=3)
    whole.folder.mkdir()
    passed: list[str] = []
    whole.run(fault=passed.append)
    for number, point in enumerate(KILLED_ON_A_SERVER):
        small = Small(tmp_path / f"{tmp_path.name}-{number}", url=postgres_url, budget=3)
        small.folder.mkdir()
        process = child(search_in_child, small, passed.index(point))
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, point
        wait_until(lambda small=small: ran(small))
        assert (small.candidates(), small.front()) == (whole.candidates(), whole.front()), point
        with small.ledger() as ledger:
            assert all(attempt.ending is not None for attempt in ledger.attempts()), "none is left running"


def ran(small: Small) -> bool:
    """Runs the search as soon as the server has seen that the killed one is gone."""
    try:
        small.run()
    except RunError as error:
        if "is written by" in str(error):
            return False
        raise
    return True


@pytest.mark.parametrize("sampler", ["nsga2", "random", "tpe"])
def test_a_search_killed_at_random_finds_the_same_candidates_as_one_that_was_not(tmp_path: Path, sampler: str) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = Small(tmp_path / "whole", sampler=sampler, budget=30)
    whole.run()
    killed = Small(tmp_path / "killed", sampler=sampler, budget=30, seconds=0.02)
    chance = random.Random(sampler)
    kills = 0
    for target in (3, 10, 18, 25):
        process = child(search_in_child, killed)
        wait_until(lambda target=target: evaluations(killed.folder).total() >= target)
        time.sleep(chance.uniform(0, 0.06))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills == 4
    killed.run()
    assert (killed.candidates(), killed.front()) == (whole.candidates(), whole.front())
    assert_nothing_lost_or_doubled(killed, kills, workers=1)


@pytest.mark.parametrize("sampler", ["hypervolume", "nsga2", "random"])
def test_one_seed_and_one_worker_give_one_list_of_candidates_and_one_front_also_with_a_kill_in_between(
    tmp_path: Path, sampler: str
) -> None:
    one, other, killed = (Small(tmp_path / name, sampler=sampler, budget=20) for name in ("one", "other", "killed"))
    for small in (one, other, killed):
        small.folder.mkdir()
    process = child(search_in_child, killed, 90)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert 3 < len(killed.candidates()) < 20
    for small in (one, other, killed):
        small.run()
    assert one.candidates() == other.candidates() == killed.candidates()
    assert one.front() == other.front() == killed.front()
    another = Small(tmp_path, sampler=sampler, budget=20, seed=1)
    another.run()
    assert another.front() != one.front()


@pytest.mark.slow
def test_a_search_on_ray_survives_kills_of_its_driver_and_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))  # short enough for Ray's sockets, unlike pytest's own
    settings = {"sampler": "random", "budget": 30}  # whose candidates do not depend on when results come
    whole = Small(tmp_path / "whole", **settings)
    whole.folder.mkdir()
    whole.run()
    small = Small(tmp_path, **settings, seconds=0.05, ray=True, kills_for="a", temporary=temporary)
    process = child(search_in_child, small)
    wait_until(lambda: evaluations(tmp_path).total() >= 12, 120)
    # Ray's agents watch over a node; they end by themselves too, but only after looking for its head for a minute.
    family = psutil.Process(process.pid).children(recursive=True)
    orphans = [member for member in family if "Agent" not in member.name()]
    assert len(orphans) > 4, "Ray runs"
    process.kill()
    process.join()
    process = child(search_in_child, small)
    process.join(120)
    assert process.exitcode == 0
    assert small.candidates() == whole.candidates()
    with small.ledger() as ledger:
        lost = [attempt for attempt in ledger.attempts() if attempt.ending == "lost"]
    assert lost, "a worker died"
    assert all(attempt.error_class == "ActorDiedError" and attempt.worker for attempt in lost)
    assert_nothing_lost_or_doubled(small, kills=1, workers=2)
    _, alive = psutil.wait_procs(orphans, timeout=60)
    assert not alive, "no process outlives its driver"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    folder, lock = make_temp_dir()
    with lock:
        assert list(temporary.iterdir()) == [folder], "files that killed drivers left behind are removed"
    shutil.rmtree(temporary)


def test_sigterm_ends_a_search_after_the_running_evaluation(tmp_path: Path) -> None:
    small = Small(tmp_path, budget=1000, seconds=0.02)
    process = child(search_in_child, small)
    wait_until(lambda: evaluations(tmp_path).total() >= 3)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 0
    with small.ledger() as ledger:
        assert {attempt.ending for attempt in ledger.attempts()} == {"done"}
    assert not (tmp_path / "ledger.db-wal").exists(), "the ledger was closed"
