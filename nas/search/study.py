"""The Optuna study of a search: lives in memory, is rebuilt from the ledger at every start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from nas.objectives import Objective
from nas.search.records import Proposal
from nas.search.samplers.base import SeededSampler, derived_seed, distributions
from search_spaces.architecture import Choice
from search_spaces.space import SearchSpace

# Optuna's own handler would write a line for every study.
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Told:
    """What the sampler learns about a trial.

    Attributes:
        values: of the objectives, in their order; None where there are none to compare with those of others.
        violations: of the constraints, by their text; positive where broken.
        stopped_early: whether there are none because a training fell behind its like; else the evaluation failed.
    """

    values: Sequence[float] | None
    violations: Mapping[str, float]
    stopped_early: bool = False

    @property
    def state(self) -> TrialState:
        """Of the trial: TPE takes a pruned one for a bad one; all samplers leave a failed one out."""
        if self.values is not None:
            return TrialState.COMPLETE
        return TrialState.PRUNED if self.stopped_early else TrialState.FAIL


class SearchStudy:
    """Questions to a sampler, and answers told to it.

    Args:
        space: whose architectures are proposed.
        objectives: give the directions.
        sampler: makes the sampler of each question.
        seed: of the search.
    """

    def __init__(
        self, space: SearchSpace, objectives: Sequence[Objective], sampler: SeededSampler, *, seed: int
    ) -> None:
        self._distributions = distributions(space)
        self._sampler = sampler
        self._seed = seed
        self._storage = optuna.storages.InMemoryStorage()
        directions = [StudyDirection.MAXIMIZE if o.maximize else StudyDirection.MINIMIZE for o in objectives]
        self._study = optuna.create_study(storage=self._storage, directions=directions, study_name="search")
        self._study_id = self._storage.get_study_id_from_name("search")
        self._asked: dict[int, optuna.Trial] = {}

    def ask(
        self, given: Mapping[str, Choice] | None = None
    ) -> tuple[int, dict[str, Choice], dict[str, dict[str, Any]]]:
        """Returns the next number, its parameters and the state that the sampler left (see `Proposal`).

        Args:
            given: the parameters, where the question has an answer already; the sampler only hears of them.
        """
        if given is not None:
            self._study.enqueue_trial(dict(given))
        known = self._storage.get_study_system_attrs(self._study_id)
        # Trials are numbered from 0 without a gap, as every question makes one.
        self._study.sampler = self._sampler(derived_seed(self._seed, len(self._study.get_trials(deepcopy=False))))
        trial = self._study.ask(dict(self._distributions))
        self._asked[trial.number] = trial
        study_state = self._storage.get_study_system_attrs(self._study_id)
        state = {
            "trial": self._storage.get_trial_system_attrs(self._trial_id(trial.number)),
            "study": {name: value for name, value in study_state.items() if known.get(name) != value},
        }
        return trial.number, trial.params, state

    def tell(self, number: int, told: Told) -> None:
        """Answers a question."""
        trial = self._asked.pop(number)
        for text, violation in told.violations.items():
            trial.set_constraint(text, violation)
        self._study.tell(trial, None if told.values is None else list(told.values), state=told.state)

    def restore(self, proposal: Proposal, told: Told | None) -> None:
        """Repeats a question of an earlier life, with its answer where there was one.

        Raises:
            ValueError: the proposals do not come in their order.
        """
        for name, value in proposal.sampler_state["study"].items():
            self._storage.set_study_system_attr(self._study_id, name, value)
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING if told is None else told.state,
                values=None if told is None else told.values,
                params=dict(proposal.parameters),
                distributions=dict(self._distributions),
                system_attrs=dict(proposal.sampler_state["trial"]),
                constraints=None if told is None else dict(told.violations),
            )
        )
        number = len(self._study.get_trials(deepcopy=False)) - 1
        if number != proposal.number:
            raise ValueError(f"proposals must come in order, got {proposal.number=} where {number} is next")
        if told is None:
            self._asked[number] = optuna.Trial(self._study, self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
