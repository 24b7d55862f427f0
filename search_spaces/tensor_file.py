"""Tensor files: safetensors whose metadata say what they hold, with the checksum of the whole file."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from search_spaces.atomic import write_bytes
from search_spaces.checksum import BLANK, ChecksumError, verify_checksum, with_checksum
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
    header = json.dumps({**metadata, "format": _FORMAT, "kind": kind, "checksum": BLANK}, sort_keys=True)
    write_bytes(path, with_checksum(save(on_cpu, {_KEY: header})))


def read_tensors(path: Path, kind: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Returns the metadata and the tensors, on the CPU, of a file that `write_tensors` wrote.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    try:
        data = path.read_bytes()
        verify_checksum(data)
        tensors = load(data)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run the stage that writes it first") from None
    except (OSError, ChecksumError, SafetensorError) as error:
        raise damaged(path, error) from None
    try:
        # The first eight bytes tell the length of the JSON header, which `load` does not give back.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata: dict[str, str] = json.loads(header["__metadata__"][_KEY])
        right = (metadata.get("format"), metadata.get("kind")) == (_FORMAT, kind)
    except (ValueError, LookupError, TypeError, AttributeError):
        right = False
    if not right:
        raise InputError(f"{path} must hold a {kind} of format {_FORMAT}, its metadata say otherwise; make it again")
    return metadata, tensors


def damaged(path: Path, error: Exception) -> InputError:
    """Returns the error of a file that cannot be what its metadata say."""
    return InputError(f"{path} is damaged ({str(error).splitlines()[0]}); delete it and make it again")
