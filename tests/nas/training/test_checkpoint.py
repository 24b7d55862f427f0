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
    assert {path.name for path in tmp_path.iterdir()} == {f"step-{step:08d}.safetensors" for step in (90, 1000)}


def test_later_ones_of_another_training_do_not_take_the_place_of_new_ones(tmp_path: Path) -> None:
    for step in (80, 90):
        save(tmp_path, step, "another")
    for step in (10, 20, 30):
        assert loaded_step(tmp_path) == (step - 10 or None)
        save(tmp_path, step)
    assert {path.name for path in tmp_path.iterdir()} == {f"step-{step:08d}.safetensors" for step in (20, 30)}


@pytest.mark.parametrize("damage", ["cut off", "changed", "empty"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = tmp_path / "step-00000002.safetensors"
    data = path.read_bytes()
    path.write_bytes({"cut off": data[:-3], "changed": data.replace(data[-6:], b"\x01" * 6), "empty": b""}[damage])
    assert loaded_step(tmp_path) == 1
    assert f"passed over: {path} is damaged" in caplog.text


def test_where_all_are_damaged_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"")
    assert loaded_step(tmp_path) is None
    assert caplog.text.count("is damaged") == 2


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1, "another")
    assert loaded_step(tmp_path) is None
    assert "other settings, data or version" in caplog.text


def test_an_unfinished_write_leaves_the_earlier_checkpoint_alone(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".step-00000002.safetensors.x.tmp").write_bytes(b"half")
    assert loaded_step(tmp_path) == 1
    save(tmp_path, 3)
    assert loaded_step(tmp_path) == 3
