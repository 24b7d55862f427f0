"""How a search ends, and goes on: by time, and by whatever else, with the reason in the ledger."""

import re
import threading
from pathlib import Path

from nas.search.loop import SearchOutcome
from search_spaces.architecture import Architecture
from tests.nas.search.small import Small, evaluations
from tests.nas.search.test_loop import Answers, good


def test_the_time_of_all_starts_together_ends_a_search_and_more_time_goes_on(tmp_path: Path) -> None:
    small = Small(tmp_path, budget=10_000, sampler="random", seconds=0.05, max_minutes=0.2 / 60)
    outcome = small.run()
    assert outcome.kind == "time"
    assert outcome.reason.startswith("the search has taken its 0.00333333 minutes; a larger search.max_minutes goes on")
    assert 1 <= outcome.evaluated == evaluations(tmp_path).total() < 10_000, "the running evaluation is awaited"
    again = small.run()
    assert (again.kind, again.evaluated) == ("time", outcome.evaluated)
    longer = Small(tmp_path, budget=outcome.evaluated + 1, sampler="random", max_minutes=60).run()
    assert (longer.kind, longer.evaluated) == ("budget", outcome.evaluated + 1)
    assert set(evaluations(tmp_path).values()) == {1}


def test_the_ledger_tells_how_every_start_ended(tmp_path: Path) -> None:
    stop = threading.Event()

    def stopping(architecture: Architecture, _: int) -> dict[str, float]:
        stop.set()
        return good(architecture)

    small = Small(tmp_path)
    outcomes: list[SearchOutcome] = [small.run(evaluator=Answers(stopping), stop=stop), small.run()]
    with small.ledger() as ledger:
        lives = ledger.lives()
    assert [(life.epoch, life.ending, life.reason) for life in lives] == [
        (epoch, outcome.kind, outcome.reason) for epoch, outcome in enumerate(outcomes, start=1)
    ]
    assert [outcome.kind for outcome in outcomes] == ["stopped", "budget"]


def test_a_search_ends_when_no_gain_is_expected_and_a_smaller_least_gain_goes_on(tmp_path: Path) -> None:
    settings = {"sampler": "hypervolume", "budget": 200}
    outcome = Small(tmp_path, **settings, min_gain=0.3).run()
    assert outcome.kind == "no gain"
    assert re.fullmatch(
        r"the last 10 proposals were expected to add at most 0\.\d+ each to the hypervolume of the front, as a share "
        r"of it; a search\.min_gain below 0\.3 goes on",
        outcome.reason,
    )
    assert 22 <= outcome.evaluated < 200
    again = Small(tmp_path, **settings, min_gain=0.3).run()
    assert (again.kind, again.evaluated) == ("no gain", outcome.evaluated), "the ledger remembers what was expected"
    longer = Small(tmp_path, **settings | {"budget": outcome.evaluated + 2}).run()
    assert (longer.kind, longer.evaluated) == ("budget", outcome.evaluated + 2)
