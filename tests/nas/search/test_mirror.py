"""The copy of a search in a real Optuna storage."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.config import load_config
from nas.errors import RunError
from nas.run import Run
from nas.search.mirror import STATES, Mirror, mirrored
from nas.search.tracker import known_values
from search_spaces.file_lock import hold
from tests.nas.search.small import Small, child, evaluations, wait_until
from tests.processes import end_with_parent

DIGITS = Path(__file__).parents[3] / "experiments" / "configs" / "digits.yaml"
CONSTRAINTS = ("parameters <= 30000",)


def small(folder: Path, **settings: object) -> Small:
    """A search with candidates of every state: some are given up, and some break a constraint."""
    return Small(folder, **{"budget": 10, "seed": 6, "fails_for": "c", "constraints": CONSTRAINTS, **settings})


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/optuna.db"


def study(folder: Path, name: str = "search") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=url(folder))


def assert_the_same(search: Small, found: optuna.Study) -> None:
    """Every candidate is a trial that says what the ledger says."""
    problem = search.problem
    with search.ledger() as ledger:
        candidates, attempts = ledger.candidates(), ledger.attempts()
    assert [trial.user_attrs["key"] for trial in found.trials] == [c.architecture.key for c in candidates]
    for trial, candidate in zip(found.trials, candidates, strict=True):
        assert trial.number == candidate.number
        assert trial.state == STATES[candidate.state]
        assert trial.params == dict(candidate.architecture.values)
        assert trial.user_attrs["architecture"] == candidate.architecture.text
        values = known_values(candidate)
        assert trial.constraints == problem.violations(values)
        assert trial.user_attrs["macs"] == values["macs"]
        own = [attempt for attempt in attempts if attempt.candidate == candidate.number]
        if candidate.state == "done":
            assert trial.values == [values["accuracy"], values["macs"]]
            assert trial.user_attrs["worker"] == own[-1].worker
            assert trial.datetime_start
            assert trial.datetime_start.timestamp() == pytest.approx(own[0].started_unix_s, abs=1e-3)
        if candidate.state == "failed":
            assert trial.user_attrs["error"].startswith("ArithmeticError: ")
            assert trial.user_attrs["attempts"] == len(own) == 3
    directions = [direction.name for direction in found.directions]
    assert (found.metric_names, directions) == (["accuracy", "macs"], ["MAXIMIZE", "MINIMIZE"])


def update(search: Small, folder: Path) -> int:
    with search.ledger() as ledger:
        return Mirror(url(folder), "search", search.problem).update(ledger)


def test_every_candidate_is_a_trial_with_its_state_values_constraints_and_attributes(tmp_path: Path) -> None:
    search = small(tmp_path)
    search.run()
    states = {state for _, state in search.candidates()}
    assert states == {"done", "failed", "infeasible"}
    assert update(search, tmp_path) == len(search.candidates())
    assert_the_same(search, study(tmp_path))
    assert update(search, tmp_path) == 0, "nothing has changed"


def test_a_mirror_that_was_behind_or_deleted_is_made_up_to_date(tmp_path: Path) -> None:
    search = small(tmp_path, fails_for="")
    search.with_budget(4).run()
    update(search, tmp_path)
    before = study(tmp_path).trials
    search.run()
    update(search, tmp_path)
    assert_the_same(search, study(tmp_path))
    assert study(tmp_path).trials[: len(before)] == before
    (tmp_path / "optuna.db").unlink()
    update(search, tmp_path)
    assert_the_same(search, study(tmp_path))


def test_a_trial_that_runs_is_ended_when_its_candidate_is(tmp_path: Path) -> None:
    search = small(tmp_path, fails_for="")
    seen: list[TrialState] = []

    def stop_in_the_middle(point: str) -> None:
        if point == "result:before" and not seen:
            update(search, tmp_path)
            seen.extend(trial.state for trial in study(tmp_path).trials)

    search.run(fault=stop_in_the_middle)
    assert seen[-1] == TrialState.RUNNING
    update(search, tmp_path)
    ended = study(tmp_path).trials[len(seen) - 1]
    assert (ended.state, bool(ended.values)) == (TrialState.COMPLETE, True)
    assert [trial.state.is_finished() for trial in study(tmp_path).trials] == [True] * len(search.candidates())


def test_a_study_of_another_search_is_left_alone(tmp_path: Path) -> None:
    search = small(tmp_path)
    search.run()
    one = optuna.create_study(study_name="search", storage=url(tmp_path), directions=["maximize", "minimize"])
    one.add_trial(optuna.create_trial(values=[1, 2]))
    with pytest.raises(RunError, match="the study 'search' there belongs to another search"):
        update(search, tmp_path)
    assert len(study(tmp_path).trials) == 1


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose mirror is in its directory, and whose search `of` does."""
    overrides = ("name=m", f"runs_dir={tmp_path}", f"search.mirror={url(tmp_path / 'm')}")
    overrides += ("objectives=[accuracy, macs]", f"constraints=[{CONSTRAINTS[0]}]")
    return Run.start(load_config(DIGITS, overrides))


