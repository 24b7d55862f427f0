import multiprocessing
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from nas.errors import InputError, RunError
from nas.objectives import Value
from nas.search.ledger import Candidate, Ledger, Proposal
from search_spaces.space import load_space
from tests.nas.search.small import child, wait_until

SPACE = load_space("tiny")
IDENTITY = {"space": "tiny 0123", "objectives": "accuracy, macs", "seed": "0"}
COSTS = {"macs": Value(123, "analytic"), "latency_ms@cpu": Value(0.1 + 0.2, "predicted", 0.25, 0.4)}


def candidate(number: int) -> Candidate:
    return Candidate(number, SPACE.sample(np.random.default_rng(number)), COSTS)


def proposal(number: int, of: int) -> Proposal:
    values = {dimension.name: dimension.choices[-1] for dimension in SPACE.dimensions}
    return Proposal(number, of, values, {"trial": {"generation": 3}, "study": {"parents": [1, 2]}})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.begin(IDENTITY, validation_images=300)
    return ledger


def test_what_was_committed_is_read_back_exactly(ledger: Ledger) -> None:
    first, second = candidate(0), candidate(1)
    attempt = ledger.propose([proposal(0, 0)], first)
    ledger.propose([proposal(1, 0), proposal(2, 1)], second)
    assert attempt is not None
    assert ledger.commit_result(attempt, {"accuracy": 1 / 3}, "host:1")
    again = Ledger(ledger.path)
    assert again.candidates() == [Candidate(0, first.architecture, COSTS, "done", {"accuracy": 1 / 3}), second]
    assert again.proposals() == [proposal(0, 0), proposal(1, 0), proposal(2, 1)]
    assert again.validation_images() == 300
    assert [(entry.candidate, entry.ending, entry.worker) for entry in again.attempts()] == [
        (0, "done", "host:1"),
        (1, None, None),
    ]


def test_the_first_result_wins_and_a_second_one_is_counted(ledger: Ledger) -> None:
    first = ledger.propose([proposal(0, 0)], candidate(0))
    second = ledger.start_attempt(0)
    assert first is not None
    assert ledger.commit_result(second, {"accuracy": 0.75}, "late:2")
    assert not ledger.commit_result(first, {"accuracy": 0.25}, "host:1")
    assert ledger.candidates()[0].metrics == {"accuracy": 0.75}
    assert ledger.count_endings(0) == {"done": 1, "duplicate": 1}


def test_an_infeasible_candidate_starts_no_attempt(ledger: Ledger) -> None:
    broken = Candidate(0, SPACE.largest(), COSTS, "infeasible")
    assert ledger.propose([proposal(0, 0)], broken) is None
    assert ledger.attempts() == []
    assert ledger.candidates() == [broken]


def test_a_failure_keeps_its_class_and_text(ledger: Ledger) -> None:
    attempt = ledger.propose([proposal(0, 0)], candidate(0))
    assert attempt is not None
    ledger.commit_failure(attempt, "failed", ("ValueError", "no such layer\nat all"), "host:1", give_up=False)
    again = ledger.start_attempt(0)
    assert ledger.candidates()[0].state == "open"
    ledger.commit_failure(again, "lost", ("ActorDiedError", "gone"), "host:1", give_up=True)
    first, second = ledger.attempts()
    assert (first.ending, first.error_class, first.error_text) == ("failed", "ValueError", "no such layer\nat all")
    assert (second.ending, second.error_class) == ("lost", "ActorDiedError")
    assert ledger.candidates()[0].state == "failed"


def test_attempts_of_a_dead_coordinator_are_closed_once(ledger: Ledger) -> None:
    ledger.propose([proposal(0, 0)], candidate(0))
    assert ledger.abandon_attempts() == 1
    assert ledger.abandon_attempts() == 0
    assert [attempt.ending for attempt in ledger.attempts()] == ["abandoned"]


