"""Trainings as trials of Ray Tune, which places them, keeps their actors, and stops what falls behind.

Tune remembers nothing from one start of a search to the next: the ledger does. Each start makes a fresh Tuner, whose
searcher hands out the jobs of the loop and takes the trials' ends back. What was cut off becomes a new trial of a new
attempt, which goes on from the checkpoint that the evaluator keeps.
"""

import json
import logging
import math
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import IO, Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from nas.config import EarlyStoppingConfig, RayConfig
from nas.errors import RunError
from nas.evaluators.base import EPOCHS, Evaluator, fully_trained
from nas.search.executors.base import Executor, Failure, Job, Outcome, describe
from nas.search.executors.ray_session import connect, make_temp_dir
from nas.search.executors.ray_worker import pin_threads, process_name, set_up, shipped_bytes
from search_spaces.architecture import Architecture

_logger = logging.getLogger(__name__)

_ANSWER, _WORKER, _ACCURACY, _BAND = "answer", "worker", "accuracy", "band"
_CLOSE_SECONDS = 60.0


class _Training(tune.Trainable):
    """A trial: a step is an epoch. One object trains many architectures, one after the other."""

    def setup(  # type: ignore[override]  # `tune.with_parameters` adds arguments
        self, config: dict[str, Any], evaluator: Evaluator, threads: int
    ) -> None:
        pin_threads(threads)
        self._evaluator = evaluator
        self._setup_failure = set_up(evaluator, threads)
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        self._architecture = Architecture.from_json(config["architecture"])
        self._epochs = self._evaluator.by_epoch(self._architecture)
        self._metrics: dict[str, float] | None = None
        self._ended = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Goes on to another trial: Tune has ended the one before, whether or not it ended by itself."""
        if not self._ended and self._metrics is not None and not fully_trained(self._metrics):
            self._evaluator.discard(self._architecture)
        self._begin(new_config)
        return True

    def step(self) -> dict[str, object]:
        """Returns an epoch's metrics, or how the training ended; errors are data, as in every worker."""
        failure, done = self._setup_failure, True
        if failure is None:
            try:
                metrics = next(self._epochs, None)
                if metrics is not None:
                    self._metrics, done = {name: float(value) for name, value in metrics.items()}, False
            except Exception as error:
                failure = describe(error)
        self._ended = done
        answer: dict[str, object] = (
            {"metrics": self._metrics} if failure is None else {"failure": [failure.error_class, failure.text]}
        )
        if self._setup_failure is not None:
            answer["setup"] = True
        compared = {name: (self._metrics or {}).get(name, 0.0) for name in (_ACCURACY, EPOCHS)}
        return {_ANSWER: json.dumps(answer), _WORKER: process_name(), "done": done, **compared}


