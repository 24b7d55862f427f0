"""When a search ends: what its config says, or nothing more to find."""

import threading
import time
from collections import deque
from typing import Literal

from nas.config import SearchConfig
from nas.search.problem import SearchProblem
from nas.search.records import Proposal
from nas.search.samplers import GAIN
from nas.search.tracker import Tracker

GAIN_PATIENCE = 10
"""Proposals in a row of which less than `search.min_gain` was expected before the search ends."""

MAX_BARREN_PROPOSALS = 1000
"""Proposals in a row that bring nothing to evaluate (known, or breaking a constraint) before the search ends."""

EndKind = Literal["budget", "time", "no gain", "space exhausted", "nothing new", "stopped"]


class StopRules:
    """Says whether a search ends, and why in words.

    Attributes:
        earlier_s: seconds that earlier starts have searched.
        barren: proposals in a row that brought nothing to evaluate.

    Args:
        problem: what is searched.
        config: budget, limit of time, least gain.
        tracker: counts the candidates.
        stop: set where the search is stopped from outside.
    """

    def __init__(self, problem: SearchProblem, config: SearchConfig, tracker: Tracker, stop: threading.Event) -> None:
        self._problem = problem
        self._config = config
        self._tracker = tracker
        self._stop = stop
        self._started_s = time.monotonic()
        self._gains: deque[float] = deque(maxlen=GAIN_PATIENCE)  # expected of the last proposals
        self.earlier_s = 0.0
        self.barren = 0

    def note_gain(self, proposal: Proposal) -> None:
        """Takes what the sampler expects of a proposal, where it says so."""
        gain = proposal.sampler_state["trial"].get(GAIN)
        if gain is not None:
            self._gains.append(gain)

    def halt(self) -> tuple[EndKind, str] | None:
        """Returns why nothing more is to be started, not even what is open."""
        if self._stop.is_set():
            return "stopped", "stopped from outside; the same command goes on from here"
        limit = self._config.max_minutes
        if limit is not None and self.earlier_s + time.monotonic() - self._started_s >= limit * 60:
            return "time", f"the search has taken its {limit:g} minutes; a larger search.max_minutes goes on from here"
        return None

    def enough(self, *, known: int, underway: int) -> tuple[EndKind, str] | None:
        """Returns why nothing more is to be proposed.

        Args:
            known: candidates.
            underway: those of them that are being evaluated, or will be again.
        """
        size, budget = self._problem.space.size, self._config.budget
        if self._tracker.counts["done"] + underway >= budget:
            return "budget", f"the budget of {budget} evaluations is met"
        if known >= size:
            return "space exhausted", f"all {size} architectures of the space are known"
        if self.barren >= MAX_BARREN_PROPOSALS:
            return "nothing new", self._barren_reason()
        least = self._config.min_gain
        if least is not None and len(self._gains) == GAIN_PATIENCE and max(self._gains) < least:
            return "no gain", (
                f"the last {GAIN_PATIENCE} proposals were expected to add at most {max(self._gains):.2g} each to the "
                f"hypervolume of the front, as a share of it; a search.min_gain below {least:g} goes on"
            )
        return None

    def _barren_reason(self) -> str:
        counts, bounds = self._tracker.counts, " and ".join(c.text for c in self._problem.constraints)
        reason = f"the last {self.barren} proposals were known architectures"
        if counts["infeasible"]:
            reason += f" or break {bounds}"
        if not counts["done"]:
            reason += f"; of {counts['infeasible']} distinct ones none is allowed: widen the bounds"
        return reason
