import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latency_predictors.graphs.model_file import (
    RUN_BATCH,
    SUFFIXES,
    ModelJob,
    Runtime,
    TensorFormat,
    UnrunnableFileError,
    build_models,
    run_file,
    tensor_formats,
)
from search_spaces.network import folded_weights
from tests.latency_predictors.graphs.conftest import MadeFiles
from tests.latency_predictors.graphs.networks import (
    NAMES,
    make_images,
    make_network,
    relative_difference,
    torch_logits,
)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
@pytest.mark.parametrize("name", NAMES)
def test_an_fp32_file_computes_the_logits_of_torch(name: str, runtime: Runtime, made: MadeFiles) -> None:
    images = make_images(made.networks[name], 5)
    found = run_file(made.path(name, runtime, "fp32"), images)
    assert relative_difference(found, torch_logits(made.networks[name], images)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
@pytest.mark.parametrize("name", NAMES)
def test_an_int8_file_is_close_to_torch(name: str, runtime: Runtime, made: MadeFiles) -> None:
    images = make_images(made.networks[name], 40)
    expected = torch_logits(made.networks[name], images)
    found = run_file(made.path(name, runtime, "int8"), images)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert relative_difference(found, expected) > 1e-3


@pytest.mark.slow
def test_a_conversion_that_fails_is_named_and_the_others_go_on(made: MadeFiles) -> None:
    assert str(made.error).startswith("1 of 7 TFLite files failed to convert, first broken.tflite: ValueError")
    assert made.error
    assert list(made.error.reasons) == [made.folder / "broken.tflite"]
    assert made.progress == [(done, 13) for done in range(1, 14)]
    assert len(list(made.folder.iterdir())) == 12


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_logits_do_not_depend_on_how_images_are_batched(runtime: Runtime, made: MadeFiles) -> None:
    images = make_images(made.networks["tiny"], RUN_BATCH + 3)
    path = made.path("tiny", runtime, "fp32")
    one_by_one = np.concatenate([run_file(path, image[None]) for image in images])
    np.testing.assert_allclose(run_file(path, images), one_by_one, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_file_that_its_runtime_refuses_is_named_so(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / f"model{SUFFIXES[runtime]}"
    path.write_bytes(b"no model at all")
    with pytest.raises(UnrunnableFileError, match="model"):
        run_file(path, np.zeros((1, 1, 8, 8), np.float32))


@pytest.mark.slow
def test_an_int8_squeeze_and_excite_that_is_0_for_all_calibration_images_is_constant(
    tmp_path: Path,
) -> None:
    network = make_network("mixed")
    first = next(layer.name for layer in network.layers if layer.op == "squeeze_excite")
    with torch.no_grad():
        network.blocks[first].reduce.bias.sub_(1000)
    images = make_images(network, 40)
    path = tmp_path / "model.tflite"
    build_models([ModelJob(network.layers, folded_weights(network), "litert", "int8", images, path)])
    # LiteRT would not load the file, or end this process, were the range of the zeros kept.
    expected = torch_logits(network, images)
    assert np.corrcoef(run_file(path, images).ravel(), expected.ravel())[0, 1] > 0.95


@pytest.mark.slow
def test_a_file_tells_what_it_takes_and_gives(made: MadeFiles) -> None:
    onnx_image, onnx_logits = tensor_formats(made.path("mixed", "onnxruntime", "int8"))
    assert onnx_image == TensorFormat("image", "NCHW", (1, 3, 17, 17), "float32")
    assert onnx_logits == TensorFormat("logits", "NC", (1, 7), "float32")
    image, logits = tensor_formats(made.path("mixed", "litert", "fp32"))
    assert (image.shape, image.dtype, image.scale, logits.shape) == ((1, 17, 17, 3), "float32", None, (1, 7))
    image, logits = tensor_formats(made.path("mixed", "litert", "int8"))
    assert (image.layout, image.dtype, logits.dtype) == ("NHWC", "int8", "int8")
    # The calibration images are normally distributed, so their range is a little more than 2 x 3 over 255 steps.
    assert image.scale == pytest.approx(8 / 255, rel=0.3)
    assert image.zero_point is not None


def test_metadata_reaches_the_onnx_file(tmp_path: Path) -> None:
    network = make_network("tiny")
    job = ModelJob(
        network.layers, folded_weights(network), "onnxruntime", "int8", make_images(network, 2), tmp_path / "m.onnx",
        {"architecture": "tiny-0123"},
    )  # fmt: skip
    build_models([job])
    assert b"tiny-0123" in job.path.read_bytes()


def test_a_job_refuses_a_foreign_suffix_and_misplaced_calibration_images(tmp_path: Path) -> None:
    network = make_network("tiny")
    images = make_images(network, 4)
    job = ModelJob(network.layers, folded_weights(network), "onnxruntime", "int8", images, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"ends with \.onnx"):
        replace(job, path=tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="calibration images belong to int8"):
        replace(job, calibration=None)
    with pytest.raises(ValueError, match="calibration images belong to int8"):
        replace(job, precision="fp32")
    with pytest.raises(ValueError, match="calibration images must be"):
        replace(job, calibration=images[:, :, 1:])


def test_building_and_running_files_loads_no_tensorflow_into_this_process() -> None:
    code = (
        "import sys; import latency_predictors.graphs.model_file, latency_predictors.graphs.tflite_child; "
        "print([name for name in ('tensorflow', 'torch', 'onnxruntime') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
