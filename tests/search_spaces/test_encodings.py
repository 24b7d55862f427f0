import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from search_spaces.cost import layer_macs, network_cost
from search_spaces.encodings import encoding, list_encodings
from search_spaces.errors import InputError
from search_spaces.space import load_space

DATA = Path(__file__).parents[3] / "shared" / "data" / "device_latency"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared measurement tables are not here")
FILES = ("ofa_mbv3_help", "ofa_mbv3_accuracy", "mnasnet_anb", "mnasnet_anb_accuracy", "fbnet_help")


def vectors(file: str) -> list[list[int]]:
    column = pq.read_table(DATA / f"{file}.parquet", columns=["arch"])["arch"]
    return [json.loads(text) for text in pc.unique(column).to_pylist()]


@needs_data
@pytest.mark.parametrize("file", FILES)
def test_every_row_of_a_public_table_decodes_and_encodes_back(file: str) -> None:
    name = pq.read_table(DATA / f"{file}.parquet", columns=["space"])["space"][0].as_py()
    keys = set()
    public = vectors(file)
    for vector in public:
        architecture = encoding(name).decode(vector)
        assert list(encoding(name).encode(architecture)) == vector
        keys.add(architecture.key)
    assert len(keys) == len(public)


@needs_data
def test_once_for_all_macs_are_those_of_the_public_table_and_parameters_differ_by_the_bias_of_the_hidden_layer() -> (
    None
):
    space = load_space("mobilenet_v3")
    for row in pq.read_table(DATA / "ofa_mbv3_accuracy.parquet").slice(0, 400).to_pylist():
        cost = network_cost(space.layers(encoding("ofa_mbv3").decode(json.loads(row["arch"]))))
        assert cost.macs == row["macs"]
        # Once-for-All's hidden layer before the classifier is a 1x1 convolution of 1280 outputs without a bias.
        assert cost.parameters == row["params"] + 1280


@needs_data
def test_mnasnet_parameters_are_those_of_the_public_table_and_macs_after_taking_off_element_wise_work() -> None:
    space = load_space("efficientnet")
    for row in pq.read_table(DATA / "mnasnet_anb_accuracy.parquet").slice(0, 400).to_pylist():
        layers = space.layers(encoding("mnasnet_anb").decode(json.loads(row["arch"])))
        assert round(network_cost(layers).parameters / 1e6, 6) == pytest.approx(row["params_m"], abs=6e-7)
        # The table's counter (thop) also counts 4 operations per value of a batch normalisation and, for an average
        # pool, one per input value and one per output value.
        element_wise = sum(4 * layer.out_channels * layer.out_size**2 for layer in layers if layer.batch_norm)
        element_wise += sum(
            layer.in_channels * (layer.in_size**2 + 1)
            for layer in layers
            if layer.op in {"squeeze_excite", "global_pool"}
        )
        assert (sum(map(layer_macs, layers)) + element_wise) / 1e6 == pytest.approx(row["macs_m"], rel=1e-6)


@pytest.mark.parametrize("name", list_encodings())
def test_smallest_and_largest_networks_encode_and_decode_back(name: str) -> None:
    space = load_space(encoding(name).space)
    for architecture in (space.smallest(), space.largest()):
        assert encoding(name).decode(encoding(name).encode(architecture)) == architecture


def test_a_wrong_length_is_refused() -> None:
    with pytest.raises(InputError, match="must have 22 integers, got 3"):
        encoding("fbnet").decode([1, 2, 3])


def test_a_number_that_stands_for_no_choice_is_refused() -> None:
    with pytest.raises(InputError, match=r"integer 4 .*stage2.block4.type.* must be one of .*got 9"):
        encoding("fbnet").decode([0, 0, 0, 0, 9] + [0] * 17)


def test_a_block_beyond_the_depth_must_be_zero() -> None:
    public = encoding("ofa_mbv3")
    vector = list(public.encode(load_space("mobilenet_v3").smallest()))
    vector[2] = 7
    with pytest.raises(InputError, match=r"stage2.block3.kernel.* must be 0: the stage is shallower; got 7"):
        public.decode(vector)


def test_an_architecture_of_another_space_is_refused() -> None:
    with pytest.raises(InputError, match="takes architectures of the space 'fbnet'"):
        encoding("fbnet").encode(load_space("tiny").smallest())


def test_an_unknown_encoding_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="must be one of fbnet, mnasnet_anb, ofa_mbv3, got 'nope'"):
        encoding("nope")
