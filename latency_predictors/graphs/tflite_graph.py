"""TFLite files through TensorFlow, which runs in one child process for many networks.

TensorFlow takes about ten seconds and 750 MB to start, and must not share a process with the rest; a network of the
tiny space then takes about a third of a second.
"""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from search_spaces.cost import Precision
from search_spaces.errors import HwnasError
from search_spaces.layer import LayerSpec
from search_spaces.weights import Weights

logger = logging.getLogger(__name__)

_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
}


class ConversionError(HwnasError, RuntimeError):
    """Some files could not be made; all others were.

    Attributes:
        reasons: why, by path of the file.
    """

    def __init__(self, reasons: Mapping[Path, str], total: int) -> None:
        path, reason = next(iter(reasons.items()))
        super().__init__(f"{len(reasons)} of {total} TFLite files failed to convert, first {path.name}: {reason}")
        self.reasons = dict(reasons)


@dataclass(frozen=True)
class TfliteJob:
    """A TFLite file to make.

    Attributes:
        layers: in execution order; the last one makes the logits.
        weights: of those layers, batch norm folded.
        precision: ``int8`` means full-integer: INT8 input and output as well.
        calibration: (n, channels, size, size), preprocessed images that set the INT8 ranges; None for FP32.
        path: of the file.
    """

    layers: Sequence[LayerSpec]
    weights: Weights
    precision: Precision
    calibration: NDArray[np.float32] | None
    path: Path


def convert_tflite(jobs: Sequence[TfliteJob], done: Callable[[], None] = lambda: None) -> None:
    """Makes the files of all jobs in one TensorFlow process.

    Args:
        jobs: converted in order; one that fails does not stop the others.
        done: called after each finished job.

    Raises:
        ConversionError: jobs failed; the others' files are there.
        HwnasError: the process died; the text names the file it was at.
    """
    if not jobs:
        return
    with tempfile.TemporaryDirectory(prefix="hwnas-tflite-") as folder:
        _run(jobs, _write_jobs(jobs, Path(folder)), done)


def _write_jobs(jobs: Sequence[TfliteJob], folder: Path) -> Path:
    entries = []
    arrays: dict[int, str] = {}  # jobs often share their weights or calibration images
    for index, job in enumerate(jobs):
        if id(job.weights) not in arrays:
            arrays[id(job.weights)] = str(folder / f"{index}.safetensors")
            save_file(
                {name: np.ascontiguousarray(value) for name, value in job.weights.items()}, arrays[id(job.weights)]
            )
        if job.calibration is not None and id(job.calibration) not in arrays:
            arrays[id(job.calibration)] = str(folder / f"{index}.npy")
            np.save(arrays[id(job.calibration)], np.ascontiguousarray(job.calibration.transpose(0, 2, 3, 1)))
        entries.append(
            {
                "layers": [dataclasses.asdict(layer) for layer in job.layers],
                "weights": arrays[id(job.weights)],
                "precision": job.precision,
                "calibration": arrays.get(id(job.calibration)),
                "path": str(job.path.absolute()),
            }
        )
    jobs_file = folder / "jobs.json"
    jobs_file.write_text(json.dumps(entries))
    return jobs_file


def _run(jobs: Sequence[TfliteJob], jobs_file: Path, done: Callable[[], None]) -> None:
    reasons: dict[Path, str] = {}
    finished = 0
    log_path = jobs_file.with_name("stderr.txt")
    command = [sys.executable, "-m", "latency_predictors.graphs.tflite_child", str(jobs_file)]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | _QUIET,
            text=True,
            start_new_session=True,  # Ctrl-C reaches only this process, which then ends the child
        ) as child,
    ):
        try:
            for line in child.stdout or ():
                report = json.loads(line)
                finished += 1
                if report["error"]:
                    reasons[jobs[report["job"]].path] = report["error"]
                done()
        except BaseException:
            child.kill()
            raise
    if finished < len(jobs):
        logger.debug("TensorFlow process: %s", log_path.read_text(errors="replace")[-4000:])
        raise HwnasError(
            f"the TensorFlow process {_ending(child.returncode)} while making {jobs[finished].path.name} (file "
            f"{finished + 1} of {len(jobs)}): {_last_line(log_path)}; it needs about 1 GB of free memory"
        )
    if reasons:
        raise ConversionError(reasons, len(jobs))


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no message")
