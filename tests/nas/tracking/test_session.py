"""A search followed by the real tools; what they keep is read back by their own readers."""

import importlib.util
import logging
import socket
import sys
import types
from pathlib import Path

import pytest

from nas.config import load_config
from nas.errors import InputError
from nas.front import Front
from nas.progress import Progress, silent
from nas.run import Run
from nas.search.results import evaluated
from nas.search.tracker import SearchProgress
from nas.tracking.session import tracked
from tests.nas.search.small import Small

DIGITS = Path(__file__).parents[3] / "experiments" / "configs" / "digits.yaml"


def run_of(folder: Path, *trackers: str) -> Run:
    overrides = ("name=t", f"runs_dir={folder}", f"tracking=[{','.join(trackers)}]", "objectives=[accuracy, macs]")
    return Run.start(load_config(DIGITS, (*overrides, "constraints=[]")))


def search(run: Run, budget: int = 8) -> tuple[list[SearchProgress], Front]:
    """Runs a search as `nas search` does, up to the files of the front; returns what was heard."""
    heard: list[Progress] = []
    small = Small(run.path, budget=budget)
    with tracked(run, heard.append) as listener:
        small.run(listener=listener)
        with small.ledger() as ledger:
            found = [(one.architecture, one.values) for one in evaluated(ledger)]
        front = Front.of("t", run.config.parsed_objectives, (), found)
        front.save(run.front_path)
        from nas.plots.front_png import write_front_png

        write_front_png(front, run.path / "front.png")
    return [progress for progress in heard if isinstance(progress, SearchProgress)], front


def expected(heard: list[SearchProgress], name: str) -> dict[int, float]:
    """The values of one objective's best, by step."""
    return {progress.done: progress.best[name] for progress in heard if progress.best}


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def _reader(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")
        pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
        # TensorBoard's own switch for reading without TensorFlow, which takes seconds to import.
        monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))

    def test_event_files_hold_every_step_the_final_hypervolume_and_the_front(self, tmp_path: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = run_of(tmp_path, "tensorboard")
        heard, front = search(run)
        events = EventAccumulator(str(run.path / "tensorboard"))
        events.Reload()
        for name in ("accuracy", "macs"):
            found = {event.step: event.value for event in events.Scalars(f"search/best_{name}")}
            assert found == pytest.approx(expected(heard, name))
        volumes = [event.value for event in events.Scalars("search/hypervolume")]
        assert volumes == sorted(volumes)
        assert volumes[-1] == pytest.approx(front.hypervolume)
        assert (events.Images("front")[0].width, events.Images("front")[0].step) == (1600, 8)

    def test_a_resumed_run_goes_on_in_the_same_folder(self, tmp_path: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = run_of(tmp_path, "tensorboard")
        search(run, budget=5)
        search(run, budget=9)
        events = EventAccumulator(str(run.path / "tensorboard"))
        events.Reload()
        assert {event.step for event in events.Scalars("search/front_size")} == set(range(10))


class TestMLflow:
    @pytest.fixture(autouse=True)
    def _installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("mlflow", reason="needs the extra mlflow")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    @pytest.mark.slow
    def test_a_resumed_run_is_one_mlflow_run_with_metrics_parameters_and_artifacts(self, tmp_path: Path) -> None:
        from mlflow import MlflowClient

        run = run_of(tmp_path, "mlflow")
        first, _ = search(run, budget=5)
        heard, front = search(run)
        client = MlflowClient(f"sqlite:///{run.path / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("t")
        assert experiment is not None
        (found,) = client.search_runs([experiment.experiment_id])
        assert found.info.status == "FINISHED"
        assert found.data.params["objectives"] == "accuracy, macs"
        assert found.data.metrics["hypervolume"] == pytest.approx(front.hypervolume)
        history = {metric.step: metric.value for metric in client.get_metric_history(found.info.run_id, "best_macs")}
        assert history == pytest.approx(expected([*first, *heard], "macs"))
        assert {file.path for file in client.list_artifacts(found.info.run_id)} == {
            "config.yaml", "front.json", "front.png",
        }  # fmt: skip
        uploaded = client.download_artifacts(found.info.run_id, "front.json")
        assert Front.load(Path(uploaded)) == front

    def test_how_a_search_ended_is_told_and_what_stops_it_goes_on_stopping_it(self, tmp_path: Path) -> None:
        from mlflow import MlflowClient

        run = run_of(tmp_path, "mlflow")
        with pytest.raises(KeyboardInterrupt), tracked(run, silent):
            raise KeyboardInterrupt
        client = MlflowClient(f"sqlite:///{run.path / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("t")
        assert experiment is not None
        assert [found.info.status for found in client.search_runs([experiment.experiment_id])] == ["KILLED"]

    def test_a_server_that_cannot_be_had_does_not_stop_the_search(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        run = run_of(tmp_path, "mlflow")
        with caplog.at_level(logging.WARNING):
            heard, _ = search(run, budget=3)
        assert heard[-1].done == 3
        assert "tracking: mlflow has stopped (" in caplog.text


def test_a_tool_that_is_not_installed_is_told_with_its_extra_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("nas.tracking.base.find_spec", lambda name: None if name == "mlflow" else real(name))
    run = run_of(tmp_path, "mlflow")
    sentence = r"mlflow needs the extra mlflow: pip install 'hwnas\[mlflow\]'"
    with pytest.raises(InputError, match=sentence), tracked(run, silent):
        pytest.fail("the search must not begin")
    assert not list(run.path.glob("mlflow*"))


def test_without_trackers_a_search_is_only_listened_to(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    heard, front = search(run)
    assert heard[-1].hypervolume == pytest.approx(front.hypervolume)
    assert {path.name for path in run.path.iterdir()} >= {"front.json", "ledger.db"}
    assert not list(run.path.glob("*tensorboard*")) + list(run.path.glob("mlflow*"))
