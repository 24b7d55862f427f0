"""The worked example of docs/spaces.md: a space and a block of one's own, found by a fresh process and exported."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from search_spaces import stage_blocks
from search_spaces.errors import InputError
from search_spaces.space import load_space

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "experiments" / "spaces"
SMALL = (
    "accuracy.epochs=1", "data.max_images=200", "objectives=[accuracy,macs]", "search.budget=4",
    "ray.executor=serial", "finish.models=1", "finish.epochs=1", "finish.max_int8_accuracy_drop=0.9",
)  # fmt: skip


def test_the_document_shows_a_block_that_works_as_the_example_does(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "spaces.md").read_text()
    shown = text.split("```python\n")[1].split("```")[0]
    example = (EXAMPLE / "reduced_bottleneck.py").read_text()
    layers, refused = [], []
    for code in (shown, example):
        monkeypatch.setattr(stage_blocks, "_BLOCKS", dict(stage_blocks._BLOCKS))
        stage_blocks._BLOCKS.pop("reduced_bottleneck", None)
        exec(compile(code, "own_block.py", "exec"), {"__name__": "own_block"})
        space = load_space(str(EXAMPLE / "resnet_small.yaml"))
        drawn = [space.sample(np.random.default_rng(seed)) for seed in range(5)]
        layers.append([space.layers(one) for one in (space.smallest(), space.largest(), *drawn)])
        with pytest.raises(ValueError, match="r1 to r9") as error:
            stage_blocks.get_block("reduced_bottleneck").check_type("k3_e6")
        refused.append(str(error.value))
    assert layers[0] == layers[1]
    assert refused[0] == refused[1]
    for name in ("reduced_bottleneck.py", "resnet_small.yaml", "pyproject.toml"):
        assert f"experiments/spaces/{name}" in text


def test_without_its_package_the_block_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_blocks, "entry_points", lambda **_: ())  # the example may be installed here
    with pytest.raises(InputError, match=r"stages.0.op.0: op must be one of conv, .*got 'reduced_bottleneck'"):
        load_space(str(EXAMPLE / "resnet_small.yaml"))


@pytest.mark.slow
def test_a_space_with_a_block_of_ones_own_is_trained_searched_and_exported(tmp_path: Path) -> None:
    # What `pip install experiments/spaces` writes beside the module.
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    installed = tmp_path / "site" / "hwnas_example_blocks-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1\n")
    ((group, entries),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {place}" for name, place in entries.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    path = os.pathsep.join([str(installed.parent), str(EXAMPLE), str(ROOT)])
    command = [sys.executable, "-c", "from nas.cli import main; main()", "run", "experiments/spaces/own_block.yaml"]
    ended = subprocess.run(
        [*command, f"runs_dir={tmp_path}", *SMALL, "--format", "json"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["evaluated"] == 4
    names = {"model.onnx", "model_int8.onnx", "model.tflite", "model_int8.tflite"}
    assert names <= {file.name for file in tmp_path.glob("own_block/finish/resnet_small-*/*")}
