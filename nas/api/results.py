"""Reading and choosing from the front of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import RunError
from nas.front import Front, FrontPoint
from nas.objectives import Constraint, Value
from nas.run import Run
from search_spaces.checksum import read_json, write_json

if TYPE_CHECKING:
    from nas.evaluators.costs import AnalyticAndPredictedCosts
    from nas.search.results import EvaluatedArchitecture


def front(run_dir: Path) -> Front:
    """Returns the front of a run.

    Raises:
        InputError: no run there, or nothing was searched yet.
    """
    return Front.load(Run.open(run_dir).front_path)


def write_front(
    run: Run, found: "Sequence[EvaluatedArchitecture]", costs: "AnalyticAndPredictedCosts | None" = None
) -> Front:
    """Returns the front of evaluated architectures, written as front.json, front.html and front.png.

    Args:
        run: where to.
        found: by its search.
        costs: of its search; tells how likely the bounds on predicted costs are kept.
    """
    config = run.config
    architectures = [item.architecture for item in found]
    told = costs.probabilities_of(architectures, config.parsed_constraints) if costs else [{}] * len(architectures)
    result = Front.of(
        config.name,
        config.parsed_objectives,
        config.parsed_constraints,
        [(item.architecture, item.values) for item in found],
        probabilities={one.key: own for one, own in zip(architectures, told, strict=True)},
    )
    draw_front_files(run, result)
    result.save(run.front_path)
    return result


def draw_front_files(run: Run, result: Front) -> None:
    """Writes front.html and front.png; where the run's ranking was tried, networks that are tied are grouped."""
    from nas.plots.front_html import write_front_html
    from nas.plots.front_png import write_front_png
    from nas.trust import RankingTrust

    try:
        trust = RankingTrust.load(run.trust_path)
    except RunError:  # a search must not end without its front for that; `nas doctor` tells
        trust = None
    trust = trust if trust and trust.complete else None
    write_front_html(result, run.path / "front.html", run.path, trust)
    write_front_png(result, run.path / "front.png", trust=trust)


def pick(run_dir: Path, within: Sequence[str] = (), rule: str | None = None, count: int = 1) -> tuple[FrontPoint, ...]:
    """Returns networks chosen from the front, and writes their keys to picks.json.

    Args:
        run_dir: of the run.
        within: budgets such as ``latency_ms@cpu <= 2``.
        rule: as `nas.pick.pick`.
        count: how many.

    Raises:
        InputError: no run, no network within the budgets, an unknown rule.
    """
    from nas.pick import pick as choose

    picked = choose(front(run_dir), rule, [Constraint.parse(text) for text in within], count)
    keys = [point.key for point in picked]
    write_json(Run.open(run_dir).picks_path, {"format": 1, "rule": rule, "within": list(within), "keys": keys})
    return picked


def read_picks(run: Run) -> list[str]:
    """Returns the keys in picks.json; none where nobody picked.

    Raises:
        RunError: the file is damaged.
    """
    if not run.picks_path.exists():
        return []
    try:
        return [str(key) for key in read_json(run.picks_path)["keys"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.picks_path} is damaged ({error}): write it again with `nas pick {run.path}`") from None


def point_rows(points: Sequence[FrontPoint]) -> list[dict[str, object]]:
    """Returns a table row for each network: values with intervals, how likely bounds are kept, key and short form."""
    return [
        {
            **{name: show_value(value) for name, value in point.values.items()},
            **{f"P({bound})": f"{probability:.2f}" for bound, probability in point.probabilities.items()},
            "key": point.key,
            "architecture": point.architecture.text,
        }
        for point in points
    ]


def front_rows(front: Front) -> list[dict[str, object]]:
    """Returns the table of a front, the knee marked."""
    return [
        {"": "knee" if point.key == front.knee else "", **row}
        for point, row in zip(front.best, point_rows(front.best), strict=True)
    ]


def show_value(value: Value) -> str:
    """Returns a value with its interval, as tables show it."""
    if value.lower is None or value.upper is None:
        return f"{value.value:g}"
    return f"{value.value:.4g} [{value.lower:.4g}, {value.upper:.4g}] {value.source}"
