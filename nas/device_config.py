"""The part of the experiment file that says which device is searched for, and what is known of it."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from latency_predictors.devices import get_device
from search_spaces.typed_yaml import FileModel

_PREDICTOR = re.compile(r"(?P<folder>.+?)/(?P<name>[^/]+(/(v[1-9]\d*|latest))?)")


class DeviceConfig(FileModel):
    """A device to search for.

    Attributes:
        device: ``local/RUNTIME`` (this machine) or ``ssh/HOST/RUNTIME`` (a board, HOST as ``ssh`` takes it) or
            ``adb/SERIAL/litert`` (an Android phone);
            docs/devices.md lists them.
        precision: of the measured file.
        threads: of the runtime, pinned.
        host: NAME where the device is not within reach of this machine, but of that machine of the Ray cluster
            (`ray.address`) which has the resource ``device:NAME``; measuring runs there.
        predictor: of this device, precision and threads, from a folder of predictors that `nas latency` made:
            ``FOLDER/NAME`` or ``FOLDER/NAME/v2``; a list where there is one for each of several metrics. The run takes
            a copy when it is started and measures no networks for what they predict, so that a search does not need
            the device; finished files are measured where it is within reach.
    """

    device: str
    precision: Literal["fp32", "int8"] = "fp32"
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    predictor: tuple[str, ...] = ()

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, name: str) -> str:
        if get_device(name).suffix == ".safetensors":
            raise ValueError(
                f"{name} can be measured and learned with `nas latency`, not searched for: finished networks are no "
                "files that it runs"
            )
        return name

    @field_validator("predictor", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("predictor")
    @classmethod
    def _in_a_folder(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if not _PREDICTOR.fullmatch(text):
                raise ValueError(f"a predictor is FOLDER/NAME or FOLDER/NAME/v2, got {text!r}")
        return texts

    @property
    def predictors(self) -> tuple[tuple[Path, str], ...]:
        """Of each predictor, its folder and the name there, with the version where one is given."""
        found = [match for match in map(_PREDICTOR.fullmatch, self.predictor) if match]
        return tuple((Path(match["folder"]), match["name"]) for match in found)

    @property
    def suffix(self) -> str:
        """Of the files that the device runs."""
        return get_device(self.device).suffix
