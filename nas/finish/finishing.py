"""The finishing stage: train, quantize, export, verify, measure, document, for all picks together.

The picks share one TensorFlow process and, on each device, process launches. A bundle's report is written last, so a
killed stage leaves bundles that are whole and folders without a report, which are done again; their training goes
on from its checkpoints and their measurements from the store.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from latency_predictors.graphs.model_file import UnrunnableFileError, build_models
from latency_predictors.graphs.tflite_graph import ConversionError
from latency_predictors.store import MeasurementSet
from nas.config import DeviceConfig, FinishConfig, RayConfig
from nas.data import ImageData, inputs
from nas.errors import InputError, RunError
from nas.finish.bundle import CARD, REPORT, WEIGHTS, Bundle, read_bundle
from nas.finish.documents import write_documents
from nas.finish.export import FILE_KINDS, export_jobs
from nas.finish.parallel import StepListener, train_in_workers, workers_for
from nas.finish.remeasure import FinishedFile, measure_latencies
from nas.finish.verify import Prepare, refusal, top1_accuracy, torch_logits, verify_file
from nas.finish.weights import WeightSource
from nas.finish.work import Pick, Refusal, Work
from nas.objectives import Constraint
from nas.progress import Progress, ProgressListener, silent
from nas.training.supernet import calibration_split
from search_spaces.architecture import Architecture
from search_spaces.network import Network, load_network, save_network

logger = logging.getLogger(__name__)

STAGE = "finish"
CHECKPOINTS = "checkpoints"
# Percent of the stage's time at which each part begins, for the progress line only.
_EXPORT, _VERIFY, _MEASURE, _DONE = 80, 86, 90, 100


@dataclass(frozen=True)
class Finishing:
    """Everything that finishing depends on, beside the picks.

    Attributes:
        weights: make the networks of the picks.
        data: with the test split, which this stage alone reads.
        config: of the stage.
        devices: the experiment's, by name.
        constraints: the experiment's.
        folder: of the bundles; each gets a folder named by its architecture's key.
        seed: of training and of the order of measuring.
        preset: how carefully files are measured.
        flip: whether training may mirror images.
        ray: the workers that train several picks at once, and the cluster of devices that have a host.
    """

    weights: WeightSource
    data: ImageData
    config: FinishConfig
    devices: Mapping[str, DeviceConfig]
    constraints: tuple[Constraint, ...]
    folder: Path
    seed: int
    preset: str = "quick"
    flip: bool = False
    ray: RayConfig = field(default_factory=RayConfig)

    def finish(self, picks: Sequence[Pick], progress: ProgressListener = silent) -> tuple[Bundle, ...]:
        """Returns the bundles of the picks, in order.

        Whole ones made from the same things are not made again; of those, files whose measurement was refused are
        measured again.

        Args:
            picks: different architectures.
            progress: told where the stage stands, in percent, and of every refused file.

        Raises:
            InputError: a file of weights is missing or damaged, or an architecture is not of the space.
            RunError: a training diverges.
            DeviceError: a device cannot measure, and the experiment names no predictor of it.
            HwnasError: the TensorFlow process died.
        """
        identities = {pick.architecture.key: self._identity(pick) for pick in picks}
        found = {key: self._found(key, identity) for key, identity in identities.items()}
        left = [pick for pick in picks if found[pick.architecture.key] is None]
        works = self._make(left, identities, progress) if left else []
        for pick in picks:
            bundle = found[pick.architecture.key]
            if bundle and not bundle.measured:
                works.append(self._again(pick, bundle))
        if works:
            self._measure(works, progress)
            for work in works:
                self._write(work)
        progress(Progress(STAGE, _DONE, _DONE, f"{len(picks)} networks finished"))
        return tuple(read_bundle(self.folder / key) for key in identities)

    def _make(self, picks: Sequence[Pick], identities: Mapping[str, str], progress: ProgressListener) -> list[Work]:
        works = self._train(picks, identities, progress)
        self._export(works, progress)
        self._verify(works, progress)
        return works

    def _again(self, pick: Pick, bundle: Bundle) -> Work:
        """Returns the work behind a bundle as it was before measuring."""
        report = bundle.report
        network = load_network(bundle.folder / WEIGHTS)
        return Work(
            pick,
            bundle.folder,
            report.identity,
            network,
            self._inputs(network.resolution),
            report.network.test_accuracy,
            {file.name: file.verification for file in report.files},
            {file.name: Refusal(file.reason, file.verification) for file in report.refused},
        )

    def _identity(self, pick: Pick) -> str:
        everything = {
            "product": version("hwnas"),
            "architecture": pick.architecture.to_json(),
            "expected": {name: asdict(value) for name, value in sorted(pick.expected.items())},
            **self.weights.identity(),
            "data": self.data.hashes,
            "mean": self.data.mean,
            "std": self.data.std,
            "config": self.config.model_dump(mode="json", exclude={"models"}),
            "devices": {
                name: device.model_dump(mode="json", exclude={"host", "predictor"})
                for name, device in self.devices.items()
            },
            "constraints": [constraint.text for constraint in self.constraints],
            "seed": self.seed,
            "preset": self.preset,
            "flip": self.flip,
        }
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

    def _found(self, key: str, identity: str) -> Bundle | None:
        """Returns the whole bundle of these things; None where it must be made."""
        try:
            bundle = read_bundle(self.folder / key)
        except RunError as error:
            if (self.folder / key / REPORT).exists():
                logger.warning("%s", error)
            return None
        return bundle if bundle.report.identity == identity else None

    def _inputs(self, resolution: int) -> Prepare:
        return partial(inputs, resolution=resolution, mean=self.data.mean, std=self.data.std)

    def _calibration(self, resolution: int) -> NDArray[np.float32]:
        return self._inputs(resolution)(calibration_split(self.data, self.config.calibration_images).images)

    def _train(self, picks: Sequence[Pick], identities: Mapping[str, str], progress: ProgressListener) -> list[Work]:
        architectures = {pick.architecture.key: pick.architecture for pick in picks}
        folders = {key: self.folder / key / CHECKPOINTS for key in architectures}
        files = {key: folder / f"{identities[key][:16]}.safetensors" for key, folder in folders.items()}
        networks = {key: network for key, file in files.items() if (network := _trained(file))}
        shares = dict.fromkeys(networks, 1.0)

        def told(key: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
            shares[key] = step / total
            text = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
            done = int(_EXPORT * sum(shares.values()) / len(picks))
            progress(Progress(STAGE, done, _DONE, f"training {key}: {text}"))

        left = {key: one for key, one in architectures.items() if key not in networks}
        for key, network in self._trained_by_workers(left, folders, told).items():
            networks[key] = network
            save_network(network, files[key])
        for key, architecture in left.items():
            if key not in networks:
                networks[key] = self.weights.network(architecture, folders[key], partial(told, key)).cpu()
                save_network(networks[key], files[key])
            shares[key] = 1.0
        return [
            Work(pick, self.folder / key, identities[key], networks[key], self._inputs(networks[key].resolution))
            for key, pick in zip(architectures, picks, strict=True)
        ]

    def _trained_by_workers(
        self, architectures: Mapping[str, Architecture], folders: Mapping[str, Path], listener: StepListener
    ) -> dict[str, Network]:
        left = [one for one in architectures.values() if not self.weights.is_trained(one)]
        workers = workers_for(len(left), self.ray, device=self.weights.device, threads=torch.get_num_threads())
        if not workers:
            return {}
        ray = self.ray.model_copy(update={"workers": workers})
        trainings = {one.key: self.weights.training_of(one) for one in left}
        try:
            return train_in_workers(trainings, self.weights.data, folders, ray, listener)
        except RunError as error:
            logger.warning("%d networks are trained in this process: %s", len(left), error)
            return {}

    def _export(self, works: Sequence[Work], progress: ProgressListener) -> None:
        def told(made: int, total: int) -> None:
            done = _EXPORT + (_VERIFY - _EXPORT) * made // total
            progress(Progress(STAGE, done, _DONE, f"exported {made} of {total} files"))

        jobs = []
        for work in works:
            _clear(work.folder)
            save_network(work.network, work.folder / WEIGHTS)
            metadata = {
                "architecture": work.key,
                "resolution": str(work.network.resolution),
                "mean": json.dumps(self.data.mean),
                "std": json.dumps(self.data.std),
                "class_names": json.dumps(self.data.class_names),
            }
            calibration = self._calibration(work.network.resolution)
            jobs += export_jobs(work.network, work.folder, calibration, metadata)
        progress(Progress(STAGE, _EXPORT, _DONE, f"exporting {len(jobs)} files"))
        try:
            build_models(jobs, told)
        except ConversionError as error:
            for work in works:
                for path, reason in error.reasons.items():
                    if path.parent == work.folder:
                        _refuse(work, path.name, Refusal(f"it could not be converted: {reason}"), progress)

    def _verify(self, works: Sequence[Work], progress: ProgressListener) -> None:
        test = self.data.test
        for number, work in enumerate(works):
            done = _VERIFY + (_MEASURE - _VERIFY) * number // len(works)
            progress(Progress(STAGE, done, _DONE, f"running the files of {work.key} on {len(test)} test images"))
            reference = torch_logits(work.network, test.images, work.prepare)
            work.test_accuracy = top1_accuracy(reference, test.labels)
            for kind in FILE_KINDS:
                if kind.name in work.refused:
                    continue
                found = None
                try:
                    found = verify_file(work.folder / kind.name, kind.precision, test, work.prepare, reference)
                    reason = refusal(found, kind.precision, self.config.max_int8_accuracy_drop)
                except UnrunnableFileError as error:
                    reason = f"its runtime cannot run it: {error}"
                if found and not reason:
                    work.passed[kind.name] = found
                    continue
                (work.folder / kind.name).unlink()
                _refuse(work, kind.name, Refusal(reason, found), progress)

    def _measure(self, works: Sequence[Work], progress: ProgressListener) -> None:
        def told(share: float, text: str) -> None:
            progress(Progress(STAGE, int(_MEASURE + (_DONE - _MEASURE) * share), _DONE, f"measuring on {text}"))

        latencies = measure_latencies(
            [
                FinishedFile(work.folder / kind.name, kind, work.pick.architecture, work.pick.expected)
                for work in works
                for kind in work.passed_kinds
            ],
            self.devices,
            self.constraints,
            ray=self.ray,
            preset=self.preset,
            seed=self.seed,
            store=MeasurementSet(self.folder / "measurements.parquet"),
            progress=told,
        )
        for work in works:
            work.latencies = latencies

    def _write(self, work: Work) -> None:
        training = {**self.weights.settings(), "flip": self.flip}
        write_documents(work, self.data, training, {"training": self.seed, "measuring": self.seed})
        shutil.rmtree(work.folder / CHECKPOINTS, ignore_errors=True)


def _trained(file: Path) -> Network | None:
    """Returns the network that an earlier start has trained; None where there is none that is whole."""
    if not file.exists():
        return None
    try:
        return load_network(file)
    except InputError as error:
        logger.warning("it is trained again: %s", error)
        return None


def _clear(folder: Path) -> None:
    """Removes what an earlier finishing left, the report first; checkpoints stay."""
    for name in (REPORT, CARD, WEIGHTS, *(kind.name for kind in FILE_KINDS)):
        (folder / name).unlink(missing_ok=True)


def _refuse(work: Work, name: str, refusal: Refusal, progress: ProgressListener) -> None:
    work.refused[name] = refusal
    logger.warning("%s of %s is refused: %s", name, work.key, refusal.reason)
    progress(Progress(STAGE, _VERIFY, _DONE, f"refused {name} of {work.key}: {refusal.reason}", notable=True))
