"""Devices by name; importing this imports no inference runtime."""

from difflib import get_close_matches

from latency_predictors.devices.base import Device
from latency_predictors.devices.litert import LitertDevice
from latency_predictors.devices.onnxruntime import OnnxRuntimeDevice
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
    """Returns the names that `get_device` knows."""
    return sorted(_DEVICES)


def get_device(name: str) -> Device:
    """Returns the device of a name.

    Raises:
        InputError: no such device.

    Example:
        >>> get_device("local/litert").suffix
        '.tflite'
    """
    if name not in _DEVICES:
        close = get_close_matches(name, _DEVICES, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"device must be one of {', '.join(list_devices())}, got {name!r}{hint}")
    return _DEVICES[name]()


register_device(OnnxRuntimeDevice)
register_device(LitertDevice)