def test_an_architecture_is_a_candidate_once_for_each_fidelity(ledger: Ledger) -> None:
    ledger.propose([proposal(0, 0)], candidate(0))
    same = Candidate(1, candidate(0).architecture, COSTS)
    with pytest.raises(Exception, match="UNIQUE"):
        ledger.propose([proposal(1, 1)], same)
    other = Ledger(ledger.path, fidelity="ten epochs")
    other.propose([proposal(1, 1)], same)
    assert [c.number for c in other.candidates()] == [1]
    assert [c.number for c in ledger.candidates()] == [0]


def test_a_transaction_that_fails_leaves_nothing_behind(ledger: Ledger) -> None:
    ledger.propose([proposal(0, 0)], candidate(0))
    with pytest.raises(Exception, match="UNIQUE"):
        ledger.propose([proposal(0, 1)], candidate(1))  # the candidate is new, the proposal's number is not
    assert [c.number for c in ledger.candidates()] == [0]


@pytest.mark.parametrize("name", list(IDENTITY))
def test_another_search_is_refused_with_what_differs(ledger: Ledger, name: str) -> None:
    Ledger(ledger.path).begin(IDENTITY)
    with pytest.raises(InputError, match=re.escape(f"another {name} (then {IDENTITY[name]}, now other): restore")):
        Ledger(ledger.path).begin(IDENTITY | {name: "other"})


def test_a_new_name_in_the_identity_is_refused_too(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="another supernet"):
        Ledger(ledger.path).begin(IDENTITY | {"supernet": "sha256"})


def test_another_format_is_refused_by_number(ledger: Ledger) -> None:
    with create_engine(f"sqlite:///{ledger.path}").begin() as connection:
        connection.execute(text("UPDATE run SET format = 99"))
    with pytest.raises(RunError, match="has format 99, this version reads 1"):
        Ledger(ledger.path).begin(IDENTITY)


def test_a_missing_or_damaged_ledger_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no ledger"):
        Ledger(tmp_path / "none.db").candidates()
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "damaged.db").write_bytes(b"not a database, and longer than its header" * 100)
    with pytest.raises(RunError, match=r"damaged\.db cannot be read .*: restore it"):
        Ledger(tmp_path / "damaged.db").begin(IDENTITY)


def test_a_full_disk_is_told_in_a_sentence_and_loses_nothing(ledger: Ledger) -> None:
    ledger.propose([proposal(0, 0)], candidate(0))
    with ledger._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
    written = 1
    with pytest.raises(RunError, match=r"cannot be written .*full.*nothing committed is lost"):  # noqa: PT012
        while written < 50:
            ledger.propose([proposal(written, written)], candidate(written))
            written += 1
    assert [c.number for c in Ledger(ledger.path).candidates()] == list(range(written))


def test_readers_see_a_running_search(ledger: Ledger) -> None:
    with ledger.coordinated():
        ledger.propose([proposal(0, 0)], candidate(0))
        with Ledger(ledger.path) as reader:
            assert [c.number for c in reader.candidates()] == [0]


def test_a_closed_ledger_is_one_file(ledger: Ledger) -> None:
    ledger.propose([proposal(0, 0)], candidate(0))
    ledger.close()
    assert [path.name for path in ledger.path.parent.iterdir()] == ["ledger.db"]


def hold(path: Path, held: "multiprocessing.synchronize.Event") -> None:
    with Ledger(path).coordinated():
        held.set()
        signal.pause()


def test_a_second_coordinator_is_told_who_holds_the_run_until_that_one_is_gone(tmp_path: Path) -> None:
    held = multiprocessing.get_context("forkserver").Event()
    holder = child(hold, tmp_path / "ledger.db", held)
    assert held.wait(60)
    ledger = Ledger(tmp_path / "ledger.db")
    with pytest.raises(RunError, match=rf"is written by process {holder.pid}: wait"), ledger.coordinated():
        pass
    holder.kill()
    wait_until(lambda: not holder.is_alive())
    with ledger.coordinated(), pytest.raises(RunError), Ledger(tmp_path / "ledger.db").coordinated():
        pass  # one in the same process counts too


def test_a_candidate_without_metrics_cannot_be_done() -> None:
    with pytest.raises(ValueError, match="exactly where it is done"):
        Candidate(0, SPACE.smallest(), COSTS, "done")
