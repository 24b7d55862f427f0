"""Weight files: safetensors whose metadata say what they hold."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from search_spaces.atomic import write_bytes
from search_spaces.errors import InputError

_FORMAT = "1"
_KEY = "hwnas"


def write_tensors(path: Path, kind: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors of any device, atomically; equal content makes equal bytes.

    Args:
        path: of the file.
        kind: what the file holds; `read_tensors` must ask for the same.
        tensors: by name.
        metadata: what a reader needs besides.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Under one key, because safetensors writes several in an order of its own every time.
    header = json.dumps({**metadata, "format": _FORMAT, "kind": kind}, sort_keys=True)
    write_bytes(path, save(on_cpu, {_KEY: header}))


def read_tensors(path: Path, kind: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Returns the metadata and the tensors, on the CPU, of a file that `write_tensors` wrote.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(_KEY, "{}")
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run the stage that writes it first") from None
    except (OSError, SafetensorError) as error:
        raise damaged(path, error) from None
    try:
        metadata: dict[str, str] = json.loads(header)
        right = (metadata.get("format"), metadata.get("kind")) == (_FORMAT, kind)
    except (ValueError, AttributeError):
        right = False
    if not right:
        raise InputError(f"{path} must hold a {kind} of format {_FORMAT}, its metadata say otherwise; make it again")
    return metadata, tensors


def damaged(path: Path, error: Exception) -> InputError:
    """Returns the error of a file that cannot be what its metadata say."""
    return InputError(f"{path} is damaged ({str(error).splitlines()[0]}); delete it and make it again")
