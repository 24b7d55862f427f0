"""Devices by name; importing this imports no inference runtime."""

from difflib import get_close_matches

from latency_predictors.devices.adb import AdbLitertDevice
from latency_predictors.devices.base import Device
from latency_predictors.devices.litert import LitertDevice
from latency_predictors.devices.onnxruntime import OnnxRuntimeDevice
from latency_predictors.devices.openvino import OpenVinoDevice
from latency_predictors.devices.ssh import SshLitertDevice, SshOnnxRuntimeDevice
from latency_predictors.devices.torch_cuda import EagerDevice, GraphDevice
from search_spaces.errors import InputError

__all__ = ["Device", "get_device", "list_devices", "register_device"]

_DEVICES: dict[str, type[Device]] = {}


def register_device(device: type[Device]) -> type[Device]:
    """Adds a device class under its name; works as a class decorator.

    Raises:
        ValueError: the name is taken.
    """
    if device.name in _DEVICES:
        raise ValueError(f"device {device.name!r} is registered already, by {_DEVICES[device.name].__name__}")
    _DEVICES[device.name] = device
    return device


def list_devices() -> list[str]:
    """Returns the names that `get_device` knows; words in capitals stand for the user's own."""
    return sorted(_DEVICES)


def get_device(name: str) -> Device:
    """Returns the device of a name.

    Raises:
        InputError: no such device.

    Example:
        >>> get_device("local/litert").suffix
        '.tflite'
        >>> get_device("ssh/raspberrypi/litert").name
        'ssh/raspberrypi/litert'
    """
    for known, device in _DEVICES.items():
        own = _own_words(known, name)
        if own is not None:
            return device(*own)
    close = get_close_matches(name, _DEVICES, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputError(f"device must be one of {', '.join(list_devices())}, got {name!r}{hint}")


def _own_words(known: str, name: str) -> list[str] | None:
    """Returns what a name has in place of the words in capitals; None where it does not fit."""
    pairs = list(zip(known.split("/"), name.split("/"), strict=False))
    if known.count("/") != name.count("/") or any(left != right and not left.isupper() for left, right in pairs):
        return None
    return [right for left, right in pairs if left.isupper()]


register_device(OnnxRuntimeDevice)
register_device(LitertDevice)
register_device(OpenVinoDevice)
register_device(SshOnnxRuntimeDevice)
register_device(SshLitertDevice)
register_device(AdbLitertDevice)
register_device(EagerDevice)
register_device(GraphDevice)
