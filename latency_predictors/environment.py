"""The machine and the software that a latency was measured on."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Self

NOT_STATED = "not stated"
"""In place of what a table of others does not tell."""


@dataclass(frozen=True)
class Environment:
    """What, beside the network and the device profile, decides a latency; the device's runner reports it.

    Attributes:
        cpu: model name of the processor.
        cores: that the measuring process may use.
        machine: instruction set, such as ``x86_64`` or ``aarch64``.
        system: operating system with its release.
        python: version of the runner's interpreter.
        runtime: name and version of the inference runtime.
    """

    cpu: str
    cores: int
    machine: str
    system: str
    python: str
    runtime: str

    def __post_init__(self) -> None:
        if self.cores < 1:
            raise ValueError(f"an environment has at least one core, got {self.cores=}")
        for field in ("cpu", "machine", "system", "python", "runtime"):
            if not getattr(self, field):
                raise ValueError(f"an environment must say its {field}, got {self}")

    @cached_property
    def hash(self) -> str:
        """Twelve hexadecimal digits; measurements with different ones are not interchangeable."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Returns the canonical JSON form: one line, sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the environment of a JSON form.

        Raises:
            ValueError: not the JSON form of an environment.
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, json.JSONDecodeError):
            raise ValueError(f"not an environment in JSON form: {text[:80]!r}") from None
