"""cluster.yaml against the schema that `ray up` uses."""

import json
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture
def cluster() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def schema() -> dict:
    return json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


def test_the_cluster_file_follows_rays_schema(cluster):
    jsonschema.validate(cluster, schema())


def test_a_misspelt_key_in_the_cluster_file_would_be_noticed(cluster):
    cluster["head_node_typ"] = cluster.pop("head_node_type")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster, schema())


def test_every_node_type_is_started_with_token_authentication(cluster):
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token ray start" in cluster[key][-1]
    assert cluster["head_node_type"] in cluster["available_node_types"]
