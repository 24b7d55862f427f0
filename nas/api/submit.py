"""Running an experiment as a job on a Ray cluster, through the cluster's job server."""

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

from nas.api.run_predictors import named_predictors
from nas.config import ExperimentConfig, load_config, without_password
from nas.errors import InputError, RunError
from nas.run import Run

_CONFIG, _SPACE, _PREDICTORS = "experiment.yaml", "space.yaml", "predictors"
_RUNNING = ("PENDING", "RUNNING")
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class SubmittedJob:
    """A job on a cluster.

    Attributes:
        id: of the job.
        address: of the cluster's job server.
        run_dir: on the cluster.
        status: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``.
        message: the server's explanation of the status.
        resubmitted: whether an earlier job of this run was there already.
    """

    id: str
    address: str
    run_dir: Path
    status: str
    message: str = ""
    resubmitted: bool = False

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status in _RUNNING

    def to_dict(self) -> dict[str, object]:
        """Returns JSON values."""
        return {
            "job": self.id,
            "address": self.address,
            "run": str(self.run_dir),
            "status": self.status,
            "message": self.message,
            "resubmitted": self.resubmitted,
        }


def submit(
    config: Path,
    address: str,
    overrides: tuple[str, ...] = (),
    *,
    follow: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> SubmittedJob:
    """Starts ``nas run`` for an experiment as a job on a cluster.

    The resolved experiment is uploaded, with its space where that is a file and the predictors that it names. Data
    must be on the cluster already. The run's directory is on the machine that runs the job, the cluster's head.
    Submitting again resumes the run, or finds its job still running: one job of a run runs at a time.

    Args:
        config: the experiment's file.
        address: of the cluster's job server, such as ``http://127.0.0.1:8265``. Where the cluster wants a token, it is
            read from ``RAY_AUTH_TOKEN``.
        overrides: each ``key.path=value`` replaces a field.
        follow: waits until the job has ended.
        log: gets each line that the job prints, while it is followed.

    Raises:
        InputError: a mistake in the file or an override, `runs_dir` is not an absolute path, a URL has a password, or a
            predictor that `devices` names cannot be used.
        RunError: nothing answers at the address, it refuses the token, or the job server's parts of Ray are missing.
    """
    experiment = load_config(config, (*overrides, "ray.address=auto"))
    if not experiment.runs_dir.is_absolute():
        raise InputError(
            f"runs_dir must be an absolute path on the cluster, as the folder of a job goes with the job, got "
            f"{experiment.runs_dir}: add runs_dir=/path/on/the/cluster"
        )
    for key, url in (("ledger", experiment.ledger), ("search.mirror", experiment.search.mirror)):
        if url != without_password(url):
            raise InputError(
                f"{key} has a password, which does not go with a job: leave it out of the URL, and put it where the "
                "job runs (~/.pgpass, or PGPASSWORD when the cluster is started)"
            )
    # The same run has the same name, so that its earlier jobs are found.
    prefix = f"nas-{experiment.name}-{sha256(str(experiment.run_dir).encode()).hexdigest()[:8]}"
    with _answering(address):
        client = _client(address)
        jobs = [job for job in client.list_jobs() if str(job.submission_id).rpartition("-")[0] == prefix]
        running = [job for job in jobs if str(job.status.value) in _RUNNING]
        if running:
            name = running[0].submission_id
        else:
            with tempfile.TemporaryDirectory(prefix="hwnas-submit-") as folder:
                _write(experiment, Path(folder))
                name = client.submit_job(
                    entrypoint=shlex.join(["nas", "run", _CONFIG]),
                    submission_id=f"{prefix}-{token_hex(4)}",
                    runtime_env={"working_dir": folder},
                    metadata={"run": str(experiment.run_dir)},
                )
        if follow:
            _follow(client, name, log)
        info = client.get_job_info(name)
    return SubmittedJob(
        name, address, experiment.run_dir, str(info.status.value), info.message or "", resubmitted=bool(jobs)
    )


def _write(experiment: ExperimentConfig, folder: Path) -> None:
    """Writes what a job needs."""
    from latency_predictors.catalog import Catalog

    predictors = named_predictors(Run(folder, experiment))
    for name, known in predictors.items():
        known.catalog.copy(known.entry, Catalog(folder / _PREDICTORS), name)
    devices = {}
    for device, config in experiment.devices.items():
        own = tuple(f"{_PREDICTORS}/{name}" for name in predictors if name.partition(".")[0] == device)
        devices[device] = config.model_copy(update={"predictor": own})
    experiment = experiment.model_copy(update={"devices": devices})
    space = Path(experiment.space.name)
    if space.is_file():
        shutil.copy(space, folder / _SPACE)
        named = experiment.space.model_copy(update={"name": _SPACE})
        experiment = experiment.model_copy(update={"space": named})
    (folder / _CONFIG).write_text(experiment.to_yaml())


def _client(address: str) -> Any:  # ray is not typed
    try:
        from ray.job_submission import JobSubmissionClient

        import nas.search.executors  # noqa: F401  (sets what ray reads when it is imported)
    except ImportError as error:
        raise RunError(f"nas submit needs Ray's job client ({error}): pip install 'hwnas[cluster]'") from error
    token = os.environ.get("RAY_AUTH_TOKEN")
    return JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"} if token else None)


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """Tells what a job server refuses in one sentence."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        from ray.exceptions import AuthenticationError

        if not isinstance(error, AuthenticationError | RuntimeError | ConnectionError | ValueError):
            raise
        raise RunError(
            f"the job server at {address} does not do that ({' '.join(str(error).split())}): check --address, the "
            "tunnel to it (`ray dashboard cluster.yaml`), and RAY_AUTH_TOKEN"
        ) from error


def _follow(client: Any, name: str, log: Callable[[str], None]) -> None:
    """Passes on the lines that a job prints until it ends."""
    shown = 0
    while True:
        running = str(client.get_job_status(name).value) in _RUNNING
        lines = str(client.get_job_logs(name)).splitlines(keepends=True)
        whole = [line.rstrip("\n") for line in lines if line.endswith("\n") or not running]
        for line in whole[shown:]:
            log(line)
        shown = len(whole)
        if not running:
            return
        time.sleep(_POLL_SECONDS)
