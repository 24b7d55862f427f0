import onnx
import pytest

from latency_predictors.graphs.onnx_graph import build_onnx
from search_spaces.network import folded_weights
from tests.latency_predictors.graphs.networks import (
    NAMES,
    make_images,
    make_network,
    relative_difference,
    run_onnx,
    torch_logits,
)


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_an_onnx_model_computes_the_logits_of_torch(name: str, integer: bool) -> None:
    network = make_network(name)
    images = make_images(network, 5)
    model = build_onnx(network.layers, folded_weights(network), integer=integer)
    assert relative_difference(run_onnx(model, images), torch_logits(network, images)) < 1e-4


def test_every_layer_names_the_node_that_ends_it() -> None:
    network = make_network("mixed")
    model = build_onnx(network.layers, folded_weights(network))
    names = {node.name for node in model.graph.node}
    assert {layer.name for layer in network.layers[:-1]} <= names
    assert [value.name for value in model.graph.output] == ["logits"]


def test_metadata_is_written_into_the_file() -> None:
    network = make_network("tiny")
    model = build_onnx(network.layers, folded_weights(network), metadata={"architecture": "tiny-1"})
    reread = onnx.load_from_string(model.SerializeToString())
    assert {entry.key: entry.value for entry in reread.metadata_props} == {"architecture": "tiny-1"}


def test_a_missing_weight_is_an_error() -> None:
    network = make_network("tiny")
    weights = folded_weights(network)
    del weights["classifier.bias"]
    with pytest.raises(KeyError, match=r"classifier\.bias"):
        build_onnx(network.layers, weights)
