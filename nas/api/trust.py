"""The verb that asks how far a run's ranking can be trusted: some of its networks are trained by themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.api.evaluation import evaluator_of, executor_of, stand_alone_evaluator
from nas.api.latency import distinct_networks
from nas.api.results import draw_front_files, front
from nas.config import AccuracyConfig, StandAloneConfig, SupernetConfig
from nas.errors import InputError, RunError
from nas.front import Front
from nas.progress import Progress, ProgressListener, silent
from nas.run import Run
from nas.trust import LEAST_NETWORKS, RankingTrust, TrainedNetwork, network_rows, spread_over_front
from search_spaces.architecture import Architecture
from search_spaces.cost import network_cost
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.data import ImageData
    from nas.search.executors.base import Executor

_ATTEMPTS = 3
_POOL = 50
"""Networks drawn from the space for each one that is trained."""


def trust(
    run_dir: Path,
    count: int = LEAST_NETWORKS,
    seeds: int = 2,
    progress: ProgressListener = silent,
    *,
    epochs: int | None = None,
) -> RankingTrust:
    """Trains networks of a finished run by themselves and compares their order with the supernet's.

    Half of them are spread over the front, the others over the arithmetic of the whole space; each is trained from
    fresh weights with the run's own training, shorter where that is asked for, on the run's own images. Every accuracy
    is committed to trust.json as it is known: a start that was killed is repeated and goes on, one with a larger
    ``count`` or more ``seeds`` adds to it.
    At the end trust.png is drawn, and front.html and front.png again, where networks are grouped that are statistically
    tied.

    Args:
        run_dir: of the run.
        count: networks, at least `LEAST_NETWORKS`.
        seeds: trainings of each, at least 1.
        progress: told where it stands.
        epochs: of each training, at least 1; as many as the supernet had where None.

    Raises:
        InputError: no run, no supernet, nothing searched yet, too small a number, or an earlier trust of another
            supernet or training.
        RunError: another process works on this run, or a network cannot be trained.
    """
    from nas.data import load_data
    from nas.plots.trust_png import write_trust_png

    run = Run.open(run_dir)
    config = run.config
    if not isinstance(config.accuracy, SupernetConfig):
        raise InputError(
            f"{run_dir} trains every candidate by itself (accuracy.method: {config.accuracy.method}): its ranking is "
            "no estimate of a supernet"
        )
    epochs = config.accuracy.epochs if epochs is None else epochs
    for name, value, least in (("count", count, LEAST_NETWORKS), ("seeds", seeds, 1), ("epochs", epochs, 1)):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    found = front(run_dir)
    with run.locked(), run.stage("trust") as note:
        data = load_data(config.data).without_test()
        space = config.space.load().with_data(image_channels=data.image_channels, classes=data.classes)
        result = _Trainings(run, found, space, data, count, seeds, epochs, progress).run()
        tau = result.agreements[0].kendall.value
        note(f"{len(result.networks)} networks, {len(result.seeds)} seeds: Kendall tau {tau:.3f}")
        write_trust_png(result, run.trust_path.with_suffix(".png"))
        draw_front_files(run, found)
    return result


def trust_rows(trust: RankingTrust) -> list[dict[str, object]]:
    """Returns a table row for each agreement."""
    return [
        {
            "order of": one.of,
            "networks": one.networks,
            **{
                name: f"{found.value:.3f} [{found.lower:.3f}, {found.upper:.3f}]"
                for name, found in (("Kendall tau", one.kendall), ("Spearman", one.spearman))
            },
        }
        for one in trust.agreements
    ]


def trained_rows(trust: RankingTrust) -> list[dict[str, object]]:
    """Returns a table row for each network that was trained."""
    return network_rows(trust.networks)


class _Trainings:
    """Brings a trust to its end, from what of it is committed."""

    def __init__(
        self,
        run: Run,
        found: Front,
        space: SearchSpace,
        data: "ImageData",
        count: int,
        seeds: int,
        epochs: int,
        progress: ProgressListener,
    ) -> None:
        self._run, self._front, self._space, self._data = run, found, space, data
        self._count = count
        self._progress = progress
        accuracy = run.config.accuracy
        shared = {name: getattr(accuracy, name) for name in AccuracyConfig.model_fields}
        self._training = StandAloneConfig(**shared | {"epochs": epochs})
        self._seeds = tuple(run.config.seed + number for number in range(seeds))

    def run(self) -> RankingTrust:
        trust = self._begun()
        total = len(trust.networks) * len(trust.seeds)
        for seed in trust.seeds:
            for key, accuracy in self._trained([n.architecture for n in trust.networks if seed not in n.trained], seed):
                networks = tuple(
                    replace(one, trained={**one.trained, seed: accuracy}) if one.architecture.key == key else one
                    for one in trust.networks
                )
                trust = replace(trust, networks=networks)
                trust.save(self._run.trust_path)
                done = sum(len(one.trained) for one in networks)
                (estimated,) = (one.estimated for one in networks if one.architecture.key == key)
                text = f"{key} seed {seed}: accuracy {accuracy:.4f}, with the supernet's weights {estimated:.4f}"
                self._progress(Progress("trust", done, total, text))
        return trust

    def _begun(self) -> RankingTrust:
        """Returns what an earlier start has committed, with networks added up to the count."""
        from nas.finish.bundle import stored
        from nas.training.supernet import SUPERNET_FILE

        run = self._run
        evaluator = evaluator_of(run, self._space, self._data)
        depends_on = {
            "supernet": stored(run.supernet_dir / SUPERNET_FILE).sha256,
            "training": self._training.model_dump_json(),
            "training images": self._data.hashes["train"],
        }
        trust = RankingTrust.load(run.trust_path) or RankingTrust(run.config.name, depends_on, (), ())
        trust.continues(depends_on)
        added = self._networks({one.architecture.key for one in trust.networks})
        if added:
            evaluator.setup()
        for number, (architecture, on_front) in enumerate(added, start=1):
            estimated = evaluator.evaluate(architecture)["accuracy"]
            network = TrainedNetwork(architecture, on_front, estimated, {})
            trust = replace(trust, networks=(*trust.networks, network))
            self._progress(Progress("choose", number, len(added), f"{architecture.key}: supernet {estimated:.4f}"))
        trust = replace(trust, seeds=tuple(sorted({*trust.seeds, *self._seeds})))
        trust.save(run.trust_path)
        return trust

    def _networks(self, known: set[str]) -> list[tuple[Architecture, bool]]:
        """Returns networks up to the count, and whether each is from the front; none that is known."""
        missing = self._count - len(known)
        if missing <= 0:
            return []
        best = [point.architecture for point in spread_over_front(self._front, self._count // 2)]
        chosen = [(one, True) for one in best if one.key not in known][: -(-missing // 2)]
        known = {*known, *(one.key for one, _ in chosen)}
        wanted = missing - len(chosen)
        pool_size = min(self._space.size, _POOL * wanted + len(known))
        drawn = distinct_networks(self._space, pool_size, self._run.config.seed)
        pool = sorted((network_cost(layers).macs, one.key, one) for one, layers in drawn if one.key not in known)
        if len(pool) < wanted:
            raise InputError(f"count must be at most {self._space.size}, the size of the space, got {self._count}")
        # The middle one of each stratum of the arithmetic.
        places = ((np.arange(wanted) + 0.5) * len(pool) / wanted).astype(int)
        return chosen + [(pool[place][2], False) for place in places]

    def _trained(self, architectures: Sequence[Architecture], seed: int) -> Iterator[tuple[str, float]]:
        """Yields key and accuracy of each network as it is trained, where and by as many as the run's search was."""
        from nas.search.executors.base import Job

        if not architectures:
            return
        run = self._run
        folder = run.trust_path.with_suffix("")
        folder.mkdir(exist_ok=True)
        networks = folder.resolve() / f"seed-{seed}"
        evaluator = stand_alone_evaluator(run.config, self._training, self._space, self._data, networks, seed=seed)
        with executor_of(run.config) as executor:
            executor.start(evaluator)
            for number, architecture in enumerate(architectures):
                executor.submit(Job(number, architecture))
            yield from _outcomes(executor, len(architectures))


def _outcomes(executor: "Executor", count: int) -> Iterator[tuple[str, float]]:
    failed: dict[int, int] = {}
    while count:
        for outcome in executor.wait(timeout_s=1.0):
            if outcome.metrics is not None:
                count -= 1
                yield outcome.job.architecture.key, outcome.metrics["accuracy"]
                continue
            assert outcome.failure is not None
            number = outcome.job.attempt
            failed[number] = failed.get(number, 0) + 1
            if failed[number] == _ATTEMPTS:
                raise RunError(
                    f"{outcome.job.architecture.key} could not be trained in {_ATTEMPTS} attempts "
                    f"({outcome.failure.error_class}: {outcome.failure.text}); the others are kept, the same command "
                    "goes on from there"
                )
            executor.submit(outcome.job)
