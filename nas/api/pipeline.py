"""The way of a run: train, measure, fit, search, pick, finish. Every stage finds what earlier starts have done."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from nas.api.evaluation import evaluator_of, executor_of, weights_of
from nas.api.results import front, pick, read_picks, write_front
from nas.api.run_predictors import copy_named_predictors, named_predictors, predictors_of, unfitted
from nas.config import ExperimentConfig, SupernetConfig, load_config
from nas.errors import InputError, RunError
from nas.front import Front, FrontPoint
from nas.progress import Progress, ProgressListener, silent
from nas.run import Run
from search_spaces.checksum import verify_checksum
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.data import ImageData
    from nas.finish import Bundle


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Attributes:
        run_dir: of the run.
        front: every evaluated network, judged.
        bundles: the finished networks.
    """

    run_dir: Path
    front: Front
    bundles: "tuple[Bundle, ...]"

    @property
    def front_html(self) -> Path:
        """The page of the front."""
        return self.run_dir / "front.html"

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        return {
            "run": str(self.run_dir),
            "front_html": str(self.front_html),
            "evaluated": len(self.front.points),
            "on_front": len(self.front.best),
            "knee": self.front.knee,
            "models": [bundle.to_dict() for bundle in self.bundles],
        }

    def rows(self) -> list[dict[str, object]]:
        """Returns a table row for each finished file."""
        return [row for bundle in self.bundles for row in bundle.rows()]


def start(config: Path | ExperimentConfig, overrides: tuple[str, ...] = (), more: int | None = None) -> Run:
    """Returns the run of an experiment, made or resumed; nothing is computed yet.

    Args:
        config: an experiment, its YAML file, or the directory of a run, which is resumed there.
        overrides: as `load_config`.
        more: evaluations beyond those there are; the new budget is written into the run's config. Repeated before that
            budget is met, it counts from where the extension began, so that a killed command can simply be repeated.

    Raises:
        InputError: a mistake in the file, the run was started with another space, data, objectives or seed, or there
            is nothing to extend; or a predictor that `devices` names cannot be used.
        RunError: another process works on this run.
    """
    experiment = config if isinstance(config, ExperimentConfig) else load_config(config, overrides)
    path = experiment.run_dir
    replaced = {override.partition("=")[0] for override in overrides}
    if isinstance(config, Path) and config.is_dir():
        path = config
        if replaced & {"name", "runs_dir"}:
            raise InputError(f"{path} keeps its name and place: give its experiment YAML to start another run")
    run = Run(path, experiment)
    if more is None:
        with run.locked():
            return _started(experiment, path)
    if more < 1:
        raise InputError(f"more must be at least 1 evaluation, got {more}")
    if "search.budget" in replaced:
        raise InputError("--more and search.budget exclude each other: give one of them")
    if not (path / "config.yaml").is_file():
        raise _not_searched(path)
    with run.locked():
        return _started(_extended(experiment, Run(path, experiment), more), path)


def _started(experiment: ExperimentConfig, path: Path) -> Run:
    if not Run.other_experiment(path, experiment):
        named_predictors(Run(path, experiment))  # a mistake is told before the directory is that of the experiment
    run = Run.start(experiment, path)
    copy_named_predictors(run)
    return run


def _not_searched(path: Path) -> InputError:
    return InputError(f"nothing was searched in {path} yet: search up to the budget first, without --more")


def _extended(experiment: ExperimentConfig, run: Run, more: int) -> ExperimentConfig:
    from nas.search.ledger import Ledger

    with Ledger.of(run) as ledger:
        if not ledger.exists():
            raise _not_searched(run.path)
        done = sum(candidate.state == "done" for candidate in ledger.candidates())
    earlier = Run.open(run.path).config.search
    unmet = earlier.extended_from is not None and done < earlier.budget
    base = earlier.extended_from if unmet and earlier.extended_from is not None else done
    extension = {"budget": base + more, "extended_from": base}
    return experiment.model_copy(update={"search": experiment.search.model_copy(update=extension)})


