import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nas.data import ImageData
from nas.finish import Bundle, Finishing
from nas.progress import Progress
from nas.training.distill import distill
from search_spaces.network import Network
from tests.nas.finish.parts import CONFIG, SPACE, digits, make_finishing, make_picks
from tests.nas.torch_threads import one_thread  # noqa: F401  (a fixture for every test here)

KILLED_AT_EXPORT = """
import os, signal, sys
from pathlib import Path
from tests.nas.finish.parts import digits, make_finishing, make_picks

def listen(progress):
    if progress.text.startswith("exported 3"):
        os.kill(os.getpid(), signal.SIGKILL)

make_finishing(Path(sys.argv[1]), digits()).finish(make_picks(), listen)
"""


@pytest.fixture(scope="session")
def data() -> ImageData:
    return digits()


@pytest.fixture(scope="session")
def network(data: ImageData) -> Network:
    """A small network that knows the digits fairly well."""
    network = Network(SPACE.layers(SPACE.smallest()), seed=1)
    distill(network, network, data, CONFIG.model_copy(update={"distillation_weight": 0.0}), seed=0)
    return network


@dataclass(frozen=True)
class Finished:
    """A finishing stage that was killed when it exported, and started again."""

    finishing: Finishing
    left_by_kill: dict[str, int]
    progress: list[Progress] = field(default_factory=list)
    bundles: list[Bundle] = field(default_factory=list)

    def copy(self, folder: Path) -> Finishing:
        shutil.copytree(self.finishing.folder.parent, folder, dirs_exist_ok=True)
        return make_finishing(folder, self.finishing.data)


@pytest.fixture(scope="session")
def finished(data: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    finishing = make_finishing(folder, data)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EXPORT, str(folder)],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = Finished(
        finishing,
        left_by_kill={
            pattern: len(list(finishing.folder.glob(f"*/{pattern}")))
            for pattern in ("report.json", "checkpoints", "*.onnx", "*.tflite")
        },
    )
    found.bundles.extend(finishing.finish(make_picks(), found.progress.append))
    return found