def of(run: Run, **settings: object) -> Small:
    return small(run.path, fails_for="", **settings)


def trials(run: Run) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{run.path}/optuna.db?mode=ro", uri=True)) as storage:
            return int(storage.execute("SELECT COUNT(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def wait_for_mirror(run: Run) -> None:
    """Waits until the mirror is complete and its process has ended; on a busy machine it is slow to start."""
    wait_until(lambda: trials(run) == len(of(run).candidates()))
    hold(run.path / "mirror.lock", wait=True).close()


def search_mirrored(run: Run, search: Small) -> None:
    with mirrored(run):
        search.run()


def test_the_mirror_of_a_run_is_complete_soon_after_its_search(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    search_mirrored(run, of(run))
    wait_for_mirror(run)
    assert_the_same(of(run), study(run.path, "m"))
    assert capfd.readouterr() == ("", "")


def test_the_mirror_of_a_killed_search_catches_up_and_ends(run: Run) -> None:
    search = of(run, budget=200, seconds=0.02)
    process = child(search_mirrored, run, search)
    wait_until(lambda: evaluations(run.path).total() >= 12)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    wait_for_mirror(run)
    assert_the_same(search, study(run.path, "m"))
    search_mirrored(run, of(run, budget=trials(run) + 3))
    wait_for_mirror(run)
    assert_the_same(search, study(run.path, "m"))


def test_a_storage_that_hangs_neither_stops_nor_changes_the_search(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nas.search.mirror.GOODBYE_S", 0.5)
    Mirror(url(run.path), "m", of(run).problem)
    held = sqlite3.connect(run.path / "optuna.db", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    search_mirrored(run, of(run))
    assert len([state for _, state in of(run).candidates() if state == "done"]) == 10
    assert "the mirror of the search is not up to date yet; the next start makes up for it" in caplog.text
    held.execute("ROLLBACK")
    held.close()
    monkeypatch.undo()
    search_mirrored(run, of(run))
    wait_for_mirror(run)
    assert_the_same(of(run), study(run.path, "m"))


def test_a_storage_that_cannot_be_had_is_told_once_and_the_search_goes_on(
    run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.search.mirror.GOODBYE_S", 0.1)
    broken = run.config.search.model_copy(update={"mirror": "sqlite:////nowhere/optuna.db"})
    run = Run(run.path, run.config.model_copy(update={"search": broken}))
    search_mirrored(run, of(run))
    assert len([state for _, state in of(run).candidates() if state == "done"]) == 10
    told: list[str] = []

    def heard() -> bool:
        told.append(capfd.readouterr().err)
        return "the search goes on without it" in "".join(told)

    wait_until(heard)
    os.kill(int((run.path / "mirror.lock").read_text()), signal.SIGKILL)  # it would go on trying for a while
    assert "".join(told).count("mirror sqlite:////nowhere/optuna.db is behind (") == 1


@pytest.fixture
def dashboard(run: Run) -> Iterator[str]:
    """The address of optuna-dashboard on a mirrored run."""
    pytest.importorskip("optuna_dashboard", reason="needs `pip install optuna-dashboard`")
    search_mirrored(run, of(run))
    wait_for_mirror(run)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        Path(sys.executable).parent / "optuna-dashboard",
        url(run.path),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=end_with_parent
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(address))
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/dashboard/", timeout=5) as page:
            return bool(page.status == 200)
    except OSError:
        time.sleep(0.1)
        return False


def test_optuna_dashboard_serves_the_run(run: Run, dashboard: str) -> None:
    def get(path: str) -> dict[str, list[dict[str, object]]]:
        with urllib.request.urlopen(f"{dashboard}/api/{path}", timeout=30) as answer:
            found: dict[str, list[dict[str, object]]] = json.load(answer)
            return found

    (summary,) = get("studies")["study_summaries"]
    assert summary["study_name"] == "m"
    detail = get(f"studies/{summary['study_id']}")
    trials = study(run.path, "m").trials
    assert [trial["state"] for trial in detail["trials"]] == [
        {"COMPLETE": "Complete", "PRUNED": "Pruned"}[trial.state.name] for trial in trials
    ]
    assert detail["trials"][0]["values"] == trials[0].values
    names = {attribute["key"] for attribute in detail["trials"][0]["user_attrs"]}  # type: ignore[attr-defined]
    assert {"key", "architecture", "parameters"} <= names