def quickstart(
    name: str = "quickstart", runs_dir: Path = Path("runs"), progress: ProgressListener = silent
) -> RunResult:
    """Runs the embedded experiment: the whole way on scikit-learn's digits.

    Args:
        name: of the run.
        runs_dir: where its directory is made.
        progress: told where it stands.
    """
    path = Path(str(files("nas").joinpath("quickstart.yaml")))
    return run(start(path, (f"name={name}", f"runs_dir={runs_dir}")), progress)


def run(run: Run, progress: ProgressListener = silent) -> RunResult:
    """Goes the whole way of a run; goes on where an earlier start was stopped.

    Raises:
        RunError: another process works on this run, or a stage cannot go on.
    """
    search(run, progress)
    return finish(run.path, (), progress)


@dataclass(frozen=True)
class TrainedSupernet:
    """The supernet of a run.

    Attributes:
        path: of its weights.
        sha256: of that file, hexadecimal.
        images: it was trained on.
    """

    path: Path
    sha256: str
    images: int

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        return {"supernet": str(self.path), "sha256": self.sha256, "images": self.images}


def train(run: Run, progress: ProgressListener = silent) -> TrainedSupernet:
    """Trains the run's supernet, or finds it trained.

    Raises:
        InputError: the run has no supernet.
    """
    if not isinstance(run.config.accuracy, SupernetConfig):
        raise InputError(
            f"{run.path} trains every candidate by itself (accuracy.method: {run.config.accuracy.method}), there is no "
            "supernet to train: start its search"
        )
    with run.locked():
        return _train(run, _Loaded(run.config), progress)


class _Loaded:
    """The space and the data of a config, loaded once for all stages."""

    def __init__(self, config: ExperimentConfig) -> None:
        from nas.data import load_data

        self.data: ImageData = load_data(config.data)
        self.space: SearchSpace = config.space.load().with_data(
            image_channels=self.data.image_channels, classes=self.data.classes
        )


def _train(run: Run, loaded: _Loaded, progress: ProgressListener) -> TrainedSupernet:
    from nas.finish.bundle import stored
    from nas.training.supernet import SUPERNET_FILE

    path, config = run.supernet_dir / SUPERNET_FILE, run.config.accuracy
    assert isinstance(config, SupernetConfig)
    if not path.exists():
        with run.stage("train"):
            _train_new(run, loaded, config, _training_progress(progress))
    try:
        verify_checksum(path.read_bytes())
    except ValueError as error:
        raise RunError(
            f"{path} is damaged ({error}): `nas doctor {run.path} --repair` sets it aside, and the same command trains "
            "it again"
        ) from None
    return TrainedSupernet(path, stored(path).sha256, len(loaded.data.train.labels))


def _train_new(
    run: Run, loaded: _Loaded, config: SupernetConfig, progress: Callable[[int, int, dict[str, float]], None]
) -> None:
    space, data, folder = loaded.space, loaded.data.without_test(), run.supernet_dir
    seed, flip = run.config.seed, run.config.data.flip
    if config.workers > 1:
        from nas.search.executors.ray_train import train_supernet_with_ray

        train_supernet_with_ray(
            space, data, config, folder, ray_config=run.config.ray, seed=seed, flip=flip, progress=progress
        )
        return
    from nas.training.device import training_device
    from nas.training.supernet import train_supernet

    device = training_device(config.threads)
    train_supernet(space, data, config, folder, seed=seed, device=device, flip=flip, progress=progress)


def _training_progress(progress: ProgressListener) -> Callable[[int, int, dict[str, float]], None]:
    def told(step: int, total: int, metrics: dict[str, float]) -> None:
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
        progress(Progress("train", step, total, text))

    return told


def search(run: Run, progress: ProgressListener = silent) -> dict[str, object]:
    """Searches up to the budget, after training and measuring what is missing; writes the front's files.

    Returns:
        A summary: why the search ended, counts, the size of the front, its hypervolume and knee.
    """
    from nas.tracking.session import tracked

    with run.locked(), tracked(run, progress) as listener:
        copy_named_predictors(run)  # where a repair has set one aside
        unfitted(run)  # what cannot be measured is told before hours of training
        loaded = _Loaded(run.config)
        trained = _train(run, loaded, listener) if isinstance(run.config.accuracy, SupernetConfig) else None
        return _search(run, loaded, trained, listener)


