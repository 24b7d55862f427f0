"""Warm start: what a search proposes first, because somebody found it good before."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nas.errors import InputError
from nas.pareto import ranks
from nas.run import Run
from nas.search.ledger import Ledger
from nas.search.problem import SearchProblem
from nas.search.results import evaluated
from search_spaces.architecture import Architecture, Choice
from search_spaces.published import published_in
from search_spaces.space import SearchSpace

_logger = logging.getLogger(__name__)

PUBLISHED = "published"


def warm_start(entries: Sequence[str], problem: SearchProblem) -> list[Architecture]:
    """Returns the architectures of `SearchConfig.warm_start`, each once, in the order of the entries.

    Raises:
        InputError: an entry is none of those that `SearchConfig.warm_start` lists, or gives nothing that the space has.
        RunError: the ledger of a run cannot be read.
    """
    found: dict[str, Architecture] = {}
    for entry in entries:
        proposed = list(_architectures(entry, problem))
        fitting = [architecture for architecture in proposed if problem.space.contains(architecture)]
        if not fitting:
            raise InputError(
                f"search.warm_start: {entry} gives no architecture of the space {problem.space.name!r}: remove it, or "
                "give a run of this space"
            )
        if len(fitting) < len(proposed):
            _logger.warning(
                "warm start: %d of the %d architectures of %s are not in the space %s and are left out",
                len(proposed) - len(fitting), len(proposed), entry, problem.space.name,
            )  # fmt: skip
        found |= {architecture.key: architecture for architecture in fitting}
    return list(found.values())


def _architectures(entry: str, problem: SearchProblem) -> Iterator[Architecture]:
    if entry == PUBLISHED:
        yield from published_in(problem.space)
    elif Path(entry).is_dir():
        yield from _of_run(Run.open(Path(entry)), problem)
    elif ":" in entry:
        yield Architecture.from_text(entry)
    else:
        raise InputError(
            f"search.warm_start: {entry!r} is neither {PUBLISHED!r}, nor the directory of a run, nor an architecture "
            "such as 'tiny:r16,1d2': mend it"
        )


def _of_run(run: Run, problem: SearchProblem) -> list[Architecture]:
    """Returns what a run evaluated: its front, as far as its values tell this problem's objectives, then the rest."""
    with Ledger.of(run) as ledger:
        found = evaluated(ledger)
    shared = [o for o in problem.objectives if all(o.name in item.values for item in found)]
    if not found or not shared:
        return [item.architecture for item in found]
    layers = ranks([[o.loss(item.values[o.name].value) for o in shared] for item in found])
    return [found[row].architecture for row in np.argsort(layers, kind="stable")]


def parameters_of(architecture: Architecture, space: SearchSpace) -> dict[str, Choice]:
    """Returns a value for every dimension; those that the architecture switches off take their first choice."""
    return {d.name: architecture.get(d.name, d.choices[0]) for d in space.dimensions}
