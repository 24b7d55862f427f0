"""The mirror: a copy of a search in an Optuna storage, for `optuna-dashboard` and Optuna's own analyses.

A process of its own writes it, and reads the ledger for that as any reader does. So a slow or dead storage neither
slows nor stops the search; what is missing is made up for later, by this process or by that of the next start, and a
mirror that was deleted is made again from the ledger.

Every candidate is a trial: done is COMPLETE, open RUNNING, given up FAIL, and PRUNED what was stopped early or never
evaluated because its costs break a constraint.
"""

import logging
import os
import select
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import make_url

from nas.errors import RunError
from nas.evaluators.base import fully_trained
from nas.run import Run
from nas.search.ledger import Ledger
from nas.search.problem import SearchProblem
from nas.search.records import Attempt, Candidate, State
from nas.search.samplers.base import distributions
from nas.search.tracker import known_values
from search_spaces.file_lock import hold

_logger = logging.getLogger(__name__)

STATES: Mapping[State, TrialState] = {
    "done": TrialState.COMPLETE,
    "open": TrialState.RUNNING,
    "failed": TrialState.FAIL,
    "infeasible": TrialState.PRUNED,
}
"""What a candidate is in Optuna."""

KEY = "key"
"""User attribute that names a trial's architecture."""

LEAST_PAUSE_S = 1.0
PAUSE_FACTOR = 10.0
"""A pause lasts this many times what the update before it took, so that the mirror needs little of a core."""
PATIENCE_S = 30.0
"""How long the mirror goes on trying after its search has ended or was killed."""
GOODBYE_S = 10.0
"""How long a search that has ended waits for its mirror to catch up."""


class Mirror:
    """Brings an Optuna study up to date with a ledger.

    Args:
        url: of the Optuna storage, such as ``sqlite:///runs/digits/optuna.db``.
        name: of the study; made where there is none.
        problem: that the ledger belongs to.

    Raises:
        RunError: the study is not a mirror of this problem.
    """

    def __init__(self, url: str, name: str, problem: SearchProblem) -> None:
        self._name = name
        self._problem = problem
        self._distributions = distributions(problem.space)
        directions = [StudyDirection.MAXIMIZE if o.maximize else StudyDirection.MINIMIZE for o in problem.objectives]
        self._study = optuna.create_study(storage=url, study_name=name, directions=directions, load_if_exists=True)
        if self._study.directions != directions:
            raise self._of_another()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._study.set_metric_names([objective.name for objective in problem.objectives])
        # By architecture: what was mirrored, by this process or another.
        self._states: dict[str, TrialState] = {}
        self._ids: dict[str, int] = {}
        for trial in self._study.get_trials(deepcopy=False):
            self._note(trial.user_attrs.get(KEY, ""), trial)

    def _of_another(self) -> RunError:
        return RunError(
            f"the study {self._name!r} there belongs to another search: choose another storage in search.mirror, or "
            "rename the run"
        )

    def _note(self, key: str, trial: FrozenTrial) -> None:
        self._states[key] = trial.state
        self._ids[key] = trial._trial_id  # what `optuna.Trial` takes; `FrozenTrial` has no public name for it

    def update(self, ledger: Ledger) -> int:
        """Writes what has changed since the last update; returns how many trials that were.

        Raises:
            RunError: the study has trials that the ledger has not.
            Exception: the storage cannot be written; another update goes on where this one ended.
        """
        candidates = ledger.candidates()
        if self._states.keys() - {candidate.architecture.key for candidate in candidates}:
            raise self._of_another()
        changed = [c for c in candidates if self._states.get(c.architecture.key) != _state(c)]
        attempts: dict[int, list[Attempt]] = {}
        for attempt in ledger.attempts() if changed else ():
            attempts.setdefault(attempt.candidate, []).append(attempt)
        for candidate in changed:
            self._write(candidate, attempts.get(candidate.number, []))
        return len(changed)

    def _write(self, candidate: Candidate, attempts: Sequence[Attempt]) -> None:
        key, state = candidate.architecture.key, _state(candidate)
        values = known_values(candidate)
        told = [values[o.name] for o in self._problem.objectives] if state == TrialState.COMPLETE else None
        attributes = self._attributes(candidate, attempts)
        if key in self._ids:
            trial = optuna.Trial(self._study, self._ids[key])
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            for text, violation in self._problem.violations(values).items():
                if text not in trial.constraints:
                    trial.set_constraint(text, violation)
            # Another process may have ended it just before it died.
            self._study.tell(trial, told, state=None if told else state, skip_if_finished=True)
            self._states[key] = state
            return
        parameters = dict(candidate.architecture.values)
        frozen = optuna.trial.create_trial(
            state=state,
            values=told,
            params=parameters,
            distributions={name: self._distributions[name] for name in parameters},
            user_attrs=attributes,
            constraints=self._problem.violations(values),
        )
        if attempts:
            frozen.datetime_start = datetime.fromtimestamp(attempts[0].started_unix_s)
        finished = attempts[-1].finished_unix_s if attempts else None
        if state.is_finished() and finished is not None:
            frozen.datetime_complete = datetime.fromtimestamp(finished)
        storage = self._study._storage  # `Study.add_trial` does not tell the id
        self._note(key, storage.get_trial(storage.create_new_trial(self._study._study_id, frozen)))

    def _attributes(self, candidate: Candidate, attempts: Sequence[Attempt]) -> dict[str, Any]:
        """Returns what the dashboard shows beside parameters and values; JSON, as Optuna demands."""
        attributes: dict[str, Any] = {KEY: candidate.architecture.key, "architecture": candidate.architecture.text}
        attributes |= {name: cost.value for name, cost in candidate.costs.items()}
        if attempts:
            attributes |= {"attempts": len(attempts), "worker": attempts[-1].worker}
        if not fully_trained(candidate.metrics):
            attributes |= candidate.metrics
        if candidate.state == "failed":
            attributes["error"] = f"{attempts[-1].error_class}: {attempts[-1].error_text}"
        return attributes