def _search(
    run: Run, loaded: _Loaded, trained: TrainedSupernet | None, progress: ProgressListener
) -> dict[str, object]:
    from latency_predictors.catalog import Catalog
    from nas.evaluators.costs import AnalyticAndPredictedCosts
    from nas.search.ledger import Ledger
    from nas.search.loop import run_search
    from nas.search.mirror import mirrored
    from nas.search.problem import SearchProblem
    from nas.search.results import evaluated

    config = run.config
    predictors = predictors_of(run, loaded.space, progress)
    costs = AnalyticAndPredictedCosts(
        loaded.space,
        config.parsed_terms,
        precisions={name: device.precision for name, device in config.devices.items()},
        predictors=predictors,
    )
    entries = [Catalog(run.predictors_dir).entry(name) for name in predictors]
    hashes = {
        f"predictor of {entry.name}": f"{entry.id} {entry.training_set} {entry.origin}".rstrip() for entry in entries
    }
    if trained:
        hashes["supernet"] = trained.sha256
    else:
        hashes |= {"accuracy": config.accuracy.model_dump_json(), "training images": loaded.data.hashes["train"]}
    problem = SearchProblem(loaded.space, config.parsed_objectives, config.parsed_constraints, hashes)
    with run.stage("search") as note, mirrored(run), Ledger.of(run) as ledger:
        outcome = run_search(
            problem,
            evaluator=evaluator_of(run, loaded.space, loaded.data),
            costs=costs,
            executor=executor_of(config),
            ledger=ledger,
            config=config.search,
            seed=config.seed,
            validation_images=len(loaded.data.validation.labels),
            listener=progress,
        )
        if outcome.kind == "stopped":
            raise KeyboardInterrupt(outcome.reason)
        note(
            f"{outcome.reason}; {outcome.evaluated} evaluated, {outcome.infeasible} not allowed, {outcome.failed} "
            f"failed, {outcome.late} late"
        )
        found = evaluated(ledger)
    result = write_front(run, found, costs)
    return asdict(outcome) | {
        "on_front": len(result.best),
        "hypervolume": result.hypervolume,
        "knee": result.knee or "",
    }


def finish(run_dir: Path, keys: Sequence[str] = (), progress: ProgressListener = silent) -> RunResult:
    """Finishes networks of a run; those whose files are whole already are not finished again.

    Args:
        run_dir: of the run.
        keys: of evaluated architectures; by default the run's picks, or, where nobody picked, `FinishConfig.models`
            spread along the front.
        progress: told where it stands.

    Raises:
        InputError: no run, no such architecture, nothing searched yet.
    """
    from nas.data import load_data
    from nas.finish import Finishing, Pick

    run = Run.open(run_dir)
    with run.locked():
        found = front(run_dir)
        points = [found.point(key) for key in dict.fromkeys(keys)] if keys else _picks(run, found)
        config, data = run.config, load_data(run.config.data)
        finishing = Finishing(
            weights=weights_of(run, data),
            data=data,
            config=config.finish,
            devices=config.devices,
            constraints=config.parsed_constraints,
            folder=run.finish_dir,
            seed=config.seed,
            preset=config.latency.preset,
            flip=config.data.flip,
            ray=config.ray,
        )
        with run.stage("finish"):
            bundles = finishing.finish([Pick(point.architecture, point.values) for point in points], progress)
    return RunResult(run_dir, found, bundles)


def _picks(run: Run, found: Front) -> Sequence[FrontPoint]:
    """Returns the run's picks; picks spread along the front where nobody has picked."""
    keys = read_picks(run)
    if keys:
        return [found.point(key) for key in keys]
    return pick(run.path, rule="spread", count=run.config.finish.models)
