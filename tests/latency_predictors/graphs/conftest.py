from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from latency_predictors.graphs.model_file import SUFFIXES, ModelJob, Runtime, build_models
from latency_predictors.graphs.tflite_graph import ConversionError
from search_spaces.cost import Precision
from search_spaces.network import Network, folded_weights
from tests.latency_predictors.graphs.networks import NAMES, make_images, make_network

RUNTIMES: list[Runtime] = ["onnxruntime", "litert"]
PRECISIONS: list[Precision] = ["fp32", "int8"]


@dataclass(frozen=True)
class MadeFiles:
    """Every network in both formats and precisions, made by one call, with one job that cannot work among them."""

    folder: Path
    networks: dict[str, Network]
    progress: list[tuple[int, int]]
    error: ConversionError | None

    def path(self, name: str, runtime: Runtime, precision: Precision) -> Path:
        return self.folder / f"{name}_{precision}{SUFFIXES[runtime]}"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeFiles:
    folder = tmp_path_factory.mktemp("files")
    networks = {name: make_network(name) for name in NAMES}
    files = MadeFiles(folder, networks, [], None)
    jobs = [
        ModelJob(
            network.layers, folded_weights(network), runtime, precision,
            make_images(network, 40) if precision == "int8" else None, files.path(name, runtime, precision),
        )
        for name, network in networks.items() for runtime in RUNTIMES for precision in PRECISIONS
    ]  # fmt: skip
    some = next(job for job in jobs if job.runtime == "litert" and job.precision == "fp32")
    short = {**some.weights, "classifier.bias": some.weights["classifier.bias"][:-1]}
    jobs.insert(3, replace(some, weights=short, path=folder / "broken.tflite"))
    with pytest.raises(ConversionError) as error:
        build_models(jobs, lambda done, total: files.progress.append((done, total)))
    return replace(files, error=error.value)
