"""cluster.yaml against the schema that `ray up` uses, and the experiment files of a deployment."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import ray
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from nas.config import load_config

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "experiments" / "deploy"


@pytest.fixture
def cluster() -> dict:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def schema() -> dict:
    return json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


def test_the_cluster_file_follows_rays_schema(cluster):
    jsonschema.validate(cluster, schema())


def test_ray_up_would_take_the_cluster_file(cluster):
    validate_config(prepare_config(cluster))


def test_a_misspelt_key_in_the_cluster_file_would_be_noticed(cluster):
    cluster["head_node_typ"] = cluster.pop("head_node_type")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster, schema())


def test_every_node_type_is_started_with_token_authentication(cluster):
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token ray start" in cluster[key][-1]
    assert cluster["head_node_type"] in cluster["available_node_types"]
    assert any(path.endswith("/.ray/auth_token") for path in cluster["file_mounts"])


def test_the_dashboard_listens_on_the_head_only(cluster):
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][-1]


def test_only_gpu_workers_take_evaluations_and_one_host_has_the_device(cluster):
    resources = {name: kind["resources"] for name, kind in cluster["available_node_types"].items()}
    assert [name for name, has in resources.items() if has["CPU"]] == ["gpu_worker"]
    assert [name for name, has in resources.items() if any(r.startswith("device:") for r in has)] == ["device_host"]
    most = sum(kind.get("max_workers", 0) for kind in cluster["available_node_types"].values())
    assert cluster["max_workers"] == most


@pytest.fixture
def job() -> dict:
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())


def containers(job: dict) -> dict[str, dict]:
    spec = job["spec"]["rayClusterSpec"]
    templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    templates.append(job["spec"]["submitterPodTemplate"])
    return {each["name"]: each for template in templates for each in template["spec"]["containers"]}


def test_the_ray_job_has_the_required_fields_of_its_kind(job):
    # Of ray.io/v1 in KubeRay's reference of its API; there is no schema of it in Python.
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,45}[a-z0-9])?", job["metadata"]["name"])
    spec = job["spec"]["rayClusterSpec"]
    assert spec["rayVersion"] == ray.__version__, "as in the image"
    assert isinstance(spec["headGroupSpec"]["rayStartParams"], dict)
    for group in spec["workerGroupSpecs"]:
        assert group["groupName"]
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert isinstance(group["rayStartParams"], dict)
    assert len(containers(job)) == 3
    assert all(each["image"] for each in containers(job).values())


def test_every_container_of_the_ray_job_has_the_token_from_the_secret(job):
    for container in containers(job).values():
        variables = {variable["name"]: variable for variable in container["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        assert variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["name"]


def test_the_ray_job_runs_a_shipped_experiment_with_resolvable_overrides(job):
    nas, run, config, *overrides = job["spec"]["entrypoint"].split()
    assert (nas, run) == ("nas", "run")
    shipped = ROOT / Path(config).relative_to("/opt/hwnas")
    experiment = load_config(shipped, tuple(overrides))
    mounts = containers(job)["ray-head"]["volumeMounts"]
    assert str(experiment.runs_dir) in {mount["mountPath"] for mount in mounts}, "runs outlive the cluster"
    assert experiment.ray.address == "auto"
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    cpus = float(containers(job)["ray-worker"]["resources"]["requests"]["cpu"])
    assert experiment.ray.workers * experiment.ray.cpus_per_worker <= group["maxReplicas"] * cpus


def test_what_the_dockerfile_copies_exists_and_what_it_installs_is_an_extra():
    import tomllib

    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY")]
    sources = [source for copy in copies for source in copy]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extras,) = re.findall(r"'\.\[(.*)\]'", "\n".join(lines))
    assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys()
    packages = {pattern.removesuffix("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(sources), "the whole product is in the image"
    (command,) = [json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD ")]
    assert command[0] in project["project"]["scripts"]
