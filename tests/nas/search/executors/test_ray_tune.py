"""What Ray Tune adds to the contract: epochs, early stopping among networks of like latency, kept processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.config import EarlyStoppingConfig, RayConfig
from nas.errors import RunError
from nas.evaluators.base import fully_trained
from nas.search.executors.base import Executor, Job
from nas.search.executors.ray_tune import LatencyBands, TuneExecutor, latency_band
from search_spaces.architecture import Architecture
from tests.nas.search.executors.commands import BadSetup, Commands, job
from tests.nas.search.executors.test_contract import outcomes
from tests.nas.search.small import append, lines

STOPPING = EarlyStoppingConfig(min_epochs=2, reduction_factor=2, latency_ratio=1.5)
EPOCHS = 4


class Learner(Commands):
    """Learns a tenth of what its architecture can in every epoch; the number of its values says how much that is."""

    def __init__(self, discarded: Path) -> None:
        super().__init__()
        self._discarded = discarded

    def discard(self, architecture: Architecture) -> None:
        append(self._discarded, str(len(architecture.values)))

    def by_epoch(self, architecture: Architecture) -> Iterator[dict[str, float]]:
        for epoch in range(1, EPOCHS + 1):
            found = len(architecture.values) * epoch / 1000
            yield {"accuracy": found, "epochs": float(epoch), "full_epochs": float(EPOCHS)}


def judged(bands: LatencyBands, name: str, band: str, accuracy: float) -> str:
    """Returns what becomes of a trial with this accuracy after the epochs of the first decision."""
    trial = SimpleNamespace(trial_id=name, config={"band": band})
    bands.on_trial_add(None, trial)  # type: ignore[arg-type]
    result = {"accuracy": accuracy, "epochs": STOPPING.min_epochs}
    return bands.on_trial_result(None, trial, result)  # type: ignore[arg-type]


def test_a_fast_network_is_not_stopped_because_slow_ones_are_more_accurate() -> None:
    bands = LatencyBands(STOPPING, EPOCHS)
    for number in range(4):
        judged(bands, f"slow {number}", "9", 0.9 + number / 100)
    assert judged(bands, "fast 0", "1", 0.5) == "CONTINUE"
    assert judged(bands, "fast 1", "1", 0.6) == "CONTINUE"
    assert judged(bands, "fast 2", "1", 0.4) == "STOP"
    assert judged(bands, "slow 4", "9", 0.6) == "STOP"


def test_a_training_that_goes_on_from_a_checkpoint_is_judged_after_as_many_epochs_as_the_others() -> None:
    bands = LatencyBands(STOPPING, 8)
    trials = {name: SimpleNamespace(trial_id=name, config={"band": "1"}) for name in ("whole", "resumed", "later")}

    def after(name: str, epochs: int, accuracy: float) -> str:
        result = {"accuracy": accuracy, "epochs": epochs}
        return bands.on_trial_result(None, trials[name], result)  # type: ignore[arg-type]

    for trial in trials.values():
        bands.on_trial_add(None, trial)  # type: ignore[arg-type]
    assert [after("whole", epochs, 0.5) for epochs in (1, 2, 3, 4)] == ["CONTINUE"] * 4
    assert after("resumed", 3, 0.4) == "CONTINUE", "three epochs are compared with nothing"
    assert after("later", 2, 0.6) == "CONTINUE"
    assert after("resumed", 4, 0.4) == "STOP"
    assert after("whole", 8, 0.7) == "STOP", "done"
    bands.on_trial_complete(None, trials["whole"], {"accuracy": 0.7, "epochs": 8})  # type: ignore[arg-type]


def test_a_band_holds_latencies_that_differ_by_less_than_the_ratio() -> None:
    latencies = [1.5**3 * 1.01, 1.5**4 * 0.99]
    assert len({latency_band({"latency_ms@cpu": value}, 1.5) for value in latencies}) == 1
    assert latency_band({"latency_ms@cpu": 1.5**4 * 1.01}, 1.5) != latency_band({"latency_ms@cpu": latencies[0]}, 1.5)
    two = {"latency_ms@a": 1.0, "latency_ms@b": 1.0}
    assert latency_band(two, 1.5) != latency_band(two | {"latency_ms@b": 9.0}, 1.5), "every device counts"


@pytest.mark.slow
def test_what_falls_behind_its_like_is_stopped_and_says_so(
    tune: Callable[..., Executor], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def learning(attempt: int, values: int, latency_ms: float) -> Job:
        return Job(attempt, job(0, values=values).architecture, {"latency_ms@cpu": latency_ms})

    with tune(workers=1, stopping=STOPPING) as executor:
        executor.start(Learner(tmp_path / "discarded"))
        for attempt, (values, latency_ms) in enumerate([(90, 9.0), (50, 1.0), (80, 9.0), (60, 1.0)]):
            executor.submit(learning(attempt, values, latency_ms))
        found = {outcome.job.attempt: outcome.metrics or {} for outcome in outcomes(executor, 4)}
    assert {attempt: metrics["epochs"] for attempt, metrics in found.items()} == {0: 4, 1: 4, 2: 2, 3: 4}
    assert found[2]["accuracy"] == pytest.approx(0.16)
    assert [fully_trained(found[attempt]) for attempt in range(4)] == [True, True, False, True]
    assert lines(tmp_path / "discarded") == ["80"], "nothing is kept of what does not go on"
    assert capfd.readouterr().out == "", "standard output belongs to the command, not to Ray"


@pytest.mark.slow
def test_the_process_of_a_trial_that_dies_is_replaced_and_the_job_reported_lost(tune_executor: Executor) -> None:
    tune_executor.submit(job(0, "die"))
    (lost,) = outcomes(tune_executor, 1)
    assert lost.failure is not None
    assert (lost.failure.kind, lost.job.attempt) == ("lost", 0)
    tune_executor.submit(job(1, values=3))
    (outcome,) = outcomes(tune_executor, 1)
    assert outcome.metrics == {"accuracy": 3.0}


@pytest.mark.slow
def test_an_evaluator_that_cannot_be_set_up_ends_the_search(tune: Callable[..., Executor]) -> None:
    with tune(workers=1) as executor:
        executor.start(BadSetup(dies=False))
        executor.submit(job(0))
        with pytest.raises(RunError, match=r"cannot load the evaluator \(FileNotFoundError: supernet\.safetensors\)"):
            outcomes(executor, 1)


@pytest.fixture
def tune(private_ray: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Executor]:
    """Makes executors on the one Ray of these tests."""
    from nas.search.executors import ray_tune

    monkeypatch.setattr(ray_tune, "connect", lambda *_: lambda: None)

    def make(workers: int, stopping: EarlyStoppingConfig | None = None) -> Executor:
        return TuneExecutor(RayConfig(workers=workers), stopping, EPOCHS)

    return make
