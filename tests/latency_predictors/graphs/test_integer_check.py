from pathlib import Path

import pytest

from latency_predictors.graphs.integer_check import float_operators
from latency_predictors.graphs.model_file import Runtime
from latency_predictors.graphs.onnx_graph import build_onnx
from latency_predictors.graphs.onnx_quantization import quantize_onnx
from search_spaces.network import folded_weights
from tests.latency_predictors.graphs.conftest import MadeFiles
from tests.latency_predictors.graphs.networks import NAMES, make_images, make_network


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
@pytest.mark.parametrize("name", NAMES)
def test_int8_files_are_one_integer_graph(name: str, runtime: Runtime, made: MadeFiles) -> None:
    assert float_operators(made.path(name, runtime, "int8")) == []


def test_operators_that_stay_float_in_an_int8_onnx_file_are_named(tmp_path: Path) -> None:
    network = make_network("mixed")
    native_hard_swish = build_onnx(network.layers, folded_weights(network), integer=False)
    path = tmp_path / "model.onnx"
    path.write_bytes(quantize_onnx(native_hard_swish, make_images(network, 4)).SerializeToString())
    assert any(name.startswith("HardSigmoid") for name in float_operators(path))


@pytest.mark.slow
def test_float_tensors_in_a_tflite_file_are_named(made: MadeFiles) -> None:
    assert "float tensor:image" in float_operators(made.path("tiny", "litert", "fp32"))
