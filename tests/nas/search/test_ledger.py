import dataclasses
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy.exc import IntegrityError

from nas.errors import InputError, RunError
from nas.objectives import Value
from nas.search.database import PostgresSchema, process_name
from nas.search.ledger import Ledger
from nas.search.records import SUPERSEDED, Candidate, Proposal
from search_spaces.space import load_space
from tests.nas.search.postgres import execute, new_server, running
from tests.nas.search.small import child, wait_until

SPACE = load_space("tiny")
IDENTITY = {"space": "tiny 0123", "objectives": "accuracy, macs", "seed": "0"}
COSTS = {"macs": Value(123, "analytic"), "latency_ms@cpu": Value(0.1 + 0.2, "predicted", 0.25, 0.4)}

Open = Callable[..., Ledger]


def candidate(number: int) -> Candidate:
    return Candidate(number, SPACE.sample(np.random.default_rng(number)), COSTS)


def proposal(number: int, of: int) -> Proposal:
    values = {dimension.name: dimension.choices[-1] for dimension in SPACE.dimensions}
    return Proposal(number, of, values, {"trial": {"generation": 3}, "study": {"parents": [1, 2]}})


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the test's ledger, again and again: in a file, and in a schema of a real server."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    run = f"run {uuid4()}"
    ledgers: list[Ledger] = []

    def open_ledger(**options: object) -> Ledger:
        ledgers.append(Ledger(tmp_path / "ledger.db" if url is None else PostgresSchema(url, run), **options))
        return ledgers[-1]

    yield open_ledger
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened: Open) -> Ledger:
    ledger = opened()
    ledger.begin(IDENTITY, validation_images=300)
    return ledger


