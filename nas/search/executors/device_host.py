"""Measuring where a device is: on the machine of a Ray cluster that has it as a resource, ``device:NAME``.

A job takes the whole resource, so that a device measures for one job at a time; its rows come back when it is done.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from latency_predictors.devices.base import DeviceError
from latency_predictors.measurement import DeviceProfile, Measurement
from latency_predictors.session import MeasuringProgress, measure_files, measure_networks
from latency_predictors.store import MeasurementSet
from nas.config import RayConfig
from nas.errors import HwnasError, RunError
from nas.search.executors.ray_session import connect
from search_spaces.architecture import Architecture
from search_spaces.layer import LayerSpec

JOB_NETWORKS = 16
"""Networks of one job: what a lost machine costs at most."""

Network = tuple[Architecture, Sequence[LayerSpec]]
_Measured = tuple[list[Measurement], list[Measurement], str]
"""A row for each network, all new rows in the order of measuring, and why there are no more, where there are not."""
_Ask = Callable[..., _Measured]


def measure_networks_on(
    host: str,
    config: RayConfig,
    networks: Sequence[Network],
    profile: DeviceProfile,
    *,
    preset: str,
    seed: int,
    store: MeasurementSet,
    progress: MeasuringProgress,
) -> list[Measurement]:
    """As `latency_predictors.session.measure_networks`, on the machine with the resource ``device:HOST``.

    Raises:
        DeviceError: the device cannot measure.
        RunError: the cluster or the machine cannot be reached, or was lost repeatedly.
    """
    rows: list[Measurement] = []
    with _jobs(host, config, _networks_there, lambda text: progress(len(rows), len(networks), text)) as ask:
        for start in range(0, len(networks), JOB_NETWORKS):
            progress(len(rows), len(networks), f"{len(rows)} of {len(networks)} networks done")
            some, earlier = list(networks[start : start + JOB_NETWORKS]), _earlier(store, profile)
            rows += _kept(ask(some, profile, preset, seed, earlier), store)
    progress(len(networks), len(networks), f"{len(rows)} of {len(networks)} networks done")
    return rows


def measure_files_on(
    host: str,
    config: RayConfig,
    files: Sequence[Path],
    profile: DeviceProfile,
    *,
    architectures: Sequence[Architecture],
    preset: str,
    seed: int,
    store: MeasurementSet,
    progress: MeasuringProgress,
) -> list[Measurement]:
    """As `latency_predictors.session.measure_files`, on the machine with the resource ``device:HOST``.

    Raises:
        DeviceError: the device cannot measure.
        RunError: as `measure_networks_on`.
    """
    contents = [(file.name, file.read_bytes()) for file in files]
    earlier = _earlier(store, profile)
    with _jobs(host, config, _files_there, lambda text: progress(0, len(files), text)) as ask:
        rows = _kept(ask(contents, profile, list(architectures), preset, seed, earlier), store)
    progress(len(files), len(files), f"{len(rows)} files done")
    return rows


@contextmanager
def _jobs(host: str, config: RayConfig, job: _Ask, tell: Callable[[str], None]) -> Iterator[_Ask]:
    resource = f"device:{host}"
    disconnect = connect(config)
    try:
        if resource not in ray.cluster_resources():  # type: ignore[no-untyped-call]
            tell(f"waiting for a machine with the Ray resource {resource}")
        there = ray.remote(num_cpus=0, resources={resource: 1})(job)

        def ask(*arguments: Any) -> _Measured:  # Any: the job's
            measured: _Measured = ray.get(there.remote(*arguments))
            return measured

        yield ask
    except RayTaskError:  # a mistake in the job, not a lost machine
        raise
    except RayError as error:
        raise RunError(f"the machine with {resource} was lost ({error}): see that it is up and start again") from None
    finally:
        disconnect()


def _earlier(store: MeasurementSet, profile: DeviceProfile) -> list[Measurement]:
    return [row for row in store.read() if row.profile == profile] if store.path.exists() else []


def _kept(measured: _Measured, store: MeasurementSet) -> list[Measurement]:
    rows, new, failure = measured
    store.append(new)
    if failure:
        raise DeviceError(failure)
    return rows


def _networks_there(
    networks: Sequence[Network], profile: DeviceProfile, preset: str, seed: int, earlier: Sequence[Measurement]
) -> _Measured:
    def measure(store: MeasurementSet) -> list[Measurement]:
        return measure_networks(networks, profile, preset=preset, seed=seed, store=store)

    return _measured(measure, earlier)


def _files_there(
    contents: Sequence[tuple[str, bytes]],
    profile: DeviceProfile,
    architectures: Sequence[Architecture],
    preset: str,
    seed: int,
    earlier: Sequence[Measurement],
) -> _Measured:
    def measure(store: MeasurementSet) -> list[Measurement]:
        files = []
        for number, (name, content) in enumerate(contents):
            files.append(store.path.parent / str(number) / name)  # files of several networks have the same name
            files[-1].parent.mkdir()
            files[-1].write_bytes(content)
        return measure_files(files, profile, architectures=architectures, preset=preset, seed=seed, store=store)

    return _measured(measure, earlier)


def _measured(measure: Callable[[MeasurementSet], list[Measurement]], earlier: Sequence[Measurement]) -> _Measured:
    """Measures with a set of this machine's own; what was finished before a failure comes back, too."""
    with tempfile.TemporaryDirectory(prefix="hwnas-device-host-") as folder:
        store = MeasurementSet(Path(folder) / "measurements.parquet")
        store.append(earlier)
        rows, failure = [], ""
        try:
            rows = measure(store)
        except HwnasError as error:
            failure = str(error)
        return rows, store.read()[len(earlier) :] if store.path.exists() else [], failure
