import json
from pathlib import Path

import pytest
import torch

from nas.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def save(folder: Path, step: int, identity: str = "this") -> None:
    save_checkpoint(folder, identity, Checkpoint(step, {"weight": torch.full((3,), float(step))}))


def loaded_step(folder: Path, identity: str = "this") -> int | None:
    checkpoint = load_checkpoint(folder, identity)
    if checkpoint is None:
        return None
    assert torch.equal(checkpoint.tensors["weight"], torch.full((3,), float(checkpoint.step)))
    return checkpoint.step


def test_the_last_checkpoint_is_loaded_and_the_last_two_are_kept(tmp_path: Path) -> None:
    assert loaded_step(tmp_path) is None
    for step in (5, 90, 1000):
        save(tmp_path, step)
    assert loaded_step(tmp_path) == 1000
    assert {path.name for path in tmp_path.iterdir()} == {
        f"step-{step:08d}.{ending}" for step in (90, 1000) for ending in ("json", "safetensors")
    }


@pytest.mark.parametrize("ending", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["cut off", "changed", "missing"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, damage: str
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = tmp_path / f"step-00000002.{ending}"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-3] if damage == "cut off" else data.replace(data[-6:], b"\x01" * 6))
    assert loaded_step(tmp_path) == 1
    # Without its manifest a checkpoint was never finished, and there is nothing to warn of.
    if (ending, damage) != ("json", "missing"):
        assert "step-00000002.safetensors is passed over" in caplog.text


def test_where_all_are_damaged_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"")
    assert loaded_step(tmp_path) is None
    assert caplog.text.count("is passed over: it is damaged") == 2


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1, "another")
    assert loaded_step(tmp_path) is None
    assert "other settings, data or version" in caplog.text


def test_an_unfinished_write_leaves_the_earlier_checkpoint_alone(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-00000002.safetensors").write_bytes(b"half")
    (tmp_path / ".step-00000002.json.x.tmp").write_bytes(b"{")
    assert loaded_step(tmp_path) == 1
    save(tmp_path, 3)
    assert loaded_step(tmp_path) == 3
    assert not (tmp_path / "step-00000002.safetensors").exists()


def test_a_manifest_of_a_later_format_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = tmp_path / "step-00000002.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    assert loaded_step(tmp_path) == 1