def file_ledger(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.begin(IDENTITY)
    return ledger


def test_what_was_committed_is_read_back_exactly(ledger: Ledger, opened: Open) -> None:
    first, second = candidate(0), candidate(1)
    attempt = ledger.propose([proposal(0, 0)], first)
    ledger.propose([proposal(1, 0), proposal(2, 1)], second)
    assert attempt is not None
    assert ledger.commit_result(attempt, {"accuracy": 1 / 3}, "host:1")
    again = opened()
    assert again.candidates() == [Candidate(0, first.architecture, COSTS, "done", {"accuracy": 1 / 3}), second]
    assert again.proposals() == [proposal(0, 0), proposal(1, 0), proposal(2, 1)]
    assert again.validation_images() == 300
    assert [(entry.candidate, entry.epoch, entry.ending, entry.worker) for entry in again.attempts()] == [
        (0, 1, "done", "host:1"),
        (1, 1, None, None),
    ]


def test_the_first_result_wins_and_a_second_one_is_counted(ledger: Ledger) -> None:
    first = ledger.propose([proposal(0, 0)], candidate(0))
    second = ledger.start_attempt(0)
    assert first is not None
    assert ledger.commit_result(second, {"accuracy": 0.75}, "late:2")
    assert not ledger.commit_result(first, {"accuracy": 0.25}, "host:1")
    assert ledger.candidates()[0].metrics == {"accuracy": 0.75}
    assert ledger.count_endings(0) == {"done": 1, "duplicate": 1}
    assert ledger.late_outcomes() == 1


def test_what_comes_after_an_attempt_has_ended_is_counted_and_changes_nothing(ledger: Ledger) -> None:
    attempt = ledger.propose([proposal(0, 0)], candidate(0))
    assert attempt is not None
    assert ledger.commit_failure(attempt, "lost", ("ActorDiedError", "gone"), "host:1", give_up=False)
    before = ledger.candidates()
    assert not ledger.commit_result(attempt, {"accuracy": 0.5}, "host:1"), "a lost worker that comes back"
    assert not ledger.commit_failure(attempt, "failed", ("ValueError", ""), "host:1", give_up=True)
    assert ledger.candidates() == before
    again = ledger.start_attempt(0)
    assert ledger.commit_result(again, {"accuracy": 0.75}, "host:2")
    assert not ledger.commit_result(again, {"accuracy": 0.25}, "host:2"), "the same result twice"
    assert ledger.candidates()[0].metrics == {"accuracy": 0.75}
    assert [(entry.ending, entry.late_outcomes) for entry in ledger.attempts()] == [("lost", 2), ("done", 1)]
    assert ledger.late_outcomes() == 3


def test_a_result_of_an_earlier_life_is_late(ledger: Ledger, opened: Open) -> None:
    attempt = ledger.propose([proposal(0, 0)], candidate(0))
    assert attempt is not None
    following = opened()
    following.begin(IDENTITY)
    following.abandon_attempts()
    assert not following.commit_result(attempt, {"accuracy": 0.5}, "host:1")
    assert following.late_outcomes() == 1
    assert following.candidates()[0].state == "open"


def test_an_earlier_life_commits_nothing_more(ledger: Ledger, opened: Open) -> None:
    attempt = ledger.propose([proposal(0, 0)], candidate(0))
    assert attempt is not None
    following = opened()
    following.begin(IDENTITY)
    before = (following.candidates(), following.attempts(), following.lives())
    words = rf"{process_name()} has taken over .* \(epoch 2, here 1\): this process commits nothing more"
    for commit in (
        lambda: ledger.commit_result(attempt, {"accuracy": 0.5}, "host:1"),
        lambda: ledger.commit_failure(attempt, "failed", ("ValueError", ""), "host:1", give_up=True),
        lambda: ledger.propose([proposal(1, 1)], candidate(1)),
        lambda: ledger.start_attempt(0),
        ledger.abandon_attempts,
        lambda: ledger.end("budget", "met"),
    ):
        with pytest.raises(RunError, match=words):
            commit()
    assert (following.candidates(), following.attempts(), following.lives()) == before


def test_every_life_is_recorded_with_how_it_ended(ledger: Ledger, opened: Open) -> None:
    ledger.end("budget", "the budget of 3 is met")
    with pytest.raises(RunError):
        ledger.start_attempt(0)
    for _ in range(2):
        opened().begin(IDENTITY)
    lives = ledger.lives()
    assert [(life.epoch, life.ending, life.reason) for life in lives] == [
        (1, "budget", "the budget of 3 is met"),
        (2, SUPERSEDED, None),
        (3, None, None),
    ]
    assert {life.coordinator for life in lives} == {process_name()}
    assert all(life.started_unix_s <= life.seen_unix_s for life in lives)


def test_what_a_search_proposes_first_is_kept_from_its_first_start(opened: Open) -> None:
    first = [SPACE.smallest(), SPACE.largest()]
    opened().begin(IDENTITY, warm_start=lambda: first)
    again = opened()
    again.begin(IDENTITY, warm_start=lambda: pytest.fail("asked for again"))
    assert again.warm_start() == first


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
    ledger.commit_failure(again, "lost", ("ActorDiedError", "gone\0\udcff"), "host:1", give_up=True)
    first, second = ledger.attempts()
    assert (first.ending, first.error_class, first.error_text) == ("failed", "ValueError", "no such layer\nat all")
    assert (second.ending, second.error_class) == ("lost", "ActorDiedError")
    assert second.error_text == r"gone\x00\udcff", "what no database stores is spelled out"
    assert ledger.candidates()[0].state == "failed"


def test_attempts_of_a_dead_coordinator_are_closed_once(ledger: Ledger) -> None:
    ledger.propose([proposal(0, 0)], candidate(0))
    assert ledger.abandon_attempts() == 1
    assert ledger.abandon_attempts() == 0
    assert [attempt.ending for attempt in ledger.attempts()] == ["abandoned"]


def test_an_architecture_is_a_candidate_once_for_each_fidelity(ledger: Ledger, opened: Open) -> None:
    ledger.propose([proposal(0, 0)], candidate(0))
    same = Candidate(1, candidate(0).architecture, COSTS)
    with pytest.raises(IntegrityError):
        ledger.propose([proposal(1, 1)], same)
    other = opened(fidelity="ten epochs")
    other.begin(IDENTITY)
    other.propose([proposal(1, 1)], same)
    assert [c.number for c in other.candidates()] == [1]
    assert [c.number for c in ledger.candidates()] == [0]


def test_a_transaction_that_fails_leaves_nothing_behind(ledger: Ledger) -> None:
    ledger.propose([proposal(0, 0)], candidate(0))
    with pytest.raises(IntegrityError):
        ledger.propose([proposal(0, 1)], candidate(1))  # the candidate is new, the proposal's number is not
    assert [c.number for c in ledger.candidates()] == [0]


@pytest.mark.parametrize("name", list(IDENTITY))
def test_another_search_is_refused_with_what_differs(ledger: Ledger, opened: Open, name: str) -> None:
    opened().begin(IDENTITY)
    with pytest.raises(InputError, match=re.escape(f"another {name} (then {IDENTITY[name]}, now other): restore")):
        opened().begin(IDENTITY | {name: "other"})


def test_a_new_name_in_the_identity_is_refused_too(ledger: Ledger, opened: Open) -> None:
    with pytest.raises(InputError, match="another supernet"):
        opened().begin(IDENTITY | {"supernet": "sha256"})


def test_a_refused_search_does_not_end_the_life_of_another(ledger: Ledger, opened: Open) -> None:
    with pytest.raises(InputError):
        opened().begin(IDENTITY | {"seed": "1"})
    ledger.propose([proposal(0, 0)], candidate(0))


def test_a_ledger_that_nobody_began_is_told_in_a_sentence(opened: Open) -> None:
    assert not opened().exists()
    with pytest.raises(RunError, match=r"there is no ledger at .*: start the search first"):
        opened().candidates()
    assert not opened().exists(), "reading makes nothing"


def test_readers_see_a_running_search(ledger: Ledger, opened: Open) -> None:
    with ledger.coordinated():
        ledger.propose([proposal(0, 0)], candidate(0))
        assert [c.number for c in opened().candidates()] == [0]


def hold(url: str | None, place: str, held: "multiprocessing.synchronize.Event") -> None:
    ledger = Ledger(Path(place) if url is None else PostgresSchema(url, place))
    with ledger.coordinated():
        ledger.begin(IDENTITY)
        held.set()
        signal.pause()


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_a_second_coordinator_is_told_who_holds_the_run_until_that_one_is_gone(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    url = None if kind == "sqlite" else request.getfixturevalue("postgres_url")
    place = str(tmp_path / "ledger.db") if url is None else str(uuid4())
    held = multiprocessing.get_context("forkserver").Event()
    holder = child(hold, url, place, held)
    assert held.wait(60)

    def refusal() -> str:
        try:
            with Ledger(Path(place) if url is None else PostgresSchema(url, place)).coordinated():
                return ""
        except RunError as error:
            return str(error)

    assert re.search(rf" is written by process \S*{holder.pid}: wait until that search ends", refusal())
    holder.kill()
    holder.join()
    wait_until(lambda: not refusal())  # a server needs a moment to see that its client is gone


def test_one_process_cannot_coordinate_a_run_twice(ledger: Ledger, opened: Open) -> None:
    with ledger.coordinated(), pytest.raises(RunError, match="is written by process"), opened().coordinated():
        pass
    with opened().coordinated():
        pass


def test_another_format_is_refused_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_ledger(tmp_path / "ledger.db")
    monkeypatch.setattr("nas.search.ledger.FORMAT", 99)
    with pytest.raises(RunError, match="has format 2, this version reads 99"):
        file_ledger(tmp_path / "ledger.db")


def test_a_damaged_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "damaged.db").write_bytes(b"not a database, and longer than its header" * 100)
    with pytest.raises(RunError, match=r"damaged\.db and damaged\.journal are both damaged: restore them"):
        file_ledger(tmp_path / "damaged.db")


def test_a_full_database_is_told_in_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    ledger = file_ledger(tmp_path / "ledger.db")
    ledger.propose([proposal(0, 0)], candidate(0))
    with ledger._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
    written = 1
    with pytest.raises(RunError, match=r"cannot be written .*full.*nothing committed is lost"):  # noqa: PT012
        while written < 50:
            ledger.propose([proposal(written, written)], candidate(written))
            written += 1
    assert [c.number for c in Ledger(tmp_path / "ledger.db").candidates()] == list(range(written))


def test_a_closed_ledger_is_one_file_and_its_journal(tmp_path: Path) -> None:
    ledger = file_ledger(tmp_path / "ledger.db")
    ledger.propose([proposal(0, 0)], candidate(0))
    ledger.close()
    assert sorted(os.listdir(tmp_path)) == ["ledger.db", "ledger.journal"]


@pytest.mark.postgres
def test_runs_in_one_database_do_not_see_each_other(postgres_url: str) -> None:
    names = [f"{uuid4()} with a name that is longer than an identifier of PostgreSQL {part}" for part in "ab"]
    ledgers = [Ledger(PostgresSchema(postgres_url, name)) for name in (*names, "Of.Team-1")]
    for number, ledger in enumerate(ledgers):
        with ledger.coordinated():
            ledger.begin(IDENTITY)
            ledger.propose([proposal(0, 0)], dataclasses.replace(candidate(number), number=0))
    assert [ledger.candidates()[0].architecture for ledger in ledgers] == [candidate(n).architecture for n in range(3)]


@pytest.mark.postgres
def test_a_coordinator_whose_connections_died_goes_on_where_nobody_took_over(postgres_url: str) -> None:
    ledger = Ledger(PostgresSchema(postgres_url, str(uuid4())))
    with ledger.coordinated():
        ledger.begin(IDENTITY)
        execute(postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        ledger.propose([proposal(0, 0)], candidate(0))
    assert [c.number for c in ledger.candidates()] == [0]


@pytest.mark.postgres
def test_a_server_that_is_restarted_is_waited_for(postgres_url: str) -> None:
    """In another folder than the other tests' server, which it would take away from them."""
    folder = new_server()
    try:
        with running(folder) as url:
            ledger = Ledger(PostgresSchema(url, "digits"))
            ledger.begin(IDENTITY)
        with ThreadPoolExecutor(1) as threads:
            committed = threads.submit(ledger.propose, [proposal(0, 0)], candidate(0))
            with pytest.raises(FutureTimeoutError):
                committed.result(2)
            with running(folder):
                committed.result(60)
                assert [c.number for c in ledger.candidates()] == [0]
    finally:
        shutil.rmtree(folder)


@pytest.mark.postgres
def test_a_server_that_cannot_be_reached_is_told_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://somebody:geheim@/nothing?host={tmp_path}"
    ledger = Ledger(PostgresSchema(url, "digits"))
    for use in (ledger.candidates, lambda: ledger.begin(IDENTITY), ledger.coordinated().__enter__):
        with pytest.raises(RunError, match=r"schema hwnas_digits at postgresql\+psycopg://somebody:\*\*\*@") as refused:
            use()
        assert "geheim" not in str(refused.value)


def test_a_candidate_without_metrics_cannot_be_done() -> None:
    with pytest.raises(ValueError, match="exactly where it is done"):
        Candidate(0, SPACE.smallest(), COSTS, "done")
