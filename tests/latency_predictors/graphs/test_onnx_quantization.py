import numpy as np
from onnx import TensorProto, numpy_helper

from latency_predictors.graphs.onnx_graph import build_onnx
from latency_predictors.graphs.onnx_quantization import quantize_onnx
from search_spaces.network import folded_weights
from tests.latency_predictors.graphs.networks import make_images, make_network, run_onnx, torch_logits


def test_quantizing_leaves_the_float_model_as_it_was() -> None:
    network = make_network("tiny")
    model = build_onnx(network.layers, folded_weights(network), integer=True, metadata={"key": "tiny-1"})
    before = model.SerializeToString(deterministic=True)
    quantized = quantize_onnx(model, make_images(network, 4))
    assert model.SerializeToString(deterministic=True) == before
    assert [(entry.key, entry.value) for entry in quantized.metadata_props] == [("key", "tiny-1")]


def test_ranges_come_from_the_calibration_images() -> None:
    network = make_network("tiny")
    images = make_images(network, 16)
    expected = torch_logits(network, images)
    model = build_onnx(network.layers, folded_weights(network), integer=True)
    fitting, coarse = (
        np.abs(run_onnx(quantize_onnx(model, images * np.float32(scale)), images) - expected).mean()
        for scale in (1, 100)
    )
    assert coarse > 3 * fitting


def test_weights_use_seven_bits_so_that_no_processor_saturates() -> None:
    network = make_network("tiny")
    model = quantize_onnx(build_onnx(network.layers, folded_weights(network), integer=True), make_images(network, 4))
    weights = [numpy_helper.to_array(value) for value in model.graph.initializer if value.data_type == TensorProto.INT8]
    weights = [value for value in weights if value.ndim > 1]
    assert len(weights) == 18
    assert {int(np.abs(value.astype(int)).max()) for value in weights} == {64}
