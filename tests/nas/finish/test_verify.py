from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from latency_predictors.graphs.model_file import ModelJob, build_models
from nas.data import ImageData, inputs
from nas.finish.export import export_jobs
from nas.finish.report import Verification
from nas.finish.verify import Prepare, refusal, torch_logits, verify_file
from search_spaces.cost import Precision
from search_spaces.network import Network


@pytest.fixture
def prepare(network: Network, data: ImageData) -> Prepare:
    return partial(inputs, resolution=network.resolution, mean=data.mean, std=data.std)


@pytest.fixture
def reference(network: Network, data: ImageData, prepare: Prepare) -> NDArray[np.float32]:
    return torch_logits(network, data.test.images, prepare)


def onnx_jobs(network: Network, folder: Path, calibration: NDArray[np.float32]) -> dict[Precision, ModelJob]:
    jobs = {job.precision: job for job in export_jobs(network, folder, calibration, {}) if job.path.suffix == ".onnx"}
    build_models(list(jobs.values()))
    return jobs


def change_weight(path: Path, name: str, factor: float) -> None:
    model = onnx.load(path)
    weight = next(value for value in model.graph.initializer if value.name == name)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), name))
    onnx.save(model, path)


def test_correct_files_pass(
    network: Network, data: ImageData, prepare: Prepare, reference: NDArray[np.float32], tmp_path: Path
) -> None:
    jobs = onnx_jobs(network, tmp_path, prepare(data.train.images[:64]))
    for precision, job in jobs.items():
        found = verify_file(job.path, precision, data.test, prepare, reference)
        assert refusal(found, precision, 0.02) == ""
        assert found.images == 359
        assert found.accuracy_lower < found.accuracy < found.accuracy_upper


def test_an_fp32_file_with_one_scaled_weight_is_refused(
    network: Network, data: ImageData, prepare: Prepare, reference: NDArray[np.float32], tmp_path: Path
) -> None:
    path = onnx_jobs(network, tmp_path, prepare(data.train.images[:8]))["fp32"].path
    change_weight(path, "stage1_block1_depthwise.weight", 1.01)
    found = verify_file(path, "fp32", data.test, prepare, reference)
    assert "its logits differ from torch's by up to" in refusal(found, "fp32", 0.02)
    # The damage is small: accuracy alone would not have shown it.
    assert found.top1_agreement > 0.98


def test_a_file_that_computes_nan_is_refused(
    network: Network, data: ImageData, prepare: Prepare, reference: NDArray[np.float32], tmp_path: Path
) -> None:
    path = onnx_jobs(network, tmp_path, prepare(data.train.images[:8]))["fp32"].path
    change_weight(path, "classifier.weight", float("nan"))
    found = verify_file(path, "fp32", data.test, prepare, reference)
    assert refusal(found, "fp32", 0.02) == "it computes logits that are not finite numbers"


def test_an_int8_file_with_wrong_ranges_is_refused_for_its_accuracy(
    network: Network, data: ImageData, prepare: Prepare, reference: NDArray[np.float32], tmp_path: Path
) -> None:
    path = onnx_jobs(network, tmp_path, prepare(data.train.images[:64]) * np.float32(300))["int8"].path
    found = verify_file(path, "int8", data.test, prepare, reference)
    assert "of test accuracy" in refusal(found, "int8", 0.02)
    assert refusal(found, "int8", 0.99) == ""


def test_an_int8_file_that_computes_in_float_is_refused(
    network: Network, data: ImageData, prepare: Prepare, reference: NDArray[np.float32], tmp_path: Path
) -> None:
    path = onnx_jobs(network, tmp_path, prepare(data.train.images[:8]))["fp32"].path
    found = verify_file(path, "int8", data.test, prepare, reference)
    assert refusal(found, "int8", 0.02).startswith("it is not one integer graph: ")


@pytest.mark.parametrize(("right", "refused"), [(98, False), (97, True)])
def test_an_int8_file_may_lose_exactly_what_is_allowed(right: int, refused: bool) -> None:
    found = Verification(
        images=100, accuracy=right / 100, accuracy_lower=0, accuracy_upper=1, torch_accuracy=1, top1_agreement=1,
        max_abs_difference=0.1, mean_abs_difference=0.1, logit_scale=1,
    )  # fmt: skip
    assert bool(refusal(found, "int8", 0.02)) == refused