def _state(candidate: Candidate) -> TrialState:
    return STATES[candidate.state] if fully_trained(candidate.metrics) else TrialState.PRUNED


@contextmanager
def mirrored(run: Run) -> Iterator[None]:
    """Mirrors the search of a run while the block runs, where `search.mirror` says so."""
    if run.config.search.mirror is None:
        yield
        return
    # It ends when its standard input does, hence also when this process is killed; URLs, which may hold passwords, go
    # where no list of processes shows them. Standard output is for data.
    command = [sys.executable, "-m", "nas.search.mirror", str(run.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):  # it has told why it ended
            process.stdin.write(f"{run.config.search.mirror}\n{run.config.ledger or ''}\n")
            process.stdin.flush()
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(GOODBYE_S)
        except subprocess.TimeoutExpired:
            _logger.warning("the mirror of the search is not up to date yet; the next start makes up for it")


def main(run_dir: Path) -> None:
    """Keeps the mirror of a run up to date until standard input ends, then once more.

    The first line there is the mirror's URL, the second that of a ledger that is no file.
    """
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the search, which then ends this process
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url, ledger_url = sys.stdin.readline().strip(), sys.stdin.readline().strip()
    saved = Run.open(run_dir)  # without passwords
    run = Run(saved.path, saved.config.model_copy(update={"ledger": ledger_url or None}))
    problem = SearchProblem(run.config.space.load(), run.config.parsed_objectives, run.config.parsed_constraints)
    mirror: Mirror | None = None
    pause_s, ended_s = 0.0, None
    troubles: Counter[str] = Counter()
    with hold(run.path / "mirror.lock", wait=True), Ledger.of(run) as ledger:
        while True:
            if ended_s is None and select.select([sys.stdin], [], [], pause_s)[0]:
                ended_s = time.monotonic()
            begun_s = time.monotonic()
            try:
                if ledger.exists():
                    mirror = mirror or Mirror(url, run.config.name, problem)
                    mirror.update(ledger)
                if ended_s is not None:
                    return
            except Exception as error:
                mirror = None  # opened anew, as nobody knows what was written
                trouble = f"{type(error).__name__}: {error}".partition("\n")[0]
                troubles[trouble] += 1
                if troubles[trouble] == 2:  # once is no trouble: a ledger that is just being made
                    shown = make_url(url).render_as_string(hide_password=True)
                    sys.stderr.write(f"mirror {shown} is behind ({trouble}); the search goes on without it\n")
                if ended_s is not None:
                    if time.monotonic() - ended_s > PATIENCE_S:
                        return
                    time.sleep(LEAST_PAUSE_S)
            pause_s = max(LEAST_PAUSE_S, PAUSE_FACTOR * (time.monotonic() - begun_s))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
