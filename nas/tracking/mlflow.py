"""MLflow: one MLflow run for each run directory, in a database in it or on the server of ``MLFLOW_TRACKING_URI``."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from nas.run import Run
from nas.tracking.base import Ending, Recorder, Step

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow_artifacts"
_RUN_TAG = "hwnas.run_dir"
_MOST_AT_ONCE = 1000  # metrics that a server takes in one request
_STATUS: dict[Ending, str] = {"done": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MLflow(Recorder):
    """Metrics after every evaluation, the front's files as artifacts.

    Args:
        run: its name is that of the experiment; parameters are taken from its config.
        uri: of the tracking server; None for a database in the run directory.
    """

    def __init__(self, run: Run, uri: str | None) -> None:
        # Nothing is sent to anyone but the server that was named.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        from mlflow import MlflowClient

        folder = run.path.resolve()
        self._client = MlflowClient(uri or f"sqlite:///{folder / DATABASE}")
        name = run.config.name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            artifacts = None if uri else (folder / ARTIFACTS).as_uri()
            experiment = self._client.create_experiment(name, artifact_location=artifacts)
        else:
            experiment = found.experiment_id
        earlier = self._client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{folder}'", max_results=1)
        if earlier:
            self._run_id = earlier[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            made = self._client.create_run(experiment, tags={_RUN_TAG: str(folder)}, run_name=name)
            self._run_id = made.info.run_id
            for key, value in _parameters(run).items():
                self._client.log_param(self._run_id, key, value)

    def log(self, steps: Sequence[Step]) -> None:
        """Writes metrics."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, step) for step, values in steps for name, value in values.items()]
        for start in range(0, len(metrics), _MOST_AT_ONCE):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _MOST_AT_ONCE])

    def close(self, ending: Ending, files: Sequence[Path]) -> None:
        """Uploads the files and ends the MLflow run."""
        for file in files:
            self._client.log_artifact(self._run_id, str(file))
        self._client.set_terminated(self._run_id, _STATUS[ending])


def _parameters(run: Run) -> dict[str, str]:
    """Returns what stays the same however often the run is resumed."""
    config = run.config
    return {
        "space": config.space.name,
        "data": config.data.name,
        "objectives": ", ".join(config.objectives),
        "constraints": ", ".join(config.constraints) or "none",
        "sampler": config.search.sampler,
        "seed": str(config.seed),
    }


def open_for(run: Run) -> MLflow:
    """Returns the recorder of a run."""
    return MLflow(run, os.environ.get("MLFLOW_TRACKING_URI"))
