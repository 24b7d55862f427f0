"""What an experiment would search and cost, told before anything is spent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nas.api.run_predictors import known_predictors, origin_note
from nas.api.trial import TrialSeconds, try_out
from nas.config import ExperimentConfig, StandAloneConfig, SupernetConfig, load_config
from nas.objectives import LEARNED, Constraint, Objective, Value
from nas.progress import Progress, ProgressListener, silent
from nas.run import Run
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.data import ImageData
    from nas.evaluators.costs import CostModel

_DRAWN = 1000
_ROUNDS, _BEAM, _MUTANTS = 25, 8, 16  # of the search for one network that keeps every constraint
_CONVERSION_SECONDS = 60.0  # of one finished network's files; four of `tiny` take 40 s on two cores

Basis = Literal["done", "earlier run", "measured now", "guess", "unknown"]
"""How a time is known: the work is done; by evaluations of the run; by a short trial; by a rule of thumb; not."""


@dataclass(frozen=True)
class PlannedTerm:
    """A cost over the space.

    Attributes:
        objective: what; none of its values are known where it is to be learned and has no predictor yet.
        values: of the smallest, the typical (median MACs of those drawn) and the largest network; or empty.
        constraints: on it, each with the share of drawn architectures that keep it; None where that is not known.
    """

    objective: Objective
    values: tuple[Value, ...]
    constraints: tuple[tuple[Constraint, float | None], ...]

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        names = ("smallest", "typical", "largest")
        return {
            "objective": self.objective.name,
            "unit": self.objective.unit,
            **{name: asdict(value) for name, value in zip(names, self.values, strict=False)},
            "constraints": [{"text": one.text, "share_kept": share} for one, share in self.constraints],
        }

    def row(self) -> dict[str, object]:
        """Returns a table row."""
        shown = [f"{value.value:.4g}" for value in self.values] or ["-"] * 3
        source = self.values[0].source if self.values else "no predictor yet"
        kept = ["unknown" if share is None else f"{share:.1%}" for _, share in self.constraints]
        return {
            "cost": self.objective.name,
            "unit": self.objective.unit,
            "smallest": shown[0],
            "typical": shown[1],
            "largest": shown[2],
            "source": source,
            "constraint": ", ".join(one.text for one, _ in self.constraints) or "-",
            "kept by": ", ".join(kept) or "-",
        }


@dataclass(frozen=True)
class PlannedStage:
    """How long a stage would take.

    Attributes:
        name: of the stage.
        seconds: None where nothing is known.
        basis: how that is known.
        text: what the time is made of.
    """

    name: str
    seconds: float | None
    basis: Basis
    text: str

    def row(self) -> dict[str, object]:
        """Returns a table row."""
        time = "-" if self.seconds is None else f"{self.seconds / 60:.1f} min"
        return {"stage": self.name, "time": time, "known by": self.basis, "of": self.text}


@dataclass(frozen=True)
class Plan:
    """An experiment before it is run.

    Attributes:
        space: its name.
        size: number of distinct architectures.
        new_name: of the run that was planned, where the experiment's own name is another experiment's; else None.
        networks: the smallest, the typical and the largest one.
        terms: costs over the space.
        drawn: how many architectures were drawn from the space to tell shares.
        feasible: share of those that keep every constraint that can be told now.
        infeasible: a sentence for each constraint that no network was found to keep; empty where one keeps them all.
        notes: sentences on what is not known.
        stages: expected times.
    """

    space: str
    size: int
    new_name: str | None
    networks: tuple[Architecture, ...]
    terms: tuple[PlannedTerm, ...]
    drawn: int
    feasible: float
    infeasible: tuple[str, ...]
    notes: tuple[str, ...]
    stages: tuple[PlannedStage, ...]

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        names = ("smallest", "typical", "largest")
        return {
            "space": self.space,
            "size": self.size,
            "new_name": self.new_name,
            "networks": {name: one.text for name, one in zip(names, self.networks, strict=True)},
            "costs": [term.to_dict() for term in self.terms],
            "drawn": self.drawn,
            "feasible_share": self.feasible,
            "infeasible": list(self.infeasible),
            "notes": list(self.notes),
            "stages": [asdict(stage) for stage in self.stages],
        }


def plan(
    config: Path | ExperimentConfig,
    overrides: tuple[str, ...] = (),
    *,
    trial: bool = True,
    progress: ProgressListener = silent,
) -> Plan:
    """Returns what an experiment would search and cost; writes nothing.

    Latency, energy and memory are told where the run has a predictor of them. Where the run's directory holds another
    experiment, nothing of it counts: what is planned is a new run under a free name, and the first note says so.

    Args:
        config: an experiment, its YAML file, or the directory of a run.
        overrides: as `load_config`.
        trial: whether times are found by training and evaluating for some seconds.
        progress: told where it stands.

    Raises:
        InputError: a mistake in the file, or the data are not there.
    """
    from nas.data import load_data
    from nas.evaluators.costs import AnalyticAndPredictedCosts

    experiment = config if isinstance(config, ExperimentConfig) else load_config(config, overrides)
    run = Run(config if isinstance(config, Path) and config.is_dir() else experiment.run_dir, experiment)
    other = Run.other_experiment(run.path, experiment)
    if other:
        run = _new_run(experiment)
    data = load_data(experiment.data).without_test()
    space = experiment.space.load().with_data(image_channels=data.image_channels, classes=data.classes)
    predictors = known_predictors(run)
    known, unknown = _objectives(experiment, predictors)
    costs = AnalyticAndPredictedCosts(
        space,
        known,
        precisions={name: device.precision for name, device in experiment.devices.items()},
        predictors={name: one.predictor for name, one in predictors.items()},
    )
    progress(Progress("plan", 0, 2, f"{_DRAWN} networks of {space.name}"))
    rng = np.random.default_rng(experiment.seed)
    drawn = [space.sample(rng) for _ in range(_DRAWN)]
    values = costs.costs_of(drawn)
    typical = drawn[int(np.argsort([row["macs"].value for row in values], kind="stable")[_DRAWN // 2])]
    networks = (space.smallest(), typical, space.largest())
    shown = costs.costs_of(networks)
    constraints = experiment.parsed_constraints
    told = [one for one in constraints if one.objective in known]
    shares = {one: float(np.mean([_keeps(one, row) for row in values])) for one in told}
    feasible = float(np.mean([all(_keeps(one, row) for one in told) for row in values]))
    infeasible = () if feasible else _infeasible(space, costs, told, [*networks, *drawn], rng)
    stages = _stages(run, space, data, networks, unknown, trial=trial, progress=progress)
    return Plan(
        space=space.name,
        size=space.size,
        new_name=run.config.name if other else None,
        networks=networks,
        terms=tuple(
            PlannedTerm(
                objective,
                tuple(row[objective.name] for row in shown) if objective in known else (),
                tuple((one, shares.get(one)) for one in constraints if one.objective == objective),
            )
            for objective in (*known, *unknown)
        ),
        drawn=_DRAWN,
        feasible=feasible,
        infeasible=infeasible,
        notes=(
            *([f"{other}; this is the plan of a new run, name={run.config.name}"] if other else []),
            *(f"{name}: {origin_note(one, space)}" for name, one in predictors.items() if one.origin),
            *_notes(experiment, unknown, shown, feasible, infeasible),
        ),
        stages=stages,
    )


def _new_run(config: ExperimentConfig) -> Run:
    """Returns the run of an experiment under the first name after its own that is free."""
    names = (f"{config.name}-{number}" for number in count(2))
    name = next(name for name in names if not (config.runs_dir / name).exists())
    renamed = config.model_copy(update={"name": name})
    return Run(renamed.run_dir, renamed)


def _objectives(config: ExperimentConfig, predictors: Mapping[str, object]) -> tuple[list[Objective], list[Objective]]:
    """Returns the costs that can be told now, and those that the experiment asks for and that nothing predicts yet."""
    known = [Objective("macs"), Objective("parameters")]
    for device in config.devices:
        known += [Objective("weight_bytes", device), Objective("peak_activation_bytes", device)]
        known += [one for one in (Objective(metric, device) for metric in LEARNED) if one.predictor in predictors]
    return known, [one for one in config.parsed_terms if one.predictor and one not in known]


def _keeps(constraint: Constraint, values: Mapping[str, Value]) -> bool:
    return constraint.violation(values[constraint.objective.name].value) <= 0


def _infeasible(
    space: SearchSpace,
    costs: "CostModel",
    constraints: Sequence[Constraint],
    start: Sequence[Architecture],
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """Returns what the network that breaks the constraints least still breaks; nothing where one keeps them all."""

    def broken(values: Mapping[str, Value]) -> float:
        scaled = (one.violation(values[one.objective.name].value) / (abs(one.bound) or 1.0) for one in constraints)
        return sum(max(0.0, part) for part in scaled)

    judged = {one.key: (broken(row), one, row) for one, row in zip(start, costs.costs_of(start), strict=True)}
    for _ in range(_ROUNDS):
        best = sorted(judged.values(), key=lambda item: item[0])[:_BEAM]
        if best[0][0] == 0:
            return ()
        mutants = {m.key: m for _, one, _ in best for m in [space.mutate(one, rng) for _ in range(_MUTANTS)]}
        new = [one for key, one in mutants.items() if key not in judged]
        judged |= {one.key: (broken(row), one, row) for one, row in zip(new, costs.costs_of(new), strict=True)}
    least, _, values = min(judged.values(), key=lambda item: item[0])
    return tuple(
        f"{one.text}: the nearest of {len(judged)} networks has {values[one.objective.name].value:.4g}; loosen the "
        "bound or change the space"
        for one in constraints
        if least and not _keeps(one, values)
    )


def _notes(
    config: ExperimentConfig,
    unknown: Sequence[Objective],
    shown: Sequence[Mapping[str, Value]],
    feasible: float,
    infeasible: Sequence[str],
) -> tuple[str, ...]:
    small, large = shown[0]["macs"].value, shown[-1]["macs"].value
    notes = [
        f"{one.name}: no predictor yet, the run measures {config.latency.count} networks first; until then MACs stand "
        f"in: the largest network has {large / small:.3g} times those of the smallest"
        for one in unknown
    ]
    notes += [
        f"{one.text}: accuracy is known only after evaluation"
        for one in config.parsed_constraints
        if one.objective.metric == "accuracy"
    ]
    if not feasible and not infeasible:
        notes.append(
            f"none of {_DRAWN} networks drawn keeps every constraint, though some do: the search will find few; "
            "loosen a bound or narrow the space"
        )
    return tuple(notes)


def _stages(
    run: Run,
    space: SearchSpace,
    data: "ImageData",
    networks: tuple[Architecture, ...],
    unknown: Sequence[Objective],
    *,
    trial: bool,
    progress: ProgressListener,
) -> tuple[PlannedStage, ...]:
    config = run.config
    supernet = isinstance(config.accuracy, SupernetConfig)
    evaluated = _evaluated(run)
    found: TrialSeconds | None = None
    if trial:
        progress(Progress("plan", 1, 2, "a short training, thrown away"))
        found = try_out(config, space, data, networks)
    stages = []
    if supernet and (run.supernet_dir / "supernet.safetensors").exists():
        stages.append(PlannedStage("train", 0.0, "done", "the supernet is trained"))
    elif isinstance(config.accuracy, SupernetConfig) and found:
        stages.append(_training(config.accuracy, found))
    elif supernet:
        stages.append(PlannedStage("train", None, "unknown", f"{config.accuracy.epochs} epochs"))
    for device in dict.fromkeys(str(objective.device) for objective in unknown):
        stages.append(_measuring(config, device))
    stages += [_searching(config, evaluated, found), _finishing(config, found, len(data.train.labels))]
    return tuple(stages)


def _evaluated(run: Run) -> list[float]:
    """Returns the seconds of every evaluation that the run has behind it."""
    from nas.search.ledger import Ledger

    if run.config.ledger is None and not run.ledger_path.is_file():
        return []
    with Ledger.of(run) as ledger:
        attempts = ledger.attempts() if ledger.exists() else []
    done = (one for one in attempts if one.ending == "done" and one.finished_unix_s is not None)
    return [one.finished_unix_s - one.started_unix_s for one in done if one.finished_unix_s is not None]


def _training(accuracy: SupernetConfig, found: TrialSeconds) -> PlannedStage:
    # Each worker has its part of every batch; what they tell each other in between is not counted.
    step = found.train_step / accuracy.workers
    text = f"{found.train_steps} steps of {step:.3g} s on this machine"
    text += f", {accuracy.workers} workers" if accuracy.workers > 1 else ""
    return PlannedStage("train", step * found.train_steps, "measured now", text)


def _measuring(config: ExperimentConfig, device: str) -> PlannedStage:
    from latency_predictors.preset import get_preset

    preset, count = get_preset(config.latency.preset), config.latency.count
    # A second to make and load a network's file; then the blocks' own time.
    a_block = (preset.warmup_ms + preset.window_ms) / 1000 + preset.energy_seconds
    seconds = 1.0 + preset.min_blocks * a_block
    text = f"{count} networks of at least {seconds:.2g} s"
    return PlannedStage(f"measure {device}", count * seconds, "guess", text)


def _searching(config: ExperimentConfig, evaluated: Sequence[float], found: TrialSeconds | None) -> PlannedStage:
    left = max(0, config.search.budget - len(evaluated))
    workers = config.ray.workers if config.ray.executor == "ray" else 1
    basis: Basis = "unknown"
    seconds = math.nan
    if evaluated:
        basis, seconds = "earlier run", float(np.mean(evaluated))
    elif found:
        basis, seconds = "measured now", found.evaluation
    if not left:
        return PlannedStage("search", 0.0, "done", f"{len(evaluated)} evaluated")
    if math.isnan(seconds):
        return PlannedStage("search", None, basis, f"{left} evaluations on {workers} workers")
    stops = isinstance(config.accuracy, StandAloneConfig) and config.accuracy.early_stopping
    most = "at most " if stops and basis == "measured now" else ""  # an earlier run's mean has the stopped ones in it
    text = f"{left} evaluations of {most}{seconds:.3g} s on {workers} workers; proposing them comes on top"
    return PlannedStage("search", left * seconds / workers, basis, text)


def _finishing(config: ExperimentConfig, found: TrialSeconds | None, images: int) -> PlannedStage:
    """By the rule that a step of distillation costs as much an image as one subnet's share of a supernet step here."""
    import torch

    from nas.finish.parallel import workers_for

    models, epochs = config.finish.models, config.finish.epochs
    if not isinstance(config.accuracy, SupernetConfig):  # the search has trained them to the end
        text = f"{models} networks: files, measurements"
        return PlannedStage("finish", models * _CONVERSION_SECONDS, "guess", text)
    text = f"{models} networks: {epochs} epochs of distillation, files, measurements"
    if found is None:
        return PlannedStage("finish", None, "unknown", text)
    an_image = found.train_step / (2 + config.accuracy.random_subnets) / config.accuracy.batch_size
    device = "cuda" if torch.cuda.is_available() else "cpu"
    at_once = workers_for(models, config.ray, device=device, threads=config.accuracy.threads) or 1
    text += f"; {at_once} trained at once" if at_once > 1 else ""
    seconds = math.ceil(models / at_once) * epochs * images * an_image + models * _CONVERSION_SECONDS
    return PlannedStage("finish", seconds, "guess", text)
