"""Training checkpoints: tensors as safetensors, and beside them a JSON manifest that says whether they are whole."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from search_spaces.atomic import write_bytes, write_json

_FORMAT = 1
_KEPT = 2  # the last one and, in case that is damaged, the one before
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands.

    Attributes:
        step: steps done. Random numbers are drawn from (seed, step), so this is the generator's state too.
        tensors: weights, buffers and the optimiser's state, on the CPU.
    """

    step: int
    tensors: Mapping[str, Tensor]


def save_checkpoint(folder: Path, identity: str, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint and removes all but the last two.

    Args:
        folder: holds the checkpoints of one training.
        identity: of everything that the training depends on.
        checkpoint: what is written.
    """
    data = to_safetensors({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()})
    stem = f"step-{checkpoint.step:08d}"
    write_bytes(folder / f"{stem}.safetensors", data)
    # Last: a manifest stands for whole tensors.
    manifest = {
        "format": _FORMAT,
        "identity": identity,
        "step": checkpoint.step,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    write_json(folder / f"{stem}.json", manifest)
    for old in sorted(folder.glob("step-*.json"))[:-_KEPT]:
        old.unlink()
    kept = {manifest.stem for manifest in folder.glob("step-*.json")}
    for tensors in folder.glob("step-*.safetensors"):
        if tensors.stem not in kept:
            tensors.unlink()


def load_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """Returns the last whole checkpoint of a training, None where there is none.

    A damaged one, or one of another training, is passed over with a warning.
    """
    for manifest in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            return _read(manifest, identity)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            _log.warning("checkpoint %s is passed over: %s", manifest.with_suffix(".safetensors"), error)
    return None


def _read(path: Path, identity: str) -> Checkpoint:
    manifest = json.loads(path.read_text())
    if manifest["format"] != _FORMAT or manifest["identity"] != identity:
        raise ValueError("it belongs to a training with other settings, data or version")
    data = path.with_suffix(".safetensors").read_bytes()
    if len(data) != manifest["bytes"] or hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        raise ValueError(f"it is damaged (its {len(data)} bytes are not those that were written)")
    return Checkpoint(int(manifest["step"]), from_safetensors(data))
