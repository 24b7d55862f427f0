"""Training checkpoints: tensor files that say which training they belong to and how far it was."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from search_spaces.tensor_file import read_tensors, write_tensors

_KIND = "checkpoint"
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
    """Writes a checkpoint and removes all but the last two, and later ones: they are damaged or of another training.

    Args:
        folder: holds the checkpoints of one training.
        identity: of everything that the training depends on.
        checkpoint: what is written.
    """
    metadata = {"identity": identity, "step": str(checkpoint.step)}
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    write_tensors(path, _KIND, checkpoint.tensors, metadata)
    found = _checkpoints(folder)
    last = found.index(path) + 1
    for other in found[: max(0, last - _KEPT)] + found[last:]:
        other.unlink()


def load_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """Returns the last whole checkpoint of a training, None where there is none.

    A damaged one, or one of another training, is passed over with a warning.
    """
    for path in reversed(_checkpoints(folder)):
        try:
            metadata, tensors = read_tensors(path, _KIND)
            if metadata["identity"] != identity:
                raise ValueError(f"{path} belongs to a training with other settings, data or version")
            return Checkpoint(int(metadata["step"]), tensors)
        except (ValueError, KeyError) as error:
            _log.warning("checkpoint passed over: %s", error)
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))
