"""A pick on its way through the finishing stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.finish.export import FILE_KINDS, FileKind
from nas.finish.report import LatencyReport, Verification
from nas.finish.verify import Prepare
from nas.objectives import Value
from search_spaces.architecture import Architecture
from search_spaces.network import Network


@dataclass(frozen=True)
class Pick:
    """An architecture to finish.

    Attributes:
        architecture: of the supernet's space.
        expected: what the search knows of it, by objective name; ``latency_ms@NAME`` is the promise for a device.
    """

    architecture: Architecture
    expected: Mapping[str, Value]


@dataclass(frozen=True)
class Refusal:
    """Why a file is not handed over.

    Attributes:
        reason: in words.
        verification: None where the file could not be made or run.
    """

    reason: str
    verification: Verification | None = None


@dataclass
class Work:
    """What is known so far of a pick's files.

    Attributes:
        pick: what is finished.
        folder: of the bundle.
        identity: see `FinishReport`.
        network: distilled, in evaluation mode, on the CPU.
        prepare: preprocesses images for the network.
        test_accuracy: of the network in torch.
        passed: files that may be handed over, by name.
        refused: files that may not, by name.
        latencies: of the files that passed, by path.
    """

    pick: Pick
    folder: Path
    identity: str
    network: Network
    prepare: Prepare
    test_accuracy: float = 0.0
    passed: dict[str, Verification] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    latencies: Mapping[Path, Sequence[LatencyReport]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The architecture's."""
        return self.pick.architecture.key

    @property
    def passed_kinds(self) -> list[FileKind]:
        """The files that passed, in the order of `FILE_KINDS`."""
        return [kind for kind in FILE_KINDS if kind.name in self.passed]