class _Feed(Searcher):
    """Hands the jobs of the loop to Tune, in Tune's thread, and takes the ends of their trials."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: SimpleQueue[Outcome | RunError] = SimpleQueue()
        self._jobs: SimpleQueue[tuple[Job, str] | None] = SimpleQueue()
        self._running: dict[str, Job] = {}
        self._workers: dict[str, str] = {}

    def add(self, job: Job, band: str) -> None:
        """Queues a job; called in the loop's thread, as `finish` is."""
        self._jobs.put((job, band))

    def finish(self) -> None:
        self._jobs.put(None)

    def suggest(self, trial_id: str) -> Any:  # Tune's own type leaves `FINISHED` out
        try:
            # Where no trial runs, Tune would ask again after a second's sleep; it has nothing else to do then.
            item = self._jobs.get(block=not self._running)
        except Empty:
            return None
        if item is None:
            self._jobs.put(None)  # for whoever asks again
            return Searcher.FINISHED
        job, band = item
        self._running[trial_id] = job
        return {"architecture": job.architecture.to_json(), _BAND: band}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self._workers[trial_id] = result[_WORKER]

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        job, worker = self._running.pop(trial_id), self._workers.pop(trial_id, "")
        if error or not result or _ANSWER not in result:
            lost = Failure("lost", "TrialLostError", "the process that trained it, or its node, died")
            self.outcomes.put(Outcome(job, worker, failure=lost))
            return
        answer, worker = json.loads(result[_ANSWER]), result[_WORKER]
        if "failure" not in answer:
            self.outcomes.put(Outcome(job, worker, metrics=answer["metrics"]))
            return
        failure = Failure("failed", *answer["failure"])
        if "setup" in answer:
            text = f"a worker cannot load the evaluator ({failure.error_class}: {failure.text})"
            self.outcomes.put(RunError(text))
        else:
            self.outcomes.put(Outcome(job, worker, failure=failure))

    def __reduce__(self) -> tuple[type["_Feed"], tuple[()]]:
        return _Feed, ()  # Tune pickles its settings, for a restoration that never comes

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Keeps nothing: the ledger has it all."""


class _Closing(Stopper):
    """Ends all trials once the executor is closed."""

    def __init__(self) -> None:
        self.closing = False

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.closing


class LatencyBands(FIFOScheduler):
    """ASHA among networks of like latency: one `AsyncHyperBandScheduler` for each latency band.

    A fast network is less accurate than a slow one after every epoch; compared with it, it would always be stopped,
    and with it the fast end of the front.

    Args:
        config: when to decide.
        epochs: of a training to the end.
    """

    def __init__(self, config: EarlyStoppingConfig, epochs: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._config = config
        self._epochs = epochs
        self._decisions = set(_decisions(config, epochs))
        self._bands: dict[str, AsyncHyperBandScheduler] = {}

    def _band(self, trial: Trial) -> AsyncHyperBandScheduler:
        name = trial.config[_BAND]
        if name not in self._bands:
            self._bands[name] = AsyncHyperBandScheduler(
                time_attr=EPOCHS,
                metric=_ACCURACY,
                mode="max",
                max_t=self._epochs,
                grace_period=self._config.min_epochs,
                reduction_factor=self._config.reduction_factor,
            )
        return self._bands[name]

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Adds a trial to its band, as all methods pass on to the band."""
        self._band(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Returns whether the trial goes on.

        A training that goes on from a checkpoint may tell of an epoch between two decisions first. ASHA would judge it
        there, and count its accuracy as one of fewer epochs; it is judged at the next decision.
        """
        if result.get(EPOCHS) not in self._decisions:
            return self.CONTINUE
        return self._band(trial).on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Forgets the trial; its accuracies count for those to come where it was judged."""
        self._band(trial).on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Forgets the trial."""
        self._band(trial).on_trial_remove(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Forgets the trial."""
        self._band(trial).on_trial_remove(tune_controller, trial)


def _decisions(config: EarlyStoppingConfig, epochs: int) -> Iterator[int]:
    """Yields the epochs after which a training may be stopped, and its last one."""
    decision = config.min_epochs
    while decision < epochs:
        yield decision
        decision *= config.reduction_factor
    yield epochs


def latency_band(costs: Mapping[str, float], ratio: float) -> str:
    """Returns the name of the band of a network's latencies; networks of one band differ by less than the ratio.

    Args:
        costs: by objective name; what is no latency is left out.
        ratio: of the latencies at a band's ends, more than 1.

    Example:
        >>> latency_band({"latency_ms@cpu": 2.0, "parameters": 3e4}, 1.25), latency_band({"macs": 1e6}, 1.25)
        ('3', '')
    """
    latencies = [value for name, value in sorted(costs.items()) if name.startswith("latency_ms")]
    return " ".join(str(math.floor(math.log(value) / math.log(ratio))) for value in latencies)


class TuneExecutor(Executor):
    """Trains on up to `workers` actors of Ray Tune; an evaluator that does not train works too.

    Where training is stopped early, the outcome's metrics are those of the last epoch and say which that was.

    Args:
        config: address, number and resources of the workers.
        early_stopping: None trains everything to the end.
        epochs: of a training to the end.
    """

    def __init__(self, config: RayConfig, early_stopping: EarlyStoppingConfig | None = None, epochs: int = 1) -> None:
        self._config = config
        self._early_stopping = early_stopping
        self._epochs = epochs
        self._feed = _Feed()
        self._closing = _Closing()
        self._disconnect = _nothing
        self._folder: tuple[Any, IO[str]] | None = None
        self._thread: threading.Thread | None = None

    @property
    def capacity(self) -> int:
        """The number of workers."""
        return self._config.workers

    def start(self, evaluator: Evaluator) -> None:
        """Connects to Ray and starts Tune in a thread; it asks for an actor with the first job.

        Raises:
            RunError: Ray cannot be started or reached, or this process is connected already.
        """
        self._disconnect = connect(self._config, shipped_bytes(evaluator))
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # outcomes tell what it would log
        self._folder = make_temp_dir()
        threads = max(1, int(self._config.cpus_per_worker))
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(_Training, evaluator=evaluator, threads=threads),
                {"cpu": self._config.cpus_per_worker, "gpu": self._config.gpus_per_worker},
            ),
            tune_config=tune.TuneConfig(
                search_alg=self._feed,
                scheduler=LatencyBands(self._early_stopping, self._epochs) if self._early_stopping else None,
                num_samples=-1,
                max_concurrent_trials=self._config.workers,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(self._folder[0]),
                stop=self._closing,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the evaluator keeps its own
                verbose=0,
            ),
        )
        self._thread = threading.Thread(target=self._fit, args=(tuner,), name="ray-tune", daemon=True)
        self._thread.start()

    def _fit(self, tuner: tune.Tuner) -> None:
        try:
            tuner.fit()
        except Exception as error:
            _logger.debug("Ray Tune ended", exc_info=True)
            self._feed.outcomes.put(RunError(f"Ray Tune cannot go on ({type(error).__name__}: {error})"))

    def submit(self, job: Job) -> None:
        """Queues the job for Tune."""
        stopping = self._early_stopping
        self._feed.add(job, latency_band(job.costs, stopping.latency_ratio) if stopping else "")

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Returns what is ready once something is, or nothing when the time is over."""
        deadline = time.monotonic() + timeout_s
        outcomes: list[Outcome] = []
        while True:
            try:
                left_s = 0.0 if outcomes else max(0.0, deadline - time.monotonic())
                outcome = self._feed.outcomes.get(timeout=left_s)
            except Empty:
                return outcomes
            if isinstance(outcome, RunError):
                raise outcome
            outcomes.append(outcome)

    def close(self) -> None:
        """Ends Tune, its actors and the connection; a private Ray ends with all its processes and files."""
        self._closing.closing = True
        self._feed.finish()
        thread, self._thread = self._thread, None
        folder, self._folder = self._folder, None
        try:
            if thread is not None:
                thread.join(_CLOSE_SECONDS)
        finally:
            disconnect, self._disconnect = self._disconnect, _nothing
            disconnect()
            if folder is not None:
                shutil.rmtree(folder[0], ignore_errors=True)
                folder[1].close()


def _trial_name(trial: Trial) -> str:
    return str(trial.trial_id)


def _nothing() -> None:
    pass
