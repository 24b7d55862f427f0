import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given

from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, load_space
from tests.search_spaces.strategies import spaces_and_architectures


@given(spaces_and_architectures())
def test_decoding_what_was_encoded_gives_the_same_architecture_and_key(pair: tuple[SearchSpace, Architecture]) -> None:
    _, architecture = pair
    for decoded in (Architecture.from_json(architecture.to_json()), Architecture.from_text(architecture.text)):
        assert decoded == architecture
        assert decoded.key == architecture.key
        assert [type(value) for _, value in decoded.values] == [type(value) for _, value in architecture.values]


def test_keys_and_short_forms_never_change() -> None:
    # Ledgers, measurement sets and finished bundles of earlier versions are found by these.
    smallest = load_space("tiny").smallest()
    assert smallest.text == ("tiny:r8,0c8,1c12,1.1e1,1.1k3,2c16,2d1,2.1e2,2.1k3,3c24,3d1,3.1e2,3.1k3")
    assert smallest.key == "tiny-5a838f22e04c"


@pytest.mark.parametrize(
    ("name", "keys", "shared"),
    [
        ("tiny", "c70944ae41c84625", "abc51130e8b59a65"),
        ("mobilenet_v3", "aea5d713a339c131", "bafda9429260a843"),
        ("efficientnet", "15ab37b4b4994fea", "f855d8263e396ab7"),
        ("fbnet", "b8d257591bc1d540", "e8b879f85a20ba5b"),
    ],
)
def test_keys_and_shared_weights_of_shipped_spaces_are_those_of_version_0_1(name: str, keys: str, shared: str) -> None:
    def digest(value: object) -> str:
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]

    space, rng = load_space(name), np.random.default_rng(5)
    architectures = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(30))]
    assert digest([architecture.key for architecture in architectures]) == keys
    fields = ("name", "in_channels", "out_channels", "kernel", "groups", "squeeze_channels")
    assert digest([[getattr(layer, field) for field in fields] for layer in space.shared_layers.values()]) == shared


def test_the_key_is_the_same_in_another_process() -> None:
    code = "from search_spaces.space import load_space; print(load_space('tiny').largest().key)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == load_space("tiny").largest().key


def test_the_order_of_json_keys_does_not_matter() -> None:
    architecture = load_space("tiny").smallest()
    data = json.loads(architecture.to_json())
    turned = {"values": dict(reversed(data["values"].items())), "space": data["space"]}
    assert Architecture.from_json(json.dumps(turned, indent=1)) == architecture


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"tiny"', "{}", '{"space":"tiny"}', '{"space":1,"values":{}}', '{"space":"tiny","values":[]}',
     '{"space":"tiny","values":{"resolution":[8]}}', '{"space":"tiny","values":{},"more":1}',
     '{"space":"tiny","values":{"resolution":NaN}}'],
)  # fmt: skip
def test_json_that_is_no_architecture_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not an architecture in JSON form"):
        Architecture.from_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiny:r", "not a token of an architecture: 'r'"),
        ("tiny:q8", "not a token of an architecture: 'q8'"),
        ("tiny:rx", "the value of resolution must be a number, got 'x'"),
        ("tiny:r8,r16", "resolution stands twice"),
        ("tiny:r1e999", "the value of resolution must be a number"),
    ],
)
def test_a_short_form_that_is_no_architecture_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Architecture.from_text(text)


def test_values_must_be_sorted_by_name() -> None:
    with pytest.raises(ValueError, match="sorted and unique"):
        Architecture("tiny", (("width", 1.0), ("resolution", 8)))
